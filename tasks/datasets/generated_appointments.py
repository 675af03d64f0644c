"""Generated appointments of three clinics: patients who come, and who do not. Of nobody.

Everything is drawn from a seed. Whether a patient comes depends on how long ago the appointment was
made, on age, on the hour, and on a habit of the patient's own that only the past appointments tell.
A figure on them says how a method works, and nothing about real patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.schema import PATIENT, Table

_SEED = 20_261
_CLINICS: Mapping[str, tuple[int, float]] = {
    "harbour": (900, -2.2),
    "hill": (600, -1.8),
    "lake": (400, -2.6),
}
"""Patients, and the log odds of not coming where nothing speaks for it."""
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def sites() -> dict[str, Table]:
    """Clinic -> its appointments, one to six a patient. No two clinics share a patient."""
    return {
        name: _clinic(name, patients, base, np.random.default_rng((_SEED, number)))
        for number, (name, (patients, base)) in enumerate(_CLINICS.items())
    }


def _clinic(name: str, patients: int, base: float, draw: np.random.Generator) -> Table:
    rows: dict[str, list[Any]] = {}
    for number in range(patients):
        age, sex = float(draw.integers(18, 90)), str(draw.choice(["female", "male"]))
        habit, missed_before = draw.normal(0, 1), 0
        for before in range(int(draw.integers(1, 7))):
            lead = float(np.floor(draw.exponential(30)))
            hour = float(draw.integers(8, 18))
            odds = base + habit + 0.02 * min(lead, 90) + 0.5 * (age < 30) + 0.3 * (hour < 9)
            missed = bool(draw.random() < 1 / (1 + np.exp(-odds)))
            row = {
                PATIENT: f"{name}-{number}",
                "age": age,
                "sex": sex,
                "lead_days": lead,
                "weekday": DAYS[int(draw.integers(0, 5))],
                "hour": hour,
                "appointments_before": float(before),
                "missed_before": float(missed_before),
                "missed": float(missed),
            }
            missed_before += missed
            for column, value in row.items():
                rows.setdefault(column, []).append(value)
    return {column: _array(values) for column, values in rows.items()}


def _array(values: list[Any]) -> npt.NDArray[Any]:
    return np.array(values, dtype=np.float64 if isinstance(values[0], float) else object)
