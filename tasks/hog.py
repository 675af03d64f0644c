"""Histograms of oriented gradients: what a small cohort can learn from pictures under privacy.

Dalal, Triggs, "Histograms of oriented gradients for human detection" (2005), with signed
orientations: where the picture gets brighter, and in which direction. Nothing is fitted, so the
features of a picture depend on that picture alone and may be computed once and kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ORIENTATIONS = 16
CELLS = 7
"""Cells along each side; a block is 2 x 2 of them, and blocks overlap by half."""
WIDTH = (CELLS - 1) ** 2 * 4 * ORIENTATIONS
_CHUNK = 512
_TINY = 1e-6


def hog(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, H, W) grey pictures, sides divisible by 7 -> (N, 2304) float32 rows of norm 1.

    A picture without any edge becomes a row of zeros. Contrast and brightness cancel: each block
    is divided by its norm, with a floor of half a grey level a pixel against the noise of flat
    regions.
    """
    rows = np.empty((len(pictures), WIDTH), dtype=np.float32)
    for start in range(0, len(pictures), _CHUNK):
        rows[start : start + _CHUNK] = _hog(pictures[start : start + _CHUNK])
    return unit(rows)


def unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, F) -> the same rows with Euclidean norm 1; a row of zeros stays."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def _hog(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    count, height, width = pictures.shape
    light = np.pad(pictures.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    down = light[:, 2:, 1:-1] - light[:, :-2, 1:-1]
    right = light[:, 1:-1, 2:] - light[:, 1:-1, :-2]
    strength = np.hypot(down, right)
    place = np.arctan2(down, right) * np.float32(ORIENTATIONS / (2 * np.pi)) % ORIENTATIONS
    lower = np.floor(place)
    share = place - lower
    cells = _cells(height, width)
    sums = np.zeros((count, CELLS * CELLS * ORIENTATIONS), dtype=np.float32)
    offset = np.arange(count)[:, None, None] * sums.shape[1]
    for which, weight in ((lower, 1 - share), (lower + 1, share)):
        index = offset + cells * ORIENTATIONS + which.astype(np.int64) % ORIENTATIONS
        sums += np.bincount(
            index.ravel(), (strength * weight).ravel(), minlength=sums.size
        ).reshape(sums.shape)
    grid = sums.reshape(count, CELLS, CELLS, ORIENTATIONS)
    blocks = np.concatenate(
        [grid[:, y : CELLS - 1 + y, x : CELLS - 1 + x] for y in (0, 1) for x in (0, 1)], axis=-1
    )
    floor = 0.5 * height * width / CELLS**2
    norms = np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + floor**2)
    blocks /= norms
    return np.asarray(blocks.reshape(count, WIDTH), dtype=np.float32)


def _cells(height: int, width: int) -> npt.NDArray[np.int64]:
    """(H, W) -> which cell a pixel lies in, row by row."""
    down, right = np.arange(height) * CELLS // height, np.arange(width) * CELLS // width
    return np.asarray(down[:, None] * CELLS + right[None, :], dtype=np.int64)
