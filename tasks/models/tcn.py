"""A temporal convolutional net for hourly series, small enough for differential privacy.

Bai, Kolter, Koltun 2018: causal convolutions, dilated by 1, 2 and 4 hours; with GroupNorm, which
treats every patient alone as privacy demands. The published score is added to its output, which
starts at zero, so that before the first step the model equals the score.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.models import initialisation

_CHANNELS, _WIDTH, _GROUPS = 16, 3, 4
_DILATIONS = (1, 2, 4)


class TemporalNet(nn.Module):
    """(B, channels * hours + static) -> (B, 1) log odds.

    A row is `channels` series of `hours` values, then `static` features, the public score last.
    """

    def __init__(self, channels: int, hours: int, static: int) -> None:
        super().__init__()
        self._shape = (channels, hours)
        widths = (channels, *(_CHANNELS for _ in _DILATIONS))
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.ConstantPad1d(((_WIDTH - 1) * dilation, 0), 0.0),
                nn.Conv1d(width, _CHANNELS, _WIDTH, dilation=dilation),
                nn.GroupNorm(_GROUPS, _CHANNELS),
                nn.ReLU(),
            )
            for width, dilation in zip(widths, _DILATIONS, strict=False)
        )
        self.added = nn.Linear(2 * _CHANNELS, 1)
        nn.init.zeros_(self.added.weight)
        nn.init.zeros_(self.added.bias)
        self.known = initialisation.from_score(static)

    def forward(self, rows: Tensor) -> Tensor:
        size = self._shape[0] * self._shape[1]
        hidden = self.layers[0](rows[:, :size].reshape(-1, *self._shape))
        for layer in self.layers[1:]:
            hidden = hidden + layer(hidden)
        seen = torch.cat([hidden.mean(dim=2), hidden[:, :, -1]], dim=1)
        answer: Tensor = self.added(seen) + self.known(rows[:, size:])
        return answer
