"""Generated patients with a chest picture and a health record: five hospitals of nobody.

Everything is drawn from a seed; no picture is of anybody. A patient with pneumonia has an opacity
in a lung, sharp or faint, and an inflammation, strong or mild; how visible the one is and how
strong the other are independent, so that picture and record tell different things about the same
patient. Hospitals differ in exposure, noise, case mix and in how often a side is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.schema import PATIENT, Table

SIDE = 28
_SEED = 20_260
_DOWN, _RIGHT = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)


@dataclass(frozen=True)
class _Hospital:
    """patients; share ill; grey levels added and multiplied; shares without picture or record."""

    patients: int
    ill: float
    offset: float
    contrast: float
    no_picture: float
    no_record: float


_HOSPITALS = {
    "harbour": _Hospital(2200, 0.40, 0, 1.00, 0.05, 0.10),
    "hill": _Hospital(1500, 0.30, 12, 0.90, 0.10, 0.05),
    "lake": _Hospital(1100, 0.45, -10, 1.10, 0.15, 0.15),
    "meadow": _Hospital(700, 0.25, 5, 0.80, 0.30, 0.05),
    "station": _Hospital(500, 0.35, -5, 1.05, 0.05, 0.30),
}


def sites() -> dict[str, Table]:
    """Hospital -> its patients, always the same."""
    return {
        name: _table(name, hospital, np.random.default_rng([_SEED, index]))
        for index, (name, hospital) in enumerate(sorted(_HOSPITALS.items()))
    }


def _table(name: str, hospital: _Hospital, generator: np.random.Generator) -> Table:
    count = hospital.patients
    ill = generator.random(count) < hospital.ill
    values = record(ill, generator)
    pictures = _pictures(ill, hospital, generator)
    pictures[generator.random(count) < hospital.no_picture] = 0
    absent = generator.random(count) < hospital.no_record
    for column in values.values():
        column[absent] = None if column.dtype == object else np.nan
    names = [f"generated-{name}-{k:04d}" for k in range(count)]
    return {
        PATIENT: np.array(names, dtype=object),
        **values,
        "radiograph": pictures,
        "pneumonia": ill.astype(np.float64),
    }


def record(
    ill: npt.NDArray[np.bool_], generator: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    """(N,) who is ill -> the columns of `fusion`'s records; a tenth of each laboratory value was
    not measured."""
    count = len(ill)
    inflamed = generator.normal(1.7 * ill, 1.0)

    def around(middle: float, slope: float, spread: float) -> npt.NDArray[np.float64]:
        return middle + slope * inflamed + generator.normal(0, spread, count)

    drawn: dict[str, npt.NDArray[Any]] = {
        "age": np.clip(generator.normal(58 + 6 * ill, 17), 18, 95).round(),
        "sex": generator.choice(np.array(["female", "male"], dtype=object), count),
        "temperature": around(36.9, 0.45, 0.5).round(1),
        "heart_rate": around(84, 7, 13).round(),
        "respiratory_rate": around(17, 2.2, 3.5).round(),
        "systolic_bp": around(130, -4, 18).round(),
        "spo2": np.minimum(around(96.5, -1.2, 1.6), 100).round(),
        "wbc": np.maximum(around(8.5, 2.0, 3.0), 0.5).round(1),
        "crp": np.exp(around(2.2, 0.7, 0.9)).round(1),
        "bun": np.maximum(around(17, 2.5, 6), 3).round(),
    }
    for name in ("wbc", "crp", "bun"):
        drawn[name][generator.random(count) < 0.1] = np.nan
    return drawn


def _pictures(
    ill: npt.NDArray[np.bool_], hospital: _Hospital, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """(N, 28, 28) uint8: two lungs, ribs and a heart; an opacity in a lung where ill, and a fainter
    shadow in some who are not."""
    count = len(ill)

    def each(middle: float, spread: float) -> npt.NDArray[np.float64]:
        return generator.normal(middle, spread, count)[:, None, None]

    def blob(
        down: npt.NDArray[np.float64], right: npt.NDArray[np.float64], tall: Any, wide: Any
    ) -> npt.NDArray[np.float64]:
        return np.asarray(np.exp(-(((_DOWN - down) / tall) ** 2) - ((_RIGHT - right) / wide) ** 2))

    grey = each(165, 8) * np.ones((SIDE, SIDE))
    ribs = 9 * np.sin(_DOWN * 1.5 + each(0, 0.5))
    for right in (8.0, 20.0):
        lung = blob(each(13.5, 0.8), each(right, 0.6), each(9.5, 0.5), each(4.6, 0.3)) > 0.37
        grey -= lung * (each(95, 10) - ribs)
    grey += 70 * blob(each(18, 0.8), each(15.5, 0.6), each(5, 0.4), each(3.6, 0.4))
    left = generator.random((count, 1, 1)) < 0.5
    shade = np.where(ill, generator.gamma(3.0, 24, count), generator.gamma(1.0, 12, count))
    where = blob(each(17, 3), np.where(left, each(8, 1.2), each(20, 1.2)), each(3.5, 0.5), 3.2)
    grey += shade[:, None, None] * where
    grey = 128 + hospital.contrast * (grey - 128) + hospital.offset
    grey += generator.normal(0, 7, grey.shape)
    return np.clip(grey, 1, 255).astype(np.uint8)
