"""Cross-entropy of the hazard of each interval: time to an event, and ordered levels.

A patient's loss is a sum over the intervals that he went through, so that one clipped gradient a
patient serves all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Hazards:
    """(B, K) logits of the probability of the event in each interval, of whoever came to it; (B,)
    labels 2 s + e: s intervals survived, and e = 1 where the event came in the next one. The
    likelihood of discrete times that may be censored (Singer and Willett 1993)."""

    def __init__(self, intervals: int) -> None:
        self.width = intervals

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        survived, event = self._went_through(outputs, labels)
        loss = nn.functional.softplus(outputs) * survived
        return (loss + nn.functional.softplus(-outputs) * event).sum(1)

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        survived, event = self._went_through(outputs, labels)
        return torch.sigmoid(outputs) * survived - torch.sigmoid(-outputs) * event

    def scores(self, outputs: Tensor) -> Tensor:
        """(B, K) probabilities of having survived each interval."""
        return torch.cumprod(torch.sigmoid(-outputs), 1)

    def _went_through(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) of 0 and 1: intervals survived, and the one of the event."""
        place = torch.arange(self.width, device=labels.device)
        survived = torch.div(labels, 2, rounding_mode="floor")[:, None]
        event = (labels.remainder(2) == 1)[:, None] & (place == survived)
        return (place < survived).to(outputs.dtype), event.to(outputs.dtype)
