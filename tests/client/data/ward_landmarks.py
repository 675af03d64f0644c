"""The landmarks of a ward of `same_wards`, as `deterioration` must have them, in pandas."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from tests.client.data.same_patients import RELEASED, ZONE, Patient, Stay, Style
from tests.client.data.same_wards import ARRESTS, MEDICINES, PROCEDURES, UNREAD, Kind, Ward

_DAY = pd.Timedelta(days=1)
_LATEST = ("heart_rate", "systolic_bp", "respiratory_rate", "temperature", "spo2", "gcs",
           "creatinine", "bun", "sodium", "potassium", "lactate", "wbc", "hemoglobin", "glucose",
           "crp")  # fmt: skip
_WORST = {
    "heart_rate_highest": ("heart_rate", "max"),
    "systolic_bp_lowest": ("systolic_bp", "min"),
    "respiratory_rate_highest": ("respiratory_rate", "max"),
    "spo2_lowest": ("spo2", "min"),
}
_HIGHEST = {"heart_rate": 300, "systolic_bp": 300, "respiratory_rate": 60, "temperature": 44,
            "spo2": 100, "gcs": 15, "creatinine": 20, "bun": 250, "sodium": 210, "potassium": 15,
            "lactate": 30, "wbc": 500, "hemoglobin": 25, "glucose": 2000, "crp": 1000}  # fmt: skip
"""What is above can be true of nobody."""


def landmarks(ward: Ward, style: Style) -> pd.DataFrame:
    """The rows of `deterioration`, by patient and time."""
    stays = _stays(ward, style)
    steps = pd.DataFrame({"step": range(1, 29)})
    rows = stays.merge(steps, how="cross")
    rows["at"] = rows["start"] + rows["step"] * pd.Timedelta(hours=12)
    until = _midnight(RELEASED) + _DAY
    there = rows["at"] < rows["stop"].fillna(until)
    rows = rows[there & ~(rows["at"] > rows["earliest"]) & ~(rows["at"] >= rows["latest"])].copy()
    rows["hours_in"] = rows["step"] * 12.0
    rows["deteriorated"] = _outcomes(rows, until)
    rows["day"] = rows["at"].dt.tz_convert(ZONE).dt.strftime("%Y-%m-%d")
    rows = rows.reset_index(drop=True)
    rows["landmark"] = rows.index
    rows = rows.merge(_windows(rows, ward, style), on="landmark", how="left")
    for sequence in (
        _sequences(rows, ward, style, "medicine", MEDICINES, 3),
        _sequences(rows, ward, style, "procedure", PROCEDURES, 2),
    ):
        rows = rows.merge(sequence, on="landmark", how="left")
    counts = ["medicines", "procedures"]
    rows[counts] = rows[counts].fillna(0.0)
    return rows.sort_values(["patient", "at", "hours_in"], ignore_index=True)


def _midnight(day: date) -> pd.Timestamp:
    return pd.Timestamp(day).tz_localize(ZONE).tz_convert("UTC")


def _bounds(at: datetime, days: bool) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Between when and when it was."""
    if days:
        return _midnight(at.date()), _midnight(at.date() + timedelta(days=1))
    moment = pd.Timestamp(at).tz_localize(ZONE).tz_convert("UTC")
    return moment, moment


def _stays(ward: Ward, style: Style) -> pd.DataFrame:
    days = style != "times"
    arrests: dict[int, list[tuple[pd.Timestamp, pd.Timestamp]]] = {}
    for event in ward.events:
        if event.code in ARRESTS.values() and event.told != "mistaken":
            arrests.setdefault(event.patient, []).append(_bounds(event.at, days or event.day))
    made = []
    for patient in ward.patients:
        known = [_bounds(s.intensive[0], days) for s in patient.stays if s.intensive]
        known += arrests.get(patient.number, [])
        for stay in patient.stays:
            age = patient.age(stay.start.date())
            if age < 18:
                continue
            start = _bounds(stay.start, days)[0]
            stop = _bounds(stay.stop, days)[1] if stay.stop else pd.NaT
            died = patient.died(stay)
            spans = [(low, high) for low, high in known if low >= start]
            spans += _death(patient, stay, start, stop, died, days)
            row: dict[str, Any] = {"patient": str(patient.number), "age": age, "sex": patient.sex}
            row |= {"start": start, "stop": stop, "died": died}
            row["undated"] = patient.undated and died is not True
            row["earliest"] = min((low for low, _ in spans), default=pd.NaT)
            row["latest"] = min((high for _, high in spans), default=pd.NaT)
            made.append(row)
    table = pd.DataFrame(made)
    for name in ("start", "stop", "earliest", "latest"):
        table[name] = pd.to_datetime(table[name], utc=True)
    return table


def _death(
    patient: Patient,
    stay: Stay,
    start: pd.Timestamp,
    stop: pd.Timestamp,
    died: bool | None,
    days: bool,
) -> Iterable[tuple[pd.Timestamp, pd.Timestamp]]:
    if died and stay.stop and (patient.death is None or patient.death >= stay.stop):
        return [_bounds(stay.stop, days)]
    if patient.death is None:
        return []
    low, high = _bounds(patient.death, days)
    if not died and days and not pd.isna(stop):
        low = max(low, stop)
    return [(max(low, start), high)]


