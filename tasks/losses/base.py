"""What every usual loss is made of."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Loss(Protocol):
    """The loss and the scores of one kind of outcome, from `width` outputs a patient or, of masks,
    `width` a pixel: read (B, width, rows, columns) for (B, width), and (B, rows, columns) labels
    and scores."""

    @property
    def width(self) -> int:
        """Outputs of the model, one row of them a patient or a pixel."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(B, width) outputs, (B,) labels -> (B,) losses, never reduced."""

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(B, width): what each output does to the sum of losses."""

    def scores(self, outputs: Tensor) -> Tensor:
        """(B, width) outputs -> (B,) or (B, classes) scores."""
