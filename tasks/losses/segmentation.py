"""Cross-entropy and overlap of masks: what the networks for medical pictures learn from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from protocol.outcomes.segmentation import UNKNOWN, Segmentation

_SMOOTH = 1.0
"""Pixels by which an empty structure is told from one of few."""


class CrossEntropyAndDice:
    """(B, classes, rows, columns) logits, (B, rows, columns) masks of 0 to classes - 1 or UNKNOWN.

    Of each patient the mean cross-entropy of the known pixels, plus 1 minus the mean over
    structures of the soft Dice overlap (Milletari, Navab, Ahmadi 2016), which is of that patient's
    pixels alone (of a whole batch, as some implementations have it, no patient's gradient could be
    clipped). What a logit does to it is at most 2 / pixels + 1, however wrong the model is; a
    patient of whom no pixel is known teaches nothing.
    """

    def __init__(self, kind: Segmentation) -> None:
        self.width = kind.classes

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        known = (labels != UNKNOWN).to(outputs.dtype)[:, None]
        own = (labels[:, None] == torch.arange(self.width)[:, None, None]).to(outputs.dtype)
        logs = nn.functional.log_softmax(outputs, 1)
        pixels = known.sum((1, 2, 3)).clamp(min=1)
        entropy = -(own * logs).sum((1, 2, 3)) / pixels
        own, said = own[:, 1:], (logs.exp() * known)[:, 1:]
        common, both = (own * said).sum((2, 3)), (own + said).sum((2, 3))
        return entropy + 1 - ((2 * common + _SMOOTH) / (both + _SMOOTH)).mean(1)

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self.losses(outputs, labels).sum(), outputs)
        return slopes

    def scores(self, outputs: Tensor) -> Tensor:
        """(B, rows, columns) the likeliest class of each pixel."""
        return outputs.argmax(1).to(outputs.dtype)
