"""What a pass that makes every patient's gradient takes, and that it cannot do a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Losses = Callable[[Tensor], Tensor]
"""Outputs of the model -> (n,) losses, one a patient."""


class Unsupported(Exception):
    """This model, or what it did with this batch, is not for a bookkeeping pass."""


@dataclass(frozen=True)
class Needs:
    """Of one patient: bytes of memory, roughly, and how many positions share a weight, at most."""

    bytes: int
    positions: int


VALUE_BYTES = 32
"""A value that goes into or comes back to a layer: itself, what autograd keeps beside it, and
gradients that are kept (`layer_gradients._KEPT` allows more of them, but only of small layers)."""