def _outcomes(rows: pd.DataFrame, until: pd.Timestamp) -> pd.Series:
    end = rows["at"] + _DAY
    unknown = rows["earliest"].lt(end) | end.gt(until)
    beyond = rows["stop"].isna() | end.gt(rows["stop"])
    unknown |= (rows["died"].isna() | rows["undated"]) & beyond
    return pd.Series(
        np.where(rows["latest"].le(end), 1.0, np.where(unknown, np.nan, 0.0)), index=rows.index
    )


def _after(at: datetime, days: bool) -> pd.Timestamp:
    return _bounds(at, days)[1]


def _windows(rows: pd.DataFrame, ward: Ward, style: Style) -> pd.DataFrame:
    """Of each landmark the latest values, the worst ones, and of glucose first value and count."""
    made = [
        (str(r.patient), r.analyte.feature, r.analyte.hours,
         _after(r.at, r.day or style != "times"), r.value * r.unit[1] + r.unit[2])
        for r in ward.results
        if r.told != "mistaken" and r.unit[0] != UNREAD
    ]  # fmt: skip
    results = pd.DataFrame(made, columns=["patient", "feature", "hours", "taken", "value"])
    results = results[results["value"] <= results["feature"].map(_HIGHEST)]
    seen = rows[["landmark", "patient", "at"]].merge(results, on="patient")
    back = pd.to_timedelta(seen["hours"], unit="h")
    seen = seen[(seen["taken"] <= seen["at"]) & (seen["taken"] > seen["at"] - back)]
    seen = seen.sort_values(["taken", "value"])
    found = seen.groupby(["landmark", "feature"])["value"].agg(
        ["first", "last", "min", "max", "size"]
    )
    wide = found.unstack("feature")
    columns = {name: wide["last"][name] for name in _LATEST}
    columns |= {name: wide[which][feature] for name, (feature, which) in _WORST.items()}
    columns |= {"glucose_first": wide["first"]["glucose"], "glucose_times": wide["size"]["glucose"]}
    return pd.DataFrame(columns).reset_index()


def _sequences(
    rows: pd.DataFrame, ward: Ward, style: Style, kind: Kind, groups: dict[str, str], most: int
) -> pd.DataFrame:
    """The groups of the 48 hours before, the latest first, and how many events."""
    made = [
        (str(e.patient), number, _after(e.at, e.day or style != "times"),
         groups.get(e.code, "other"))
        for number, e in enumerate(ward.events)
        if e.kind == kind and e.told != "mistaken"
    ]  # fmt: skip
    events = pd.DataFrame(made, columns=["patient", "event", "begun", "group"])
    seen = rows[["landmark", "patient", "at"]].merge(events, on="patient")
    window = seen["at"] - pd.Timedelta(hours=48)
    seen = seen[(seen["begun"] <= seen["at"]) & (seen["begun"] > window)]
    last = seen.groupby(["landmark", "group"], as_index=False)["begun"].max()
    last = last.sort_values(["begun", "group"], ascending=[False, True])
    last["place"] = last.groupby("landmark").cumcount() + 1
    wide = last.pivot(index="landmark", columns="place", values="group")
    wide = wide.reindex(columns=range(1, most + 1))
    wide.columns = [f"{kind}_{place}" for place in wide.columns]
    wide[f"{kind}s"] = seen.groupby("landmark")["event"].nunique().astype(float)
    return wide.reset_index()


COMPARED = (
    "age", "sex", *_LATEST, *_WORST, "glucose_first", "glucose_times", "medicine_1",
    "medicine_2", "medicine_3", "medicines", "procedure_1", "procedure_2", "procedures",
    "deteriorated", "day",
)  # fmt: skip
_EXACT = 1e-9


def differing(found: pd.DataFrame, wanted: pd.DataFrame) -> pd.DataFrame:
    """Patient, landmark and column, of every value that is not the wanted one, and of every row
    that one of the two lacks."""
    keys = ["patient", "at", "hours_in"]
    found, wanted = (
        table[[*keys, *COMPARED]].assign(at=pd.to_datetime(table["at"], utc=True), there=True)
        for table in (found, wanted)
    )
    both = found.merge(wanted, on=keys, how="outer", suffixes=("", " wanted"))
    wrong = []
    for name in ("there", *COMPARED):
        one, other = both[name], both[f"{name} wanted"]
        same = (one == other) | (one.isna() & other.isna())
        if pd.api.types.is_float_dtype(one) and pd.api.types.is_float_dtype(other):
            same |= (one - other).abs() <= _EXACT * other.abs()
        unlike = both.loc[~same, keys].assign(column=name, found=one[~same], wanted=other[~same])
        wrong.append(unlike)
    return pd.concat(wrong, ignore_index=True).sort_values(keys, ignore_index=True)
