"""Random augmentation of a radiograph: shift, zoom, gamma and contrast."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

MOVED, NEARER, GAMMA, CONTRAST = 0.06, 0.12, 0.35, 0.25
"""Maximal change of place (in sides), size, gamma's logarithm and contrast; chosen on
PneumoniaMNIST's validation images."""
_WHITE = 255.0


def varied(picture: Tensor, drawn: np.random.Generator) -> Tensor:
    """(rows, columns) grey levels in [0, 255] -> as many, changed by what is drawn.

    Moved and enlarged (edges are repeated), then gamma, then contrast about the middle grey.
    """
    nearer, across, down, gamma, contrast = drawn.uniform(-1, 1, 5) * (
        NEARER,
        2 * MOVED,
        2 * MOVED,
        GAMMA,
        CONTRAST,
    )
    place = torch.tensor([[[1 + nearer, 0, across], [0, 1 + nearer, down]]], dtype=picture.dtype)
    grid = nn.functional.affine_grid(place, [1, 1, *picture.shape], False)
    levels = nn.functional.grid_sample(
        picture[None, None] / _WHITE, grid, padding_mode="border", align_corners=False
    )[0, 0]
    levels = levels.clamp(1e-4, 1.0) ** np.exp(gamma)
    seen: Tensor = (0.5 + (levels - 0.5) * (1 + contrast)).clamp(0.0, 1.0) * _WHITE
    return seen
