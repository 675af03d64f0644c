"""Finds what looks wrong in a cohort's table, for the site alone: nothing of this leaves it.

Rows, missing values, values outside the public range, other units, misspelt categories, repeated
patients, columns that give the label away, dates in the wrong order. No value is quoted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.outcomes.binary import Binary
from tasks.base import Task
from tasks.schema import PATIENT, Column, Table, texts

FACTORS: dict[str, dict[str, tuple[float, float]]] = {
    "mg/dL": {"mmol/L of glucose": (18.016, 0), "mmol/L of cholesterol": (38.67, 0),
              "mmol/L of urea": (2.801, 0), "umol/L of creatinine": (1 / 88.42, 0),
              "umol/L of bilirubin": (1 / 17.10, 0), "g/L": (100, 0)},
    "mmol/L": {"mg/dL of glucose": (1 / 18.016, 0), "mg/dL of cholesterol": (1 / 38.67, 0),
               "mg/dL of lactate": (1 / 9.008, 0)},
    "umol/L": {"mg/dL of creatinine": (88.42, 0), "mg/dL of bilirubin": (17.10, 0)},
    "g/dL": {"g/L": (0.1, 0), "mmol/L of haemoglobin": (1.6114, 0)},
    "g/L": {"g/dL": (10, 0)},
    "mm[Hg]": {"kPa": (7.50062, 0), "cm[Hg]": (10, 0)},
    "kPa": {"mm[Hg]": (0.133322, 0)},
    "Cel": {"[degF]": (5 / 9, -160 / 9), "K": (1, -273.15)},
    "kg": {"[lb_av]": (0.453592, 0), "g": (0.001, 0)},
    "cm": {"m": (100, 0), "[in_i]": (2.54, 0), "mm": (0.1, 0)},
    "m": {"cm": (0.01, 0)},
    "a": {"mo": (1 / 12, 0), "d": (1 / 365.25, 0)},
    "d": {"h": (1 / 24, 0)},
    "h": {"d": (24, 0), "min": (1 / 60, 0)},
    "10*3/uL": {"/uL": (1e-3, 0)},
    "%": {"1 (a fraction)": (100, 0)},
    "1": {"%": (0.01, 0)},
}  # fmt: skip
"""Declared unit (UCUM) -> unit that a value may have instead -> (factor, offset) to convert it."""

_MAX_OUTSIDE, _MIN_INSIDE = 0.5, 0.9
_TELLTALE_AUC, _MIN_ROWS = 0.99, 10
"""An area under the curve that no honest predictor reaches; rows of each label that it takes."""


@dataclass(frozen=True)
class ColumnQuality:
    """One column: counts of rows, and the doubts about it in words.

    alone: the area under the ROC curve of this column as the only predictor, 0.5 to 1; None where
    there are too few rows. histogram: counts over the public range in equal bins, or by category.
    """

    name: str
    unit: str
    missing: int
    outside: int
    alone: float | None
    labels: tuple[str, ...]
    histogram: tuple[int, ...]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quality:
    """A cohort's table: counts, columns, and the doubts that are about no single column."""

    task: str
    rows: int
    patients: int
    most_rows: int
    unlabelled: int
    positives: int | None
    """Rows with label 1; None where the outcome is not binary."""
    columns: tuple[ColumnQuality, ...]
    doubts: tuple[str, ...] = ()

    @property
    def prevalence(self) -> float | None:
        """Share of label 1 among the labelled rows."""
        labelled = self.rows - self.unlabelled
        known = self.positives if labelled else None
        return None if known is None else known / labelled

    @property
    def all_doubts(self) -> tuple[str, ...]:
        """Those of the cohort, then those of its columns."""
        return (*self.doubts, *(doubt for column in self.columns for doubt in column.doubts))


def assess(task: Task, table: Table, today: date | None = None) -> Quality:
    """Assesses a table with all of the schema's columns; keys of pictures and masks may stand for
    themselves.

    today: dates after it are in the future. Raises WardroundError(MALFORMED_DATA) naming column
    and row where a number is none.
    """
    schema = task.schema
    labels, label_doubts = _labels(task, table)
    labelled = ~np.isnan(labels)
    of_two = isinstance(task.outcome, Binary)
    alone = labels if of_two else np.full(len(labels), np.nan)  # no column is an AUC of others
    patients = texts(table[PATIENT])
    _, counts = np.unique(patients.astype(str), return_counts=True)
    doubts = [*label_doubts, *_date_doubts(task, table, today)]
    if (several := int((counts > 1).sum())) > 0:
        doubts.append(f"{several} patients have several rows, one has {int(counts.max())}.")
    if (nameless := sum(not str(p or "").strip() for p in patients)) > 0:
        doubts.append(f"{nameless} rows name no patient.")
    return Quality(
        task.name,
        len(labels),
        len(counts),
        int(counts.max(initial=0)),
        int((~labelled).sum()),
        int((labels == 1).sum()) if of_two else None,
        tuple(_column(column, table[column.name], alone) for column in schema.columns),
        tuple(doubts),
    )


def unit_doubts(column: Column, values: npt.NDArray[Any]) -> Iterator[str]:
    """Whether a column of numbers is empty, or looks as if it came in another unit."""
    numbers = column.numbers(values)
    there = numbers[~np.isnan(numbers)]
    if not len(there):
        yield f"Column {column.name} is missing in every row."
    elif np.mean(_outside(column, there)) > _MAX_OUTSIDE:
        better = [
            name
            for name, (factor, offset) in FACTORS.get(column.unit, {}).items()
            if np.mean(~_outside(column, there * factor + offset)) > _MIN_INSIDE
        ]
        yield (
            f"Most of column {column.name} lies outside its public range "
            f"{column.low:g} to {column.high:g} {column.unit}: is the unit right?"
            + (f" It would fit {' or '.join(better)}." if better else "")
        )


