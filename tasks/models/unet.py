"""A U-Net that trains under differential privacy: the class of each pixel of a picture.

Ronneberger, Fischer and Brox 2015, with GroupNorm (Wu and He 2018) after each convolution, borders
filled up so that no side shrinks, and, on the way up, pixels repeated and a convolution in place of
a transposed one (Odena, Dumoulin and Olah 2016): so every weight belongs to a layer whose gradient
is one patient's own, and no patient changes a bit of another's.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

_GROUPS = 4
_MIDDLE, _SPREAD = 127.5, 127.5
"""Grey levels become [-1, 1] by public constants."""


class UNet(nn.Module):
    """(B, rows, columns) grey levels in [0, 255] -> (B, classes, rows, columns) logits.

    channels: pictures that stand beside one another as (B, rows, columns, channels), such as
    colours or neighbouring slices. widths: channels of each level, multiples of 4, each at half the
    side of the one before.
    """

    def __init__(
        self, classes: int, channels: int = 1, widths: tuple[int, ...] = (8, 16, 32)
    ) -> None:
        super().__init__()
        self._channels = channels
        before = (channels, *widths[:-1])
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip(before, widths, strict=True))
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(_twice(own + below, own) for own, below in reversed(pairs))
        self.last = nn.Conv2d(widths[0], classes, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        scaled = (pictures - _MIDDLE) / _SPREAD
        values = scaled.unsqueeze(1) if self._channels == 1 else scaled.permute(0, 3, 1, 2)
        passed: list[Tensor] = []
        for number, level in enumerate(self.down):
            values = level(nn.functional.max_pool2d(values, 2) if number else values)
            passed.append(values)
        for level, beside in zip(self.up, reversed(passed[:-1]), strict=True):
            larger = nn.functional.interpolate(values, size=beside.shape[2:], mode="nearest")
            values = level(torch.cat([beside, larger], 1))
        logits: Tensor = self.last(values)
        return logits


def _twice(before: int, width: int) -> nn.Module:
    layers: list[nn.Module] = []
    for own in (before, width):
        layers += [
            nn.Conv2d(own, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
