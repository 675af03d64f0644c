"""Where the rows and columns of an image lead to in the patient.

Two letters of L left, R right, A anterior, P posterior, H head, F feet. They are given by Patient
Orientation (PS3.3, C.7.6.1.1.1), or follow from Image Orientation (Patient) (C.7.6.2.1.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
_AXES = ("LR", "PA", "HF")
"""Of the patient: x grows to the left, y to the back, z to the head."""


def directions(letters: Sequence[str], cosines: Sequence[str | float]) -> tuple[str, str] | None:
    """letters: of rows and of columns, of which the first leads and the rest are lesser components;
    cosines: three of rows, three of columns, for where there are no letters. None where they say
    nothing, or say the same of both."""
    found = _given(letters) or _following(cosines)
    if found is None or found[0] in (found[1], OPPOSITE[found[1]]):
        return None
    return found


def _given(letters: Sequence[str]) -> tuple[str, str] | None:
    if len(letters) != 2:
        return None
    right, down = (str(part).strip()[:1] for part in letters)
    return (right, down) if right in OPPOSITE and down in OPPOSITE else None


def _following(cosines: Sequence[str | float]) -> tuple[str, str] | None:
    try:
        numbers = [float(part) for part in cosines]
    except (TypeError, ValueError):
        return None
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        return None
    right, down = numbers[:3], numbers[3:]
    return (_leading(right), _leading(down)) if any(right) and any(down) else None


def _leading(cosines: list[float]) -> str:
    axis = max(range(3), key=lambda n: abs(cosines[n]))
    return _AXES[axis][0 if cosines[axis] > 0 else 1]
