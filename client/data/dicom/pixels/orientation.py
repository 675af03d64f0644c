"""Turns a picture so that all lie alike, by what it says of the patient.

The rule, as a reader of films would hang them: feet down; where the plane has no feet, the
patient's back down. Then the patient's left to the right; where the plane has no left, the
patient's back to the right. So left and right breasts face one way, and so do lateral views of
both sides. What does not say its directions (client/data/dicom/objects/directions.py), or is of a
quadruped, stays as it was stored. Left and right limbs are not mirrored into each other: Laterality
is a column of the table `images`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from client.data.dicom.objects.directions import directions

RULE = "down F, else P; right L, else P"
_ATTRIBUTES = ("PatientOrientation", "ImageOrientationPatient")


def upright(
    picture: npt.NDArray[Any], aspect: float, header: Dataset
) -> tuple[npt.NDArray[Any], float]:
    """(rows, columns, ...), and height of a pixel over its width -> both by the rule."""
    found = None
    if str(header.get("AnatomicalOrientationType") or "BIPED").strip() == "BIPED":
        found = directions(*(_values(header, k) for k in _ATTRIBUTES))
    if found is None:
        return picture, aspect
    right, down = found
    if right in "HF" or (right in "AP" and down in "LR"):
        picture, aspect, right, down = picture.swapaxes(0, 1), 1 / aspect, down, right
    if down in "HA":
        picture = picture[::-1]
    if right in "RA":
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture), aspect


def _values(header: Dataset, keyword: str) -> list[str]:
    value = header.get(keyword)
    return [str(part) for part in value] if isinstance(value, MultiValue) else []
