"""Digits: which of ten was written? 1,797 pictures of 8 by 8 dots. This is no medicine: a small,
well-known example of a label with several classes.

Alpaydin and Kaynak (1998), doi 10.24432/C50P49, CC BY 4.0, as shipped with scikit-learn, so that it
is always there. Each picture counts as one patient; they are dealt to three sites of uneven size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

from protocol.outcomes.multiclass import Multiclass
from tasks.base import Task
from tasks.datasets import dealing
from tasks.schema import PATIENT, Column, Schema, Table

_USUAL = 5
"""About the ink of a usual dot, of 0 to 16: it is the middle of the range, and so no feature at
all. Features far from 0 in everyone cost privacy for nothing."""
_COLUMNS = tuple(
    Column(
        f"dots_{row}_{column}",
        f"ink in row {row}, column {column}",
        low=_USUAL - 16,
        high=_USUAL + 16,
        flag_missing=False,
    )
    for row in range(8)
    for column in range(8)
)
_SHARES = {"first": 0.5, "second": 0.3, "third": 0.2}


class Digits(Task):
    """Multinomial logistic regression on the 64 dots."""

    name = "digits"
    title = "Handwritten digits (no medicine: an example of several classes)"
    licence = "CC BY 4.0 (Optical Recognition of Handwritten Digits, doi 10.24432/C50P49)"
    schema = Schema(_COLUMNS, "digit", "the digit, 0 to 9")
    outcome = Multiclass(classes=10)
    parts = (dealing,)

    def model(self) -> nn.Module:
        layer = nn.Linear(self.schema.width, self.outcome.classes)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def public_sites(self, root: Path | None = None) -> Mapping[str, Table]:
        """Three sites of 898, 540 and 359 pictures; which is where follows from its identifier
        alone. `root` is not used: the data comes with scikit-learn."""
        from sklearn.datasets import load_digits

        values, digit = load_digits(return_X_y=True)
        patients = np.array([f"picture-{k:04d}" for k in range(len(values))], dtype=object)
        table = {PATIENT: patients, self.schema.label: digit.astype(np.float64)}
        table |= {column.name: values[:, k] for k, column in enumerate(_COLUMNS)}
        return dealing.dealt(table, _SHARES)