def _outside(column: Column, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((numbers < column.low) | (numbers > column.high))


def _column(
    column: Column, values: npt.NDArray[Any], labels: npt.NDArray[np.float64]
) -> ColumnQuality:
    if column.kind == "number":
        numbers = column.numbers(values)
        there = numbers[~np.isnan(numbers)]
        limits = column.low, column.high
        counts, edges = np.histogram(np.clip(there, *limits), 20, limits)
        alone = _alone(numbers, labels)
        doubts, outside = list(unit_doubts(column, values)), int(_outside(column, there).sum())
        names = tuple(f"{edge:.4g}" for edge in edges[:-1])
        missing = int(np.isnan(numbers).sum())
    else:
        words = texts(values)
        codes = np.full(len(words), np.nan)
        for code, category in enumerate(column.categories):
            codes[words == category] = code
        absent = np.array([word is None for word in words], dtype=bool)
        strange = np.isnan(codes) & ~absent
        doubts = list(_category_doubts(column, words, strange))
        rates = _rates(codes, labels)
        alone, outside, missing = _alone(rates, labels), int(strange.sum()), int(absent.sum())
        counts = np.array([(codes == code).sum() for code in range(len(column.categories))])
        names = column.categories
        if missing == len(words):
            doubts.append(f"Column {column.name} is missing in every row.")
    if alone is not None and alone >= _TELLTALE_AUC:
        doubts.append(
            f"Column {column.name} predicts the label by itself (AUC {alone:.3f}): "
            "was it recorded after the outcome?"
        )
    return ColumnQuality(
        column.name,
        column.unit if column.kind == "number" else "",
        missing,
        outside,
        alone,
        names,
        tuple(int(count) for count in counts),
        tuple(doubts),
    )


def _category_doubts(
    column: Column, words: npt.NDArray[Any], strange: npt.NDArray[np.bool_]
) -> Iterator[str]:
    """Rows that are none of the categories, and which category most of them may have meant."""
    if not strange.any():
        return
    lowered = {category.lower(): category for category in column.categories}
    near = {
        lowered[hit]
        for word in set(words[strange].tolist())
        for hit in difflib.get_close_matches(str(word).strip().lower(), lowered, n=1, cutoff=0.6)
    }
    meant = f" Some look like {', '.join(sorted(near))}." if near else ""
    first = int(np.argmax(strange)) + 1
    yield (
        f"Column {column.name}: {int(strange.sum())} rows (the first is {first}) are none of "
        f"{', '.join(column.categories)}.{meant}"
    )


def _rates(
    codes: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N,) category codes -> the rate of label 1 in each row's category: its best ranking."""
    rates = np.full(len(codes), np.nan)
    labelled = ~np.isnan(labels)
    for code in np.unique(codes[~np.isnan(codes)]):
        members = (codes == code) & labelled
        if members.any():
            rates[codes == code] = labels[members].mean()
    return rates


def _alone(values: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]) -> float | None:
    """AUC of one column, whichever way round; missing values rank as one more group, lowest."""
    labelled = ~np.isnan(labels)
    from scipy.stats import rankdata  # 1 s: not for whoever only trains

    truth = labels[labelled] == 1
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if min(positives, negatives) < _MIN_ROWS:
        return None
    ranks = rankdata(np.nan_to_num(values[labelled], nan=-np.inf))
    area = (ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return float(max(area, 1 - area))


def _labels(task: Task, table: Table) -> tuple[npt.NDArray[np.float64], list[str]]:
    """(N,) labels, NaN where missing, and what looks wrong with them; of masks whether there is
    one, since nothing is loaded here."""
    if task.schema.masked:
        keys = [
            str(key) if key is not None and key == key else "" for key in table[task.schema.label]
        ]
        labels, doubts = np.where(np.array(keys) == "", np.nan, 0.0), []
    else:
        columns = task.schema.label_of(table)
        labels = task.outcome.labels_of(columns)
        labelled = ~np.isnan(labels)
        doubts = task.outcome.doubts(columns[labelled]) if labelled.any() else []
    return labels, doubts if (~np.isnan(labels)).any() else ["No row has a label."]


def _date_doubts(task: Task, table: Table, today: date | None) -> Iterator[str]:
    """The schema's date columns that the view has, in the order in which they must lie."""
    limit = np.datetime64(today or datetime.now(UTC).date())
    dates = [(name, _dates(table[name])) for name in task.schema.dates if name in table]
    for name, days in dates:
        if (late := int((days > limit).sum())) > 0:
            yield f"Column {name}: {late} rows lie in the future."
    for (earlier, first), (later, second) in pairwise(dates):
        if (turned := int((first > second).sum())) > 0:
            yield f"{turned} rows have {later} before {earlier}."


def _dates(values: npt.NDArray[Any]) -> npt.NDArray[np.datetime64]:
    """(N,) texts -> (N,) days, NaT where missing or no date."""
    days = np.full(len(values), "NaT", dtype="datetime64[D]")
    for row, value in enumerate(values):
        try:
            days[row] = np.datetime64(str(value)[:10], "D")
        except ValueError:
            continue
    return days
