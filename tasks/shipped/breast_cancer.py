"""Breast cancer: is a fine needle aspirate malignant? 569 real patients of Wisconsin.

Breast Cancer Wisconsin (Diagnostic), doi 10.24432/C5DW2B, CC BY 4.0: Wolberg, Street, Mangasarian
(1993), as shipped with scikit-learn, so that it is always there. One row is one patient: thirty
numbers that describe the cell nuclei of one image (mean, standard error, mean of the three worst).
The real data is of one hospital; here it is dealt to four sites of uneven size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

from tasks.base import Task
from tasks.datasets import dealing
from tasks.models import initialisation
from tasks.schema import PATIENT, Column, Schema, Table

_STATISTICS = ("mean", "error", "worst")
_RANGES = {
    "radius": ((6, 22), (0, 1), (6, 28)),
    "texture": ((10, 30), (0, 2.5), (10, 42)),
    "perimeter": ((40, 150), (0, 8), (40, 190)),
    "area": ((0, 1400), (0, 120), (0, 2200)),
    "smoothness": ((0.06, 0.14), (0, 0.015), (0.08, 0.19)),
    "compactness": ((0, 0.25), (0, 0.08), (0, 0.7)),
    "concavity": ((0, 0.3), (0, 0.1), (0, 0.8)),
    "concave_points": ((0, 0.15), (0, 0.03), (0, 0.28)),
    "symmetry": ((0.1, 0.26), (0.005, 0.04), (0.15, 0.45)),
    "fractal_dimension": ((0.05, 0.08), (0, 0.01), (0.05, 0.13)),
}
"""By statistic. Round numbers around what cell nuclei measure, in the image's own length unit; not
fitted."""

_SHARES = {"north": 0.40, "east": 0.30, "south": 0.18, "west": 0.12}

_COLUMNS = tuple(
    Column(
        f"{statistic}_{feature}",
        f"{feature.replace('_', ' ')} of the cell nuclei, {statistic}",
        low=ranges[place][0],
        high=ranges[place][1],
        flag_missing=False,
    )
    for place, statistic in enumerate(_STATISTICS)
    for feature, ranges in _RANGES.items()
)


class BreastCancer(Task):
    """Logistic regression on the thirty numbers."""

    name = "breast_cancer"
    title = "Malignancy of a breast mass, from a fine needle aspirate"
    licence = "CC BY 4.0 (Breast Cancer Wisconsin (Diagnostic), doi 10.24432/C5DW2B)"
    schema = Schema(_COLUMNS, "malignant", "1: malignant, 0: benign")
    parts = (initialisation, dealing)

    def model(self) -> nn.Module:
        return initialisation.zero(self.schema.width)

    def public_sites(self, root: Path | None = None) -> Mapping[str, Table]:
        """Four sites of 228, 170, 103 and 68 patients; who is where follows from the patient's
        identifier alone. `root` is not used: the data comes with scikit-learn."""
        from sklearn.datasets import load_breast_cancer

        values, benign = load_breast_cancer(return_X_y=True)
        patients = np.array([f"wdbc-{k:03d}" for k in range(len(values))], dtype=object)
        table = {PATIENT: patients, self.schema.label: 1.0 - benign}
        table |= {column.name: values[:, k] for k, column in enumerate(_COLUMNS)}
        return dealing.dealt(table, _SHARES)
