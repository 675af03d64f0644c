"""A detector of text in a picture: a small convolutional network that looks at every scale.

Burned-in text may be turned, mirrored, faint, and of any size. The network has learned letters of 6
to 16 pixels at every angle, and is shown the picture at full size, at half of it, and so on: what
is too large for one look is right for a later one. Three letters or more, side by side, are text; a
side marker (L, PA) is none. `bench/support/train_text_detector.py` makes its weights anew, and
`bench/text_detector.py` says what it sees, by kind of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

_WEIGHTS = Path(__file__).with_name("text_detector.npz")
_LOOKS = 5
"""The last at a 16th of the size: letters of 120 pixels have 7 there."""
_SMALLEST = 16
"""Pixels of a side; a look at less would see no three letters."""
_LARGEST = 32_000_000
"""Pixels: a larger picture is halved before the first look, for time."""
_TILE, _MARGIN = 1024, 40
"""Pixels of a side that is looked at in one go, and of what surrounds it, as far as a cell sees."""
CELL = 8
"""Pixels of a side for which the network gives one number."""
_BLOCK = 16
"""Pixels of a side over which light and contrast are levelled out."""
THRESHOLD = 2.3
"""Of the highest logit: above it a picture shows text. Chosen with the recipe's typefaces."""


def shows_text(picture: npt.NDArray[np.uint8]) -> bool:
    """picture: (rows, columns) uint8."""
    return any(score > THRESHOLD for look in looks(picture) for score in _scores(look))


def looks(picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """The picture and its smaller copies, each half of the one before."""
    while picture.size > _LARGEST:
        picture = halved(picture)
    made = [picture]
    while len(made) < _LOOKS and min(made[-1].shape) >= 2 * _SMALLEST:
        made.append(halved(made[-1]))
    return made if min(picture.shape) >= _SMALLEST else []


def halved(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    rows, columns = (side // 2 * 2 for side in picture.shape)
    four = picture[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2)
    return np.asarray((four.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4, np.uint8)


def network(width: int = 64) -> nn.Sequential:
    """(n, 1, rows, columns) levelled -> (n, 1, rows / CELL, columns / CELL) logits of text."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        nn.Conv2d(width, 1, 1),
    )


def levelled(pictures: Tensor) -> Tensor:
    """(n, 1, rows, columns) of 0 to 255 -> light and contrast evened out over neighbouring blocks,
    so that faint writing looks like bright writing. Sides are multiples of the block."""
    mean = functional.avg_pool2d(pictures, _BLOCK)
    square = functional.avg_pool2d(pictures * pictures, _BLOCK)
    both = torch.cat((mean, square), 1)
    around = functional.avg_pool2d(functional.pad(both, (1, 1, 1, 1), mode="replicate"), 3, 1)
    mean, square = around[:, :1], around[:, 1:]
    scale = 1 / ((square - mean * mean).clamp(min=0).sqrt() + 6)
    maps = functional.interpolate(
        torch.cat((mean * scale, scale), 1), scale_factor=_BLOCK, mode="bilinear"
    )
    return torch.addcmul(-maps[:, :1], pictures, maps[:, 1:])


@cache
def _trained() -> nn.Sequential:
    torch.set_num_threads(1)
    made = network()
    with np.load(_WEIGHTS) as stored:
        state = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored}
    made.load_state_dict(state)
    return made.eval().to(memory_format=torch.channels_last)


def _scores(look: npt.NDArray[np.uint8]) -> Iterator[float]:
    """The highest logit of each tile, in which something stands out at all."""
    rows, columns = look.shape
    short = [-side % _BLOCK for side in look.shape]
    around = np.pad(look, [(_MARGIN, _MARGIN + more) for more in short], mode="edge")
    for top in range(0, rows, _TILE):
        for left in range(0, columns, _TILE):
            tile = around[top : top + _TILE + 2 * _MARGIN, left : left + _TILE + 2 * _MARGIN]
            if tile.min() == tile.max():
                continue
            with torch.inference_mode():
                logits = _trained()(levelled(torch.from_numpy(tile)[None, None].float()))
            inside = slice(_MARGIN // CELL, -(_MARGIN // CELL))
            yield float(logits[0, 0, inside, inside].max())
