"""Radiographs as they might also have been taken: a little off the middle, nearer, darker.

torchvision's transforms (v2), each picture by its own draw.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_WHITE = 255.0


def varied(pictures: Tensor, drawn: np.random.Generator) -> Tensor:
    """(B, rows, columns) grey levels in [0, 255] -> as many, each changed by itself.

    Turned by up to 5 degrees, moved by up to 6% of its sides, a tenth larger or smaller, brightness
    within a fifth and contrast within a quarter. Everything follows from `drawn`.
    """
    from torchvision.transforms import v2

    smooth = v2.InterpolationMode.BILINEAR
    change = v2.Compose(
        [
            v2.RandomAffine(5, (0.06, 0.06), (0.9, 1.1), interpolation=smooth),
            v2.ColorJitter(brightness=0.2, contrast=0.25),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(drawn.integers(2**63)))
        changed = [change(picture[None] / _WHITE)[0] for picture in pictures]
    return torch.stack(changed) * _WHITE if changed else pictures
