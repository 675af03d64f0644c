"""What happens to `same_patients` on a ward: vital signs and laboratory results in any unit,
medicines, procedures and cardiac arrests.

`draw` makes what is true, with the dirt that records have; `ward_records` tells it as FHIR, OMOP
and CSV; `ward_landmarks` works out, by itself, the rows of the task `deterioration`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from tests.client.data.same_patients import RELEASED, Patient

Unit = tuple[str, float, float]
"""As it is written; a value in it is value * factor + shift in the task's unit."""
Told = Literal["once", "twice", "corrected", "mistaken"]
"""Once; with a second coding of the same thing; in a newer version too; entered in error."""
_TOLD: tuple[Told, ...] = ("once", "once", "once", "once", "once", "once", "twice", "corrected",
                           "mistaken")  # fmt: skip


@dataclass(frozen=True)
class Analyte:
    """feature: the task's column; hours: how far back it counts; low, high: in the task's unit."""

    feature: str
    code: str
    hours: int
    low: float
    high: float
    units: tuple[Unit, ...]


_PER_MINUTE = (("/min", 1.0, 0.0), ("beats/minute", 1.0, 0.0), ("", 1.0, 0.0))
_BREATHS = (("/min", 1.0, 0.0), ("breaths/min", 1.0, 0.0))
_PERCENT = (("%", 1.0, 0.0), ("percent", 1.0, 0.0))
_FAHRENHEIT = 5 / 9, -160 / 9
_CELSIUS = ("Cel", "°C", "deg C"), ("[degF]", "Deg. F")
_TEMPERATURE = (
    *((unit, 1.0, 0.0) for unit in _CELSIUS[0]),
    *((unit, *_FAHRENHEIT) for unit in _CELSIUS[1]),
)
_CELLS = (("10*3/uL", 1.0, 0.0), ("x10^9/L", 1.0, 0.0), ("K/uL", 1.0, 0.0), ("/mm3", 1e-3, 0.0))
_UMOL = (("umol/L", 0.011312, 0.0), ("µmol/L", 0.011312, 0.0))
_GRAM = (("g/dL", 1.0, 0.0), ("gm/dl", 1.0, 0.0), ("g/L", 0.1, 0.0))
_MMOL = (("mmol/L", 1.0, 0.0), ("mEq/L", 1.0, 0.0))
ANALYTES = (
    Analyte("heart_rate", "8867-4", 24, 40, 150, _PER_MINUTE),
    Analyte("systolic_bp", "8480-6", 24, 80, 190, (("mm[Hg]", 1.0, 0.0), ("mmHg", 1.0, 0.0))),
    Analyte("respiratory_rate", "9279-1", 24, 8, 35, _BREATHS),
    Analyte("temperature", "8310-5", 24, 35, 41, _TEMPERATURE),
    Analyte("spo2", "59408-5", 24, 80, 100, _PERCENT),
    Analyte("gcs", "9269-2", 24, 3, 15, (("{score}", 1.0, 0.0), ("1", 1.0, 0.0))),
    Analyte("creatinine", "2160-0", 48, 0.4, 6, (("mg/dL", 1.0, 0.0), ("mg/dl", 1.0, 0.0))),
    Analyte("creatinine", "14682-9", 48, 0.4, 6, _UMOL),
    Analyte("bun", "3094-0", 48, 5, 80, (("mg/dL", 1.0, 0.0),)),
    Analyte("bun", "22664-7", 48, 5, 80, (("mmol/L", 2.8014, 0.0),)),
    Analyte("sodium", "2951-2", 48, 120, 160, _MMOL),
    Analyte("potassium", "2823-3", 48, 2.5, 7, _MMOL),
    Analyte("lactate", "2524-7", 48, 0.5, 12, (("mmol/L", 1.0, 0.0), ("mg/dL", 1 / 9.008, 0.0))),
    Analyte("wbc", "6690-2", 48, 1, 30, _CELLS),
    Analyte("hemoglobin", "718-7", 48, 6, 17, _GRAM),
    Analyte("glucose", "2345-7", 48, 50, 400, (("mg/dL", 1.0, 0.0), ("mmol/L", 18.0156, 0.0))),
    Analyte("crp", "1988-5", 48, 1, 300, (("mg/L", 1.0, 0.0), ("mg/dl", 10.0, 0.0))),
)  # fmt: skip
UNREAD = "furlong"
"""A unit of nothing: what is told in it is missing."""
MEDICINES = {
    "J01CA04": "antibacterial",
    "B01AB05": "antithrombotic",
    "C01BD01": "antiarrhythmic",
    "C03CA01": "diuretic",
    "N02AA01": "opioid",
    "C01CA03": "vasopressor",
    "A02BC01": "other",
}
PROCEDURES = {"108241001": "dialysis", "387713003": "surgery", "71388002": "other"}
ARRESTS = {"procedure": "89666000", "diagnosis": "410429000"}
Kind = Literal["medicine", "procedure", "diagnosis"]


