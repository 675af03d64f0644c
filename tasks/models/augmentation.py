"""Random augmentation of radiographs: shift, zoom, gamma and contrast, per picture of a batch.

torchvision's transforms change a whole batch alike, and one picture at a time takes too long.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

MOVED, NEARER, GAMMA, CONTRAST = 0.06, 0.12, 0.35, 0.25
"""Maximal change of place (in sides), size, gamma's logarithm and contrast; chosen on
PneumoniaMNIST's validation images."""
_WHITE = 255.0


def varied(pictures: Tensor, drawn: np.random.Generator) -> Tensor:
    """(B, rows, columns) grey levels in [0, 255] -> as many, each changed by its own draws.

    Moved and enlarged (edges are repeated), then gamma, then contrast about the middle grey.
    """

    def spread(most: float, *shape: int) -> Tensor:
        values = drawn.uniform(-most, most, (len(pictures), *shape))
        return torch.from_numpy(values).to(pictures.dtype)

    place = pictures.new_zeros(len(pictures), 2, 3)
    place[:, 0, 0] = place[:, 1, 1] = 1 + spread(NEARER)
    place[:, :, 2] = 2 * spread(MOVED, 2)
    if not len(pictures):
        return pictures
    grid = nn.functional.affine_grid(place, [len(pictures), 1, *pictures.shape[1:]], False)
    levels = nn.functional.grid_sample(
        pictures[:, None] / _WHITE, grid, padding_mode="border", align_corners=False
    )[:, 0]
    levels = levels.clamp(1e-4, 1.0) ** spread(GAMMA, 1, 1).exp()
    return (0.5 + (levels - 0.5) * (1 + spread(CONTRAST, 1, 1))).clamp(0.0, 1.0) * _WHITE
