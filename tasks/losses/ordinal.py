"""Cross-entropy of ordered levels, each given that the ones below it were passed.

The model of continuation ratios (Agresti 2010, section 4.2): what a hazard is to time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from protocol.outcomes.ordinal import Ordinal
from tasks.losses.hazards import Hazards


class ContinuationRatio(Hazards):
    """(B, K - 1) logits of the probability of staying at each level but the last, of whoever came
    to it; (B,) labels in 0 to K - 1."""

    def __init__(self, kind: Ordinal) -> None:
        super().__init__(kind.levels - 1)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().losses(outputs, self._passed(labels))

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().slopes(outputs, self._passed(labels))

    def scores(self, outputs: Tensor) -> Tensor:
        """(B, K) probabilities."""
        above = super().scores(outputs)
        first = torch.ones_like(above[:, :1])
        return torch.cat([first, above], 1) - torch.cat([above, torch.zeros_like(first)], 1)

    def _passed(self, labels: Tensor) -> Tensor:
        """Levels passed as intervals survived, and staying as the event."""
        return 2 * labels + (labels < self.width).to(labels.dtype)