@dataclass(frozen=True)
class Result:
    """A measurement at the site's clock, in the unit in which it is told. day: no more is known of
    its time."""

    patient: int
    at: datetime
    day: bool
    analyte: Analyte
    unit: Unit
    value: float
    told: Told


@dataclass(frozen=True)
class Event:
    """A medicine begun, a procedure done or a diagnosis made."""

    patient: int
    at: datetime
    day: bool
    kind: Kind
    code: str
    told: Told


@dataclass(frozen=True)
class Ward:
    patients: Sequence[Patient]
    results: Sequence[Result]
    events: Sequence[Event]


def draw(patients: Sequence[Patient], seed: int) -> Ward:
    """Results and events around the stays of the patients."""
    chance = random.Random(seed)
    results, events = list[Result](), list[Event]()
    for patient in patients:
        for stay in patient.stays:
            stop = stay.stop or stay.start + timedelta(days=4)
            for _ in range(chance.randrange(0, 16)):
                results.append(_result(chance, patient.number, _moment(chance, stay.start, stop)))
            for _ in range(chance.choice((0, 0, 2, 5))):
                events.append(_event(chance, patient.number, _moment(chance, stay.start, stop)))
            if chance.random() < 0.08:
                kind: Kind = chance.choice(("procedure", "diagnosis"))
                at, day = _moment(chance, stay.start, stop), chance.random() < 0.3
                told: Told = chance.choice(("once", "once", "twice", "mistaken"))
                events.append(Event(patient.number, at, day, kind, ARRESTS[kind], told))
    return Ward(patients, results, events)


def _moment(chance: random.Random, start: datetime, stop: datetime) -> datetime:
    """From a day before to some hours after; no hour that comes twice."""
    minutes = int((stop - start).total_seconds() / 60)
    at = start + timedelta(minutes=chance.randrange(-1500, minutes + 300))
    at = min(at, datetime.combine(RELEASED, datetime.min.time()) + timedelta(hours=23))
    return at.replace(hour=5) if 1 <= at.hour <= 3 else at


def _result(chance: random.Random, patient: int, at: datetime) -> Result:
    analyte = chance.choice(ANALYTES)
    unit = chance.choice(analyte.units)
    _, factor, shift = unit
    value = round((chance.uniform(analyte.low, analyte.high) - shift) / factor, 1)
    if analyte.feature == "gcs":
        value = float(round(value))
    fault = chance.random()
    if fault < 0.03:
        unit = UNREAD, factor, shift
    elif fault < 0.06:
        value *= 1000
    return Result(patient, at, chance.random() < 0.15, analyte, unit, value, chance.choice(_TOLD))


def _event(chance: random.Random, patient: int, at: datetime) -> Event:
    kind: Kind = chance.choice(("medicine", "medicine", "procedure"))
    code = chance.choice(list(MEDICINES if kind == "medicine" else PROCEDURES))
    return Event(patient, at, chance.random() < 0.15, kind, code, chance.choice(_TOLD))
