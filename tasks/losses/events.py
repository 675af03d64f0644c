"""The Poisson likelihood of a count."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from protocol.outcomes.events import EventCount


class Poisson:
    """(B, 1) logarithms of the expected count, (B,) labels from 0 to `most`."""

    width = 1

    def __init__(self, kind: EventCount) -> None:
        self._highest = math.log(kind.most)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.exp(outputs[:, 0]) - labels.to(outputs.dtype) * outputs[:, 0]

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.exp(outputs) - labels.to(outputs.dtype)[:, None]

    def scores(self, outputs: Tensor) -> Tensor:
        """(B,) expected counts, `most` at most."""
        return torch.exp(outputs[:, 0].clamp(max=self._highest))
