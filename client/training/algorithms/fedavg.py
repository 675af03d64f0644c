"""FedAvg (McMahan et al. 2017, Algorithm 1), and what every other algorithm may do differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from protocol.vectors import Vector

Correction = Callable[[Tensor], Tensor]
"""(P,) float32 weights before a step -> (P,) float32, added to the step's gradient after clipping
and noise (inside the loss it would be clipped with a patient's gradient, or escape clipping)."""


class Steps(Protocol):
    """The study's steps at this site, private where its mode is."""

    def __call__(self, start: Vector, correction: Correction | None = None) -> Vector:
        """(P,) float32 weights to start from -> (P,) new - old weights."""
        ...


class OwnSteps(Protocol):
    """Plain steps whose result stays at the site."""

    def __call__(self, start: Vector, steps: int, lr: float, correction: Correction) -> Vector:
        """As `Steps`, never private."""
        ...


@dataclass(frozen=True)
class Trained:
    """What a round made at this site. difference: (P,) float32, for the sum. control: (P,), the
    control section, where the study has one. own: (P,), what the site keeps."""

    difference: Vector
    control: Vector | None = None
    own: Vector | None = None


class FedAvg:
    """The steps as they are; nothing is kept."""

    def train(self, body: Vector, own: Vector | None, steps: Steps) -> Trained:
        """body: what the coordinator sent. own: what this site kept. Modes none and local."""
        return Trained(steps(body))

    def beside(self, weights: Vector, own: Vector | None, steps: OwnSteps) -> Vector | None:
        """(P,) float32, what the site keeps, trained beside the study's steps; None: nothing."""
        return None

    def scored(self, weights: Vector, own: Vector | None) -> Vector:
        """(P,) float32, the model whose scores the study's histograms hold."""
        return weights

    def personal(self, weights: Vector, own: Vector | None) -> Vector | None:
        """(P,) float32, this site's own model beside the released `weights`; None: it has none."""
        return None
