"""Deterioration on a ward: death, intensive care or cardiac arrest within 24 hours.

A row is a landmark: every 12 hours of a stay in hospital, from the 12th, what was known of the
patient by then. A patient has as many rows as landmarks, and every step of training sees one of
them, so that the unit of privacy stays the patient. Start is NEWS2.

No public data has wards' vital signs and their hours. `public_sites` gives two landmarks, the 12th
and the 24th hour, of the intensive-care stays of `icu_timeseries` (eICU demo, ODbL 1.0): its label
is death in intensive care at any time, and what it says is how a model compares with NEWS2 there.
They tell nothing of medicines and
procedures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from protocol.study.study import Scalar
from tasks.datasets import eicu
from tasks.encoders import Bands, Hinge
from tasks.models.initialisation import LinearFromScore
from tasks.published_scores import news2
from tasks.schema import PATIENT, Column, Schema, Table
from tasks.shipped import icu_timeseries

LANDMARKS = (12, 24)
"""Hours after admission, in the public data; a hospital's go on every 12 hours."""


def _latest(name: str, meaning: str, unit: str, low: float, high: float, hinge: Hinge) -> Column:
    return Column(name, meaning, unit=unit, low=low, high=high, flag_missing=False, encoder=hinge)


VITALS = (
    _latest("heart_rate", "heart rate", "/min", 20, 220, Hinge(50, 100)),
    _latest("systolic_bp", "systolic blood pressure", "mm[Hg]", 40, 260, Hinge(100, 180)),
    _latest("respiratory_rate", "respiratory rate", "/min", 4, 60, Hinge(10, 20)),
    _latest("temperature", "body temperature", "Cel", 30, 42, Hinge(36, 38)),
    _latest("spo2", "peripheral oxygen saturation", "%", 60, 100, Hinge(low=95)),
    _latest("fio2", "inspired oxygen", "%", 21, 100, Hinge(high=21.5)),
    _latest("gcs", "Glasgow coma scale", "{score}", 3, 15, Hinge(low=15)),
)
WORST = (
    _latest("heart_rate_highest", "highest heart rate", "/min", 20, 220, Hinge(high=100)),
    _latest("systolic_bp_lowest", "lowest systolic pressure", "mm[Hg]", 40, 260, Hinge(low=100)),
    _latest("respiratory_rate_highest", "highest respiratory rate", "/min", 4, 60, Hinge(high=20)),
    _latest("spo2_lowest", "lowest oxygen saturation", "%", 60, 100, Hinge(low=94)),
)
"""Of the 24 hours before the landmark, like the vital signs."""
LABORATORY = (
    _latest("creatinine", "serum creatinine", "mg/dL", 0.2, 8, Hinge(high=1.4)),
    _latest("bun", "blood urea nitrogen", "mg/dL", 2, 120, Hinge(high=20)),
    _latest("sodium", "serum sodium", "mmol/L", 110, 170, Hinge(135, 148)),
    _latest("potassium", "serum potassium", "mmol/L", 2, 8, Hinge(3.5, 5.2)),
    _latest("lactate", "serum lactate", "mmol/L", 0.3, 20, Hinge(high=2)),
    _latest("wbc", "white blood cells", "10*3/uL", 0.5, 50, Hinge(4, 12)),
    _latest("hemoglobin", "haemoglobin", "g/dL", 4, 18, Hinge(low=10)),
    _latest("platelets", "platelets", "10*3/uL", 5, 700, Hinge(low=150)),
    _latest("bilirubin", "total bilirubin", "mg/dL", 0.1, 20, Hinge(high=2)),
    _latest("albumin", "serum albumin", "g/dL", 1, 6, Hinge(low=3)),
    _latest("glucose", "serum glucose", "mg/dL", 20, 600, Hinge(70, 200)),
    _latest("crp", "C-reactive protein", "mg/L", 0, 500, Hinge(high=10)),
)
"""The latest of the 48 hours before the landmark."""
MEDICINES = (
    "antibacterial",
    "antithrombotic",
    "antiarrhythmic",
    "bronchodilator",
    "corticosteroid",
    "diuretic",
    "insulin",
    "opioid",
    "sedative",
    "vasopressor",
)
PROCEDURES = ("dialysis", "imaging", "surgery", "transfusion", "ventilation")


