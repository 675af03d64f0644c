"""Diabetes: how far does the disease get within a year? 442 real patients.

Efron, Hastie, Johnstone and Tibshirani (2004, "Least angle regression"), as shipped with
scikit-learn, so that it is always there. One row is one patient: ten numbers of a first visit, and
a measure of the disease's progression a year later, 25 to 346. The real data is of one clinic; here
it is dealt to three sites of uneven size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

from protocol.outcomes.regression import Regression
from tasks.base import Task
from tasks.datasets import dealing
from tasks.models import initialisation
from tasks.schema import PATIENT, Column, Schema, Table

_COLUMNS = (
    Column("age", "age", unit="a", low=20, high=80, flag_missing=False),
    Column("sex", "sex, 1 or 2 as published", low=1, high=2, flag_missing=False),
    Column("bmi", "body mass index", unit="kg/m2", low=18, high=42, flag_missing=False),
    Column("bp", "mean blood pressure", unit="mm[Hg]", low=60, high=130, flag_missing=False),
    Column("s1", "total cholesterol", unit="mg/dL", low=100, high=300, flag_missing=False),
    Column("s2", "low-density lipoproteins", unit="mg/dL", low=40, high=220, flag_missing=False),
    Column("s3", "high-density lipoproteins", unit="mg/dL", low=20, high=90, flag_missing=False),
    Column("s4", "total cholesterol over high-density", low=2, high=8, flag_missing=False),
    Column("s5", "logarithm of serum triglycerides", low=3, high=6.2, flag_missing=False),
    Column("s6", "blood sugar", unit="mg/dL", low=60, high=125, flag_missing=False),
)
_SHARES = {"clinic": 0.5, "north": 0.3, "south": 0.2}


class DiabetesProgression(Task):
    """Linear regression on the ten numbers."""

    name = "diabetes_progression"
    title = "Progression of diabetes within a year"
    licence = "public (Efron et al. 2004), as shipped with scikit-learn"
    schema = Schema(_COLUMNS, "progression", "a measure of progression a year later")
    outcome = Regression(low=0, high=360)
    parts = (initialisation, dealing)

    def model(self) -> nn.Module:
        return initialisation.zero(self.schema.width)

    def public_sites(self, root: Path | None = None) -> Mapping[str, Table]:
        """Three sites of 221, 133 and 88 patients; who is where follows from the patient's
        identifier alone. `root` is not used: the data comes with scikit-learn."""
        from sklearn.datasets import load_diabetes

        values, progression = load_diabetes(return_X_y=True, scaled=False)
        patients = np.array([f"diabetes-{k:03d}" for k in range(len(values))], dtype=object)
        table = {PATIENT: patients, self.schema.label: progression.astype(np.float64)}
        table |= {column.name: values[:, k] for k, column in enumerate(_COLUMNS)}
        return dealing.dealt(table, _SHARES)
