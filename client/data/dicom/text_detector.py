"""Does a picture show text? A detector of modest cost: strokes, glyphs, lines.

Text burned in by a scanner or a workstation is drawn: strokes a few pixels wide, of one brightness,
far from their surroundings; glyphs of one height, side by side on a line. Anatomy is none of this
at once. So: strokes by a top-hat (Serra 1982) against a neighbourhood wider than any stroke, glyphs
as connected components of strokes, and lines as chains of glyphs of like height.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

_REACH = 11
"""Pixels: a stroke is narrower."""
_CONTRAST = 40
"""Of 255: how far a stroke stands out, at least."""
_HEIGHTS = (5, 48)
"""Pixels of a glyph's height."""
_GLYPHS = 4
"""Glyphs that make a line."""


def shows_text(picture: npt.NDArray[np.uint8]) -> bool:
    """picture: (rows, columns) uint8."""
    return longest_line(picture) >= _GLYPHS


def longest_line(picture: npt.NDArray[np.uint8]) -> int:
    """Number of glyphs in the longest line of text found, bright on dark or dark on bright."""
    if min(picture.shape) < 2 * _HEIGHTS[0]:
        return 0
    bright = ndimage.white_tophat(picture, size=_REACH)
    dark = ndimage.black_tophat(picture, size=_REACH)
    return max(_longest(stroke, picture) for stroke in (bright, dark))


def _longest(stroke: npt.NDArray[np.uint8], picture: npt.NDArray[np.uint8]) -> int:
    labels, count = ndimage.label(stroke > _CONTRAST, structure=np.ones((3, 3)))
    if count == 0 or count > 20_000:
        return 0
    boxes = ndimage.find_objects(labels)
    glyphs = []
    for number, box in enumerate(boxes, 1):
        rows, columns = box
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not (_HEIGHTS[0] <= height <= _HEIGHTS[1] and 1 <= width <= 1.6 * height):
            continue
        inside = labels[box] == number
        fill = inside.mean()
        if width > 2 and not 0.12 <= fill <= 0.9:
            continue
        glyphs.append((columns.start, columns.stop, rows.start, rows.stop))
    return _chain(sorted(glyphs))


def _chain(glyphs: list[tuple[int, int, int, int]]) -> int:
    """Length of the longest chain: next to the right, on the same line, of like height."""
    best = 0
    length = [1] * len(glyphs)
    for right, (left, _, top, bottom) in enumerate(glyphs):
        height = bottom - top
        for other in range(right - 1, max(-1, right - 200), -1):
            _, end, above, below = glyphs[other]
            tall = below - above
            if (
                -1 <= left - end <= 1.2 * max(height, tall)
                and max(height, tall) <= 1.7 * min(height, tall)
                and abs((top + bottom) - (above + below)) <= 0.8 * max(height, tall)
            ):
                length[right] = max(length[right], length[other] + 1)
        best = max(best, length[right])
    return best
