"""APACHE III: how ill a patient is on the first day in intensive care, in published points.

Knaus et al. 1991, "The APACHE III prognostic system" (Chest 100:1619-1636): points for physiology,
age and chronic disease. Probability of death from the physiology points by Johnson 2014 (thesis,
Oxford), as in MIT-LCP/mimic-code `apsiii.sql`: 1 / (1 + exp(4.4360 - 0.04726 points)). Made of
public knowledge alone, so it costs no privacy; what is missing counts as normal, by APACHE's rule.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

INTERCEPT, SLOPE = -4.4360, 0.04726
TYPICAL_AGE_POINTS = 11
"""Points of 60 to 64 years, the age that the published probability is taken to describe."""

_POINTS: dict[str, tuple[tuple[float, ...], tuple[int, ...]]] = {
    "heart_rate": ((40, 50, 100, 110, 120, 140, 155), (8, 5, 0, 1, 5, 7, 13, 17)),
    "mean_bp": ((40, 60, 70, 80, 100, 120, 130, 140), (23, 15, 7, 6, 0, 4, 7, 9, 10)),
    "temperature": ((33, 33.5, 34, 35, 36, 40), (20, 16, 13, 8, 2, 0, 4)),
    "respiratory_rate": ((6, 12, 14, 25, 35, 40, 50), (17, 8, 7, 0, 6, 9, 11, 18)),
    "hematocrit": ((41, 50), (3, 0, 3)),
    "wbc": ((1, 3, 20, 25), (19, 5, 0, 1, 5)),
    "creatinine": ((0.5, 1.5, 1.95), (3, 0, 4, 7)),
    "urine_output": ((400, 600, 900, 1500, 2000, 4000), (15, 8, 7, 5, 4, 0, 1)),
    "bun": ((17, 20, 40, 80), (0, 2, 7, 11, 12)),
    "sodium": ((120, 135, 155), (3, 2, 0, 4)),
    "albumin": ((2, 2.5, 4.5), (11, 6, 0, 4)),
    "bilirubin": ((2, 3, 5, 8), (0, 5, 6, 8, 16)),
    "glucose": ((40, 60, 200, 350), (8, 9, 0, 3, 5)),
    "age": ((45, 60, 65, 70, 75, 85), (0, 5, 11, 13, 16, 17, 24)),
}
"""Cut points, and the points of the bands that they make (one more)."""

_PAO2 = ((50, 70, 80), (15, 5, 2, 0))
_AADO2 = ((100, 250, 350, 500), (0, 7, 9, 11, 14))
_PH = (7.2, 7.3, 7.35, 7.45, 7.5, 7.6)
_PACO2 = (
    ((50,), (12, 4)),
    ((30, 40, 50), (9, 6, 3, 2)),
    ((30, 45), (9, 0, 1)),
    ((30, 45), (5, 0, 1)),
    ((30, 35, 45), (5, 0, 2, 12)),
    ((40,), (3, 12)),
    ((25, 40), (0, 3, 12)),
)
"""For each band of pH, the bands of PaCO2 and their points."""

_CHRONIC = (
    ("aids", 23),
    ("hepatic_failure", 16),
    ("lymphoma", 13),
    ("metastatic_cancer", 11),
    ("leukemia", 10),
    ("immunosuppression", 10),
    ("cirrhosis", 4),
)
"""Only the worst of them counts, and none after elective surgery."""

COLUMNS = (
    *_POINTS,
    *("ph", "paco2", "pao2", "fio2", "gcs_eyes", "gcs_motor", "gcs_verbal"),
    *("ventilated", "elective_surgery"),
    *(name for name, _ in _CHRONIC),
)
"""The columns that the points are made of."""

_ROOM_AIR, _VAPOUR, _SEA_LEVEL, _QUOTIENT = 21.0, 47.0, 760.0, 0.8


def _band(numbers: Numbers, edges: tuple[float, ...], points: tuple[int, ...]) -> Numbers:
    """(N,) -> (N,) points, 0 where missing."""
    by_band = np.array(points, dtype=np.float64)
    return np.where(np.isnan(numbers), 0.0, by_band[np.digitize(numbers, edges)])


def _oxygen(values: Mapping[str, Numbers]) -> Numbers:
    """The alveolar-arterial gradient of the ventilated at 50% oxygen or more, else PaO2."""
    pao2, paco2 = values["pao2"], values["paco2"]
    fio2 = np.where(np.isnan(values["fio2"]), _ROOM_AIR, values["fio2"])
    gradient = fio2 / 100 * (_SEA_LEVEL - _VAPOUR) - paco2 / _QUOTIENT - pao2
    ventilated = (values["ventilated"] == 1) & (fio2 >= 50) & ~np.isnan(gradient)
    return np.where(ventilated, _band(gradient, *_AADO2), _band(pao2, *_PAO2))


def _acid_base(ph: Numbers, paco2: Numbers) -> Numbers:
    by_ph = np.stack([_band(paco2, *rule) for rule in _PACO2])
    return np.where(np.isnan(ph), 0.0, by_ph[np.digitize(ph, _PH), np.arange(len(ph))])


def _coma(eyes: Numbers, motor: Numbers, verbal: Numbers) -> Numbers:
    """Neurological points of the parts of the Glasgow coma scale; 0 where one is missing."""
    closed = eyes < 2
    rows = (
        (verbal < 2) & (motor < 3) & closed,
        (verbal < 4) & (motor < 3),
        (verbal < 2) & (motor < 5) & closed,
        (verbal < 4) & (motor < 5),
        (verbal < 2) & closed,
        verbal < 2,
        (verbal < 4) & (motor < 6),
        verbal < 4,
        (verbal < 5) & (motor < 5),
        (verbal < 5) & (motor < 6),
        (verbal < 5) | (motor < 6),
    )
    points = np.select(rows, (48, 29, 33, 24, 16, 15, 13, 10, 13, 8, 3), default=0)
    return np.where(np.isnan(eyes + motor + verbal), 0.0, points).astype(np.float64)


def physiology(values: Mapping[str, Numbers]) -> Numbers:
    """Acute physiology points, (N,). `values`: (N,) floats by the names of `icu_mortality`'s
    columns, the worst of the first 24 hours and the sum of the urine, NaN where not measured;
    `ventilated` is 1 where so.

    At a ventilator a rate of 6 to 13 is the machine's and counts nothing. A creatinine of 1.5
    with less than 410 mL of urine is acute renal failure: 10 points.
    """
    total = sum(
        (_band(values[name], *rule) for name, rule in _POINTS.items() if name != "age"),
        np.zeros(len(values["age"])),
    )
    rate = values["respiratory_rate"]
    total -= np.where(
        (values["ventilated"] == 1) & (rate >= 6) & (rate < 14),
        _band(rate, *_POINTS["respiratory_rate"]),
        0.0,
    )
    failure = (values["creatinine"] >= 1.5) & (values["urine_output"] < 410)
    total += np.where(failure, 10 - _band(values["creatinine"], *_POINTS["creatinine"]), 0.0)
    total += _oxygen(values) + _acid_base(values["ph"], values["paco2"])
    return total + _coma(values["gcs_eyes"], values["gcs_motor"], values["gcs_verbal"])


NORMAL = {
    "heart_rate": 75.0,
    "mean_bp": 90.0,
    "temperature": 38.0,
    "respiratory_rate": 19.0,
    "hematocrit": 45.5,
    "wbc": 11.5,
    "creatinine": 1.0,
    "bun": 0.0,
    "sodium": 145.5,
    "albumin": 3.5,
    "bilirubin": 0.0,
    "glucose": 130.0,
    "ph": 7.4,
    "paco2": 40.0,
    "pao2": 1000.0,
}
"""The worst value is the furthest from here (Knaus et al. 1991): of oxygen the lowest, of urea and
bilirubin the highest."""


def worst(series: Numbers, normal: float) -> Numbers:
    """(N, H) values over time, NaN where not measured -> (N,) the worst."""
    distance = np.where(np.isnan(series), -1.0, np.abs(series - normal))
    return np.asarray(series[np.arange(len(series)), distance.argmax(axis=1)])


def points(known: Mapping[str, Numbers]) -> Numbers:
    """APACHE III points, (N,): physiology, age and chronic disease. `known`: by the names of
    `icu_mortality`'s columns; those that are not there count as normal."""
    missing = np.full(len(known["age"]), np.nan)
    values = dict.fromkeys(COLUMNS, missing) | dict(known)
    chronic = np.max([(values[name] == 1) * worth for name, worth in _CHRONIC], axis=0)
    chronic = np.where(values["elective_surgery"] == 1, 0.0, chronic)
    return physiology(values) + _band(values["age"], *_POINTS["age"]) + chronic


def log_odds(points: Numbers) -> Numbers:
    """Points -> log odds of death in hospital."""
    return INTERCEPT + SLOPE * (points - TYPICAL_AGE_POINTS)
