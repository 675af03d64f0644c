"""Cross-entropy of one logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Logistic:
    """(B, 1) logits, (B,) labels in {0, 1}."""

    width = 1

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(
            outputs[:, 0], labels.to(outputs.dtype), reduction="none"
        )

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.sigmoid(outputs) - labels.to(outputs.dtype)[:, None]

    def scores(self, outputs: Tensor) -> Tensor:
        """(B,) probabilities of label 1."""
        return torch.sigmoid(outputs[:, 0])