def _group(name: str, meaning: str, groups: tuple[str, ...]) -> Column:
    return Column(name, meaning, "category", categories=groups, other=True)


def _number_of(name: str, meaning: str) -> Column:
    bands = Bands((1, 3, 6), usual=True)
    return Column(name, meaning, high=200, flag_missing=False, encoder=bands)


HISTORY = (
    _group("medicine_1", "group of the latest medicine begun", MEDICINES),
    _group("medicine_2", "the latest other group before it", MEDICINES),
    _group("medicine_3", "the latest third group", MEDICINES),
    _number_of("medicines", "medicines begun"),
    _group("procedure_1", "group of the latest procedure", PROCEDURES),
    _group("procedure_2", "the latest other group before it", PROCEDURES),
    _number_of("procedures", "procedures begun"),
)
"""What was begun in the 48 hours before the landmark, the latest first."""
_CATEGORIES = {column.name for column in HISTORY if column.kind == "category"}
_HOURS_IN = Column(
    "hours_in",
    "hours since admission",
    unit="h",
    high=336,
    flag_missing=False,
    encoder=Hinge(high=24),
)
_KNOWN = (eicu.AGE, eicu.SEX, _HOURS_IN, *VITALS, *WORST, *LABORATORY)
_LABEL = "1: died, moved to intensive care or had a cardiac arrest within 24 hours"


class Deterioration(LinearFromScore):
    """Logistic regression on deviations from normal ranges, beside NEWS2.

    Option `history`: true adds what was begun in the 48 hours before, medicines and procedures by
    group. The public data does not tell what that is worth, and every feature costs noise.
    """

    name = "deterioration"
    title = "Death, intensive care or cardiac arrest within 24 hours, on a ward"
    licence = icu_timeseries.IcuTimeseries.licence
    schema = Schema(_KNOWN, "deteriorated", _LABEL)
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        **LinearFromScore.choices,
        "history": (False, True),
    }
    downloads = icu_timeseries.IcuTimeseries.downloads
    parts = (news2, eicu)
    prevalence = 0.02

    def __init__(self, **options: Scalar) -> None:
        super().__init__(**options)
        if self.options["history"]:
            self.schema = Schema((*_KNOWN, *HISTORY), "deteriorated", _LABEL)

    def log_odds(self, table: Table) -> npt.NDArray[np.float64]:
        """(N,) log odds by NEWS2's points for the latest vital signs."""
        values = {column.name: column.numbers(table[column.name]) for column in VITALS}
        return news2.log_odds(news2.points(values))

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Region -> two landmarks of each stay. Raises WardroundError: NO_DATA, MALFORMED_DATA."""
        regions = icu_timeseries.IcuTimeseries().public_sites(root)
        return {region: _landmarks(table, self.schema.names) for region, table in regions.items()}


def _landmarks(stays: Table, names: Sequence[str]) -> Table:
    """A row a stay and landmark, of the hourly values until then."""
    hourly = {series.name: series.values(stays) for series in icu_timeseries.SERIES}
    return {
        name: np.concatenate([_at(name, hour, stays, hourly) for hour in LANDMARKS])
        for name in names
    }


def _at(
    name: str, hour: int, stays: Table, hourly: Mapping[str, npt.NDArray[np.float64]]
) -> npt.NDArray[Any]:
    series, _, which = name.rpartition("_")
    match name:
        case "deteriorated":
            return np.asarray(stays["died"])
        case "hours_in":
            return np.full(len(stays[PATIENT]), float(hour))
        case _ if name in hourly:
            return _last(hourly[name][:, :hour])
        case _ if which == "highest":
            return np.asarray(np.fmax.reduce(hourly[series][:, :hour], axis=1))
        case _ if which == "lowest":
            return np.asarray(np.fmin.reduce(hourly[series][:, :hour], axis=1))
        case _ if name in stays:
            return np.asarray(stays[name])
    if name in _CATEGORIES:
        return np.full(len(stays[PATIENT]), None, dtype=object)
    return np.full(len(stays[PATIENT]), np.nan)


def _last(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, H) -> (N,) the latest value of each row that was measured."""
    latest = values.shape[1] - 1 - (~np.isnan(values))[:, ::-1].argmax(axis=1)
    return np.asarray(values[np.arange(len(values)), latest])
