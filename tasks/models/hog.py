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
_CLIP = 0.2
"""Most that one entry of a block of norm 1 may be, before it has norm 1 again (L2-Hys)."""
_FLAT = 0.5
"""Grey levels a pixel below which an edge counts as noise."""
_CHUNK = 1 << 20
"""Pixels at once."""


def hog(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, H, W) grey pictures, no side below 7 -> (N, 2304) float32 rows of norm 1.

    Votes are shared between neighbouring cells and orientations by distance. Brightness cancels,
    and so does contrast, block by block. A picture without any edge becomes a row of zeros.
    """
    count, height, width = pictures.shape
    rows = np.empty((count, WIDTH), dtype=np.float32)
    size = max(1, _CHUNK // (height * width))
    down, right = _nearness(height), _nearness(width)
    for start in range(0, count, size):
        rows[start : start + size] = _blocks(_votes(pictures[start : start + size], down, right))
    return unit(rows)


def unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, F) -> the same rows with Euclidean norm 1; a row of zeros stays."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0))


def _votes(
    pictures: npt.NDArray[np.uint8], down: npt.NDArray[np.float32], right: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """(N, H, W) -> (N, cells, cells, orientations): strength of edges, in grey levels a pixel."""
    light = np.pad(pictures.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    vertical = light[:, 2:, 1:-1] - light[:, :-2, 1:-1]
    horizontal = light[:, 1:-1, 2:] - light[:, 1:-1, :-2]
    strength = np.hypot(vertical, horizontal)
    place = np.arctan2(vertical, horizontal) * np.float32(ORIENTATIONS / (2 * np.pi))
    votes = np.empty((len(pictures), CELLS, CELLS, ORIENTATIONS), dtype=np.float32)
    for orientation in range(ORIENTATIONS):
        away = np.abs((place - orientation + ORIENTATIONS / 2) % ORIENTATIONS - ORIENTATIONS / 2)
        share = strength * np.maximum(0, 1 - away)
        votes[..., orientation] = down.T @ (share @ right)
    return votes * np.float32(CELLS**2 / (pictures.shape[1] * pictures.shape[2]))


def _nearness(side: int) -> npt.NDArray[np.float32]:
    """(side, cells): how much each pixel votes in each cell of its row or column."""
    place = (np.arange(side) + 0.5) * CELLS / side - 0.5
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(CELLS))), np.float32)


def _blocks(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    last = CELLS - 1
    blocks = np.concatenate(
        [votes[:, y : last + y, x : last + x] for y in (0, 1) for x in (0, 1)], axis=-1
    )
    blocks /= np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + _FLAT**2)
    blocks = np.minimum(blocks, _CLIP)
    blocks /= np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + 1e-6)
    return np.asarray(blocks.reshape(len(votes), WIDTH), dtype=np.float32)
