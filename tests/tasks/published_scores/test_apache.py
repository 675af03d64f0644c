"""APACHE III's points are those of its publication, and of APACHE's own software."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.datasets import eicu
from tasks.published_scores import apache
from tasks.schema import PATIENT
from tasks.shipped.icu_mortality import COLUMNS, IcuMortality

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
_RESULTS = ROOT / "eicu_demo" / "apachePatientResult.csv.gz"


def _points(**known: float) -> float:
    """Points of one patient of 30 years."""
    values = {name: np.array([value], dtype=float) for name, value in known.items()}
    return float(apache.points({"age": np.array([30.0])} | values)[0])


@pytest.mark.parametrize(
    ("name", "values", "points"),
    [
        ("heart_rate", (39, 40, 75, 100, 110, 120, 140, 155), (8, 5, 0, 1, 5, 7, 13, 17)),
        ("mean_bp", (39, 40, 60, 70, 90, 100, 120, 130, 140), (23, 15, 7, 6, 0, 4, 7, 9, 10)),
        ("temperature", (32.9, 33, 33.5, 34, 35, 37, 40), (20, 16, 13, 8, 2, 0, 4)),
        ("respiratory_rate", (5, 6, 12, 14, 25, 35, 40, 50), (17, 8, 7, 0, 6, 9, 11, 18)),
        ("hematocrit", (40.9, 41, 50), (3, 0, 3)),
        ("wbc", (0.9, 1, 3, 20, 25), (19, 5, 0, 1, 5)),
        ("creatinine", (0.4, 1, 1.5, 1.95), (3, 0, 4, 7)),
        ("urine_output", (399, 400, 600, 900, 1500, 2000, 4000), (15, 8, 7, 5, 4, 0, 1)),
        ("bun", (16.9, 17, 20, 40, 80), (0, 2, 7, 11, 12)),
        ("sodium", (119, 120, 135, 155), (3, 2, 0, 4)),
        ("albumin", (1.9, 2, 2.5, 4.5), (11, 6, 0, 4)),
        ("bilirubin", (1.9, 2, 3, 5, 8), (0, 5, 6, 8, 16)),
        ("glucose", (39, 40, 60, 200, 350), (8, 9, 0, 3, 5)),
        ("age", (44, 45, 60, 65, 70, 75, 85), (0, 5, 11, 13, 16, 17, 24)),
        ("pao2", (49, 50, 70, 80), (15, 5, 2, 0)),
    ],
)
def test_each_variable_has_the_published_points(
    name: str, values: tuple[float, ...], points: tuple[int, ...]
) -> None:
    assert [_points(**{name: value}) for value in values] == list(points)


@pytest.mark.parametrize(
    ("eyes", "motor", "verbal", "points"),
    [
        (1, 1, 1, 48),
        (1, 4, 1, 33),
        (1, 6, 1, 16),
        (1, 2, 3, 29),
        (3, 2, 1, 29),
        (3, 3, 1, 24),
        (4, 6, 1, 15),
        (4, 5, 3, 13),
        (4, 6, 3, 10),
        (4, 4, 4, 13),
        (4, 5, 4, 8),
        (4, 6, 4, 3),
        (4, 5, 5, 3),
        (4, 6, 5, 0),
        (np.nan, 1, 1, 0),
    ],
)
def test_coma_has_the_published_points(
    eyes: float, motor: float, verbal: float, points: int
) -> None:
    assert _points(gcs_eyes=eyes, gcs_motor=motor, gcs_verbal=verbal) == points


@pytest.mark.parametrize(
    ("ph", "paco2", "points"),
    [
        (7.1, 40, 12),
        (7.1, 60, 4),
        (7.25, 29, 9),
        (7.25, 45, 3),
        (7.32, 40, 0),
        (7.4, 29, 5),
        (7.4, 50, 1),
        (7.47, 40, 2),
        (7.47, 50, 12),
        (7.55, 30, 3),
        (7.65, 20, 0),
        (7.65, 50, 12),
        (np.nan, 50, 0),
        (7.1, np.nan, 0),
    ],
)
def test_acid_and_base_are_judged_together(ph: float, paco2: float, points: int) -> None:
    assert _points(ph=ph, paco2=paco2) == points


def test_the_rules_between_variables() -> None:
    assert _points(creatinine=2.0, urine_output=300.0) == 10 + 15  # acute renal failure
    assert _points(respiratory_rate=10.0, ventilated=1.0) == 0
    assert _points(respiratory_rate=5.0, ventilated=1.0) == 17
    gas = {"pao2": 60.0, "paco2": 40.0, "fio2": 60.0}
    assert _points(**gas) == 5
    assert _points(**gas, ventilated=1.0) == 9  # gradient 60% of 713 - 40 / 0.8 - 60 = 318
    assert _points(lymphoma=1.0, cirrhosis=1.0) == 13  # the worst alone
    assert _points(lymphoma=1.0, elective_surgery=1.0) == 0


def test_what_is_missing_counts_as_normal() -> None:
    assert _points() == 0
    typical = apache.points({"age": np.array([62.0])})
    assert apache.log_odds(typical).tolist() == [apache.INTERCEPT]


def test_worst_is_what_lies_furthest_from_normal() -> None:
    series = np.array([[np.nan, 60, 110, 90], [np.nan, np.nan, np.nan, np.nan], [75, 74, 77, 70]])
    found = apache.worst(series, 75.0)
    assert found[[0, 2]].tolist() == [110, 70]
    assert np.isnan(found[1])
    assert apache.worst(series[:1], apache.NORMAL["pao2"]).tolist() == [60]


@given(
    st.dictionaries(st.sampled_from(apache.COLUMNS), st.floats(-10, 500) | st.just(np.nan)),
    st.floats(18, 100),
)
def test_points_lie_between_0_and_the_highest_possible(known: dict[str, float], age: float) -> None:
    assert 0 <= _points(**(known | {"age": age})) <= 299


@pytest.mark.skipif(not _RESULTS.is_file(), reason="the eICU demo is not there")
def test_the_points_are_those_that_apache_itself_counted() -> None:
    with gzip.open(_RESULTS, "rt") as file:
        own = {
            row["patientunitstayid"]: int(row["acutephysiologyscore"])
            for row in csv.DictReader(file)
            if row["apacheversion"] == "IVa" and int(row["acutephysiologyscore"]) >= 0
        }
    stays = {
        r["uniquepid"]: r["patientunitstayid"] for r in eicu.apache_rows(ROOT, "icu_mortality")
    }
    ours, theirs = [], []
    for table in IcuMortality().public_sites(ROOT).values():
        numbers = {
            column.name: column.numbers(table[column.name])
            if column.kind == "number"
            else np.nan_to_num(column.places(table[column.name]))
            for column in COLUMNS
        }
        for patient, points in zip(table[PATIENT], apache.physiology(numbers), strict=True):
            if stays[patient] in own:
                ours.append(points)
                theirs.append(own[stays[patient]])
    assert len(ours) > 1300
    assert np.mean(np.array(ours) == theirs) > 0.95
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99
