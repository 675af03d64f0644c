"""Turns a picture so that all lie alike, by what it says of the patient.

The rule, as a reader of films would hang them: feet down; where the plane has no feet, the
patient's back down. Then the patient's left to the right; where the plane has no left, the
patient's back to the right. So left and right breasts face one way, and so do lateral views of
both sides. Directions are those of Patient Orientation (PS3.3, C.7.6.1.1.1), else of Image
Orientation (Patient) (C.7.6.2.1.1). A picture that gives neither, or is of a quadruped, stays as
it was stored. Left and right limbs are not mirrored into each other: Laterality is a column of
the table `images`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

RULE = "down F, else P; right L, else P"
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
_AXES = ("LR", "PA", "HF")
"""Of the patient: x grows to the left, y to the back, z to the head."""


def upright(
    picture: npt.NDArray[np.uint8], aspect: float, header: Dataset
) -> tuple[npt.NDArray[np.uint8], float]:
    """(rows, columns), and height of a pixel over its width -> both by the rule."""
    found = directions(header)
    if found is None:
        return picture, aspect
    right, down = found
    if right in "HF" or (right in "AP" and down in "LR"):
        picture, aspect, right, down = picture.T, 1 / aspect, down, right
    if down in "HA":
        picture = picture[::-1]
    if right in "RA":
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture), aspect


def directions(header: Dataset) -> tuple[str, str] | None:
    """Where rows and columns lead to: two of L, R, A, P, H, F of different axes; or None."""
    if str(header.get("AnatomicalOrientationType") or "BIPED").strip() != "BIPED":
        return None
    found = _said(header.get("PatientOrientation")) or _cosines(
        header.get("ImageOrientationPatient")
    )
    if found is None or found[0] in (found[1], _OPPOSITE[found[1]]):
        return None
    return found


def _said(value: Any) -> tuple[str, str] | None:
    """The first letter of each value leads; those that follow are lesser components."""
    if isinstance(value, str) or value is None or len(value) != 2:
        return None
    right, down = (str(part).strip()[:1] for part in value)
    return (right, down) if right in _OPPOSITE and down in _OPPOSITE else None


def _cosines(value: Any) -> tuple[str, str] | None:
    try:
        numbers = np.array([float(part) for part in value])
    except (TypeError, ValueError):
        return None
    if numbers.shape != (6,) or not np.isfinite(numbers).all():
        return None
    right, down = numbers[:3], numbers[3:]
    if not right.any() or not down.any():
        return None
    first, second = (_leading(cosines) for cosines in (right, down))
    return first, second


def _leading(cosines: npt.NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(cosines)))
    return _AXES[axis][0 if cosines[axis] > 0 else 1]
