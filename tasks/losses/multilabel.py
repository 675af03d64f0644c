"""Cross-entropy of a logit for each label, of those that are known of a patient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from protocol.outcomes.multilabel import MultiLabel


class ManyLogistic:
    """(B, labels) logits, (B,) labels whose digits to base 3 are 0 missing, 1 no, 2 yes."""

    def __init__(self, kind: MultiLabel) -> None:
        self.width = kind.labels

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        known, own = self._digits(outputs, labels)
        each = nn.functional.binary_cross_entropy_with_logits(outputs, own, reduction="none")
        return (each * known).sum(1)

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        known, own = self._digits(outputs, labels)
        return (torch.sigmoid(outputs) - own) * known

    def scores(self, outputs: Tensor) -> Tensor:
        """(B, labels) probabilities."""
        return torch.sigmoid(outputs)

    def _digits(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, labels) of 0 and 1: what is known, and what is so."""
        powers = 3.0 ** torch.arange(self.width, device=labels.device)
        digits = torch.div(labels[:, None], powers, rounding_mode="floor").remainder(3)
        return (digits > 0).to(outputs.dtype), (digits == 2).to(outputs.dtype)
