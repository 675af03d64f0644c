"""Fed-Heart-Disease as FLamby preprocesses it, as a task: 13 columns, each hospital's own scale.

Facts of FLamby's dataset (du Terrail et al. 2022): chest pain and resting ECG as dummies without
the first category, a cholesterol of 0 left as it is, every column minus the mean over the
deviation of the hospital's own training patients (of all training patients where data is pooled),
and a logistic regression with torch's random start. Normalising so releases each hospital's means;
this task is for comparison only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import nn

from support.flamby_heart import Hospital
from tasks.base import Task
from tasks.schema import PATIENT, SPLIT, Column, Schema, Table, floats

_AS_IT_IS = ("age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak")
_DUMMIES = {"cp": (2, 3, 4), "restecg": (1, 2)}
NAMES = tuple(f"x{k:02d}" for k in range(13))
Array = npt.NDArray[np.float32]


class FlambyHeart(Task):
    """FLamby's Baseline: a linear layer, the sigmoid in the loss."""

    name = "flamby_heart"
    title = "Heart disease as FLamby preprocesses it"
    schema = Schema(
        tuple(Column(name, "a column of FLamby's", flag_missing=False) for name in NAMES),
        "num",
        "1: a coronary vessel narrowed by more than half",
    )

    def model(self) -> nn.Module:
        return nn.Linear(13, 1)

    def features(self, table: Table) -> Array:
        """The columns as they are: FLamby has scaled them, and its rows have no missing value."""
        columns = [np.nan_to_num(floats(table[name], name)) for name in NAMES]
        return np.stack(columns, axis=1).astype(np.float32)


def matrix(table: Table) -> Array:
    """A hospital's raw rows -> (N, 13) in FLamby's order, not yet scaled."""
    columns = [np.asarray(table[name], dtype=np.float32) for name in _AS_IT_IS]
    for name, categories in _DUMMIES.items():
        columns += [(np.asarray(table[name]) == c).astype(np.float32) for c in categories]
    return np.stack(columns, axis=1)


def scaled(raw: Array, train: Array) -> Array:
    """raw (N, 13) by mean and sample deviation of train (T, 13)."""
    result: Array = (raw - train.mean(axis=0)) / (train.std(axis=0, ddof=1) + 1e-9)
    return result


def prepared(found: Mapping[str, Hospital]) -> tuple[dict[str, Table], Table, dict[str, Array]]:
    """Hospitals' raw rows -> (hospital -> table, each on its own scale; all as one table on the
    pooled scale; hospital -> its (N, 13) features on the pooled scale)."""
    raw = {site: matrix(hospital.table) for site, hospital in found.items()}
    train = {site: raw[site][found[site].train] for site in found}
    everyone = np.concatenate(list(train.values()))
    own = {site: _table(site, scaled(raw[site], train[site]), found[site]) for site in found}
    pooled = {site: scaled(raw[site], everyone) for site in found}
    parts = [_table(site, pooled[site], found[site]) for site in found]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return own, whole, pooled


def _table(site: str, features: Array, hospital: Hospital) -> Table:
    patients = np.array([f"{site}-{k:03d}" for k in range(len(features))], dtype=object)
    columns = {name: features[:, k].astype(np.float64) for k, name in enumerate(NAMES)}
    return {
        PATIENT: patients,
        SPLIT: hospital.table[SPLIT],
        "num": hospital.labels.astype(np.float64),
        **columns,
    }


def accuracy(features: Array, hospital: Hospital, weights: Array) -> float:
    """Accuracy of (14,) weights on a hospital's test patients."""
    said = features[hospital.test] @ weights[:-1] + weights[-1] > 0
    return float(np.mean(said == (hospital.labels[hospital.test] == 1)))
