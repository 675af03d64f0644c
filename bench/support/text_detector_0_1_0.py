"""0.1.0's detector of text, for the cost of today's over its: strokes, glyphs, lines.

Text burned in by a scanner or a workstation is drawn: strokes a few pixels wide, of one brightness,
far from their surroundings; glyphs of one height, side by side, on one line of writing. Anatomy is
none of this at once. So: strokes by a top-hat (Serra 1982) wider than any stroke, glyphs as
connected components of strokes, and lines as chains of glyphs that agree in height, brightness and
where they stand. What precision and recall that gives is measured in tests and bench/dicom.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

_REACHES = (7, 15)
"""Pixels: strokes are narrower. The smaller one keeps the strokes of small writing apart."""
_CONTRASTS = (40, 80, 130)
"""Of 255: how far a stroke stands out, at least; the higher ones find bright writing in noise."""
_HEIGHTS = (5, 48)
"""Pixels of a glyph's height."""
_GLYPHS = 5
"""Glyphs that make a line; four where there are two lines."""
_CHANCE = 120
"""Each so many specks raise the required glyphs by one: among many, some form a line by chance."""
_MAX_COMPONENTS = 8_000
"""Components beyond which a picture is noise."""


@dataclass(frozen=True)
class _Glyph:
    left: int
    right: int
    top: int
    bottom: int
    light: float

    @property
    def height(self) -> int:
        return self.bottom - self.top


def shows_text(picture: npt.NDArray[np.uint8]) -> bool:
    """picture: (rows, columns) uint8; bright on dark and dark on bright are both looked for."""
    if min(picture.shape) < 2 * _HEIGHTS[0]:
        return False
    for seen in (picture, 255 - picture):
        for reach in _REACHES:
            stroke = seen - ndimage.grey_opening(seen, size=reach)
            if any(_written(_glyphs(stroke > contrast, seen)) for contrast in _CONTRASTS):
                return True
    return False


def _written(glyphs: list[_Glyph]) -> bool:
    lengths = _chains(glyphs)
    min_length = _GLYPHS + len(glyphs) // _CHANCE
    return lengths[:1] >= [min_length] or lengths[1:2] >= [min_length - 1]


def _glyphs(strokes: npt.NDArray[np.bool_], picture: npt.NDArray[np.uint8]) -> list[_Glyph]:
    """Components that may be letters or digits, from left to right."""
    labels, count = ndimage.label(strokes, structure=np.ones((3, 3)))
    if not 0 < count <= _MAX_COMPONENTS:
        return []
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    glyphs = []
    for number, box in enumerate(ndimage.find_objects(labels)):
        rows, columns = box
        height, width = rows.stop - rows.start, columns.stop - columns.start
        fill = area[number] / (height * width)
        slender = width <= max(2, height / 4)
        if (
            _HEIGHTS[0] <= height <= _HEIGHTS[1]
            and width <= 1.5 * height
            and (slender or 0.15 <= fill <= 0.8)
        ):
            light = float(picture[box][labels[box] == number + 1].max())
            glyphs.append(_Glyph(columns.start, columns.stop, rows.start, rows.stop, light))
    return sorted(glyphs, key=lambda glyph: glyph.left)


def _chains(glyphs: list[_Glyph]) -> list[int]:
    """Lengths of chains of four and more: each next to the right of the last, on its line."""
    length = [1] * len(glyphs)
    before = [-1] * len(glyphs)
    for here, glyph in enumerate(glyphs):
        for other in range(here - 1, -1, -1):
            if glyph.left - glyphs[other].left > 3 * _HEIGHTS[1]:
                break
            if length[other] >= length[here] and _follows(glyphs[other], glyph):
                length[here], before[here] = length[other] + 1, other
    taken: set[int] = set()
    lengths = []
    for end in sorted(range(len(glyphs)), key=lambda n: -length[n]):
        chain, at = [], end
        while at >= 0 and at not in taken:
            chain.append(at)
            at = before[at]
        taken.update(chain)
        if len(chain) >= _GLYPHS - 1:
            lengths.append(len(chain))
    return sorted(lengths, reverse=True)


def _follows(left: _Glyph, right: _Glyph) -> bool:
    """Whether two glyphs may stand side by side in a word or at the ends of two words."""
    tall, short = max(left.height, right.height), min(left.height, right.height)
    slack = max(1.0, 0.12 * tall)
    return (
        -1 <= right.left - left.right <= 0.9 * tall
        and tall <= 1.6 * short
        and (abs(left.bottom - right.bottom) <= slack or abs(left.top - right.top) <= slack)
        and abs(left.light - right.light) <= 30
    )


LARGEST = 1024
"""Pixels of the longer side that the detector sees: text stays legible, noise goes."""


def smaller(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Averages whole blocks where a side is longer than `LARGEST`."""
    block = -(-max(picture.shape) // LARGEST)
    if block == 1:
        return picture
    rows, columns = (side // block * block for side in picture.shape)
    cut = picture[:rows, :columns].reshape(rows // block, block, columns // block, block)
    return np.asarray(cut.mean(axis=(1, 3), dtype=np.float32), np.uint8)
