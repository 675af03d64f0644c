"""Squared error within a public range."""

from __future__ import annotations

from torch import Tensor

from protocol.outcomes.regression import Regression


class SquaredError:
    """(B, 1) outputs, (B,) labels in the label's unit. An output of -1 predicts the low end of the
    range, one of 1 the high end; so learning rates and clip norms suit any unit."""

    width = 1

    def __init__(self, kind: Regression) -> None:
        self._middle, self._half = (kind.low + kind.high) / 2, (kind.high - kind.low) / 2

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, 0] - self._placed(outputs, labels)) ** 2 / 2

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs - self._placed(outputs, labels)[:, None]

    def scores(self, outputs: Tensor) -> Tensor:
        """(B,) predictions in the label's unit, within the range."""
        return self._middle + self._half * outputs[:, 0].clamp(-1, 1)

    def _placed(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return ((labels - self._middle) / self._half).to(outputs.dtype)
