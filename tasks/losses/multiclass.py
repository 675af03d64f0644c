"""Cross-entropy of a logit for each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from protocol.outcomes.multiclass import Multiclass


class Softmax:
    """(B, classes) logits, (B,) labels in 0 to classes - 1."""

    def __init__(self, kind: Multiclass) -> None:
        self.width = kind.classes

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, labels.long(), reduction="none")

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        own = nn.functional.one_hot(labels.long(), self.width)
        return torch.softmax(outputs, 1) - own.to(outputs.dtype)

    def scores(self, outputs: Tensor) -> Tensor:
        """(B, classes) probabilities."""
        return torch.softmax(outputs, 1)
