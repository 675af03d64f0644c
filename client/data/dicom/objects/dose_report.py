"""Radiation dose reports: CTDIvol and DLP of a study, from the tree of a structured report.

PS3.16, TID 10011 to 10013 (CT Radiation Dose): the coded concepts are of the DICOM vocabulary, the
units of UCUM. An item that is not as the template has it costs itself, never the report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pydicom.dataset import Dataset

from client.data.dicom.objects.attributes import DOSE_COLUMNS, DOSE_LINKS

SOP_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.88.67"})
"""X-Ray Radiation Dose SR Storage."""
PREDECESSORS = 0x0040A360
"""Predecessor Documents Sequence (PS3.3, C.17.2): the reports that this one replaces."""
T = TypeVar("T")
STORED = (*DOSE_COLUMNS, *DOSE_LINKS)
_TOTAL_DLP, _MEAN_CTDIVOL, _EVENT = "113813", "113830", "113769"
_MAX_DEPTH, _MAX_ITEMS = 12, 20_000
"""Levels of nesting and items that are read: a report is a small tree."""
_PARTS = {"": 1e3, "d": 1e2, "c": 1e1, "m": 1.0, "u": 1e-3}
"""Prefixes of the gray, in mGy."""
_LENGTHS = {"m": 1e2, "cm": 1.0, "mm": 1e-1}
"""In cm."""


@dataclass(frozen=True)
class DoseReport:
    """What a report states: its total DLP in mGy.cm and its greatest mean CTDIvol in mGy, None
    where it states none. events: the irradiation events that it is about, by name; replaces: the
    reports that it takes the place of, by name."""

    dlp: float | None
    ctdivol: float | None
    events: frozenset[str] = frozenset()
    replaces: frozenset[str] = frozenset()

    @staticmethod
    def of_columns(
        dlp: float | None, ctdivol: float | None, events: str | None, replaces: str | None
    ) -> DoseReport:
        """As the index stores it: `columns`, in order."""
        names = (frozenset((text or "").split()) for text in (events, replaces))
        return DoseReport(dlp, ctdivol, *names)

    @property
    def columns(self) -> dict[str, float | str | None]:
        """By `attributes.DOSE_COLUMNS` and `attributes.DOSE_LINKS`."""
        names = [" ".join(sorted(names)) or None for names in (self.events, self.replaces)]
        return dict(zip(STORED, (self.dlp, self.ctdivol, *names), strict=True))


class StudyDose(NamedTuple):
    """A study's DLP in mGy.cm and greatest mean CTDIvol in mGy."""

    dlp: float | None
    ctdivol: float | None


def read(report: Dataset, name: Callable[[str], str]) -> DoseReport:
    """What is not there, not finite, negative, or in a unit of something else is left out. `name`
    makes of a UID what may be kept of it."""
    items = list(_items(report))
    dlp = _stated(items, _TOTAL_DLP, lambda item: _measured(item, length=True))
    return DoseReport(
        sum(dlp) if dlp else None,
        max(
            _stated(items, _MEAN_CTDIVOL, lambda item: _measured(item, length=False)), default=None
        ),
        frozenset(name(uid) for uid in _stated(items, _EVENT, lambda item: str(item.UID))),
        frozenset(name(uid) for uid in _predecessors(report)),
    )


def of_study(reports: Iterable[tuple[str, DoseReport]]) -> StudyDose:
    """The dose of all reports of one study, each with its own name. Not counted: a copy, a report
    that another one replaces, and one whose irradiation events another one states too, since a
    scanner sends its report again as the examination goes on."""
    by_name = dict(reports)
    replaced = frozenset[str]().union(*(report.replaces for report in by_name.values()))
    counted: list[DoseReport] = []
    left = [(own, report) for own, report in by_name.items() if own not in replaced]
    for _, report in sorted(left, key=lambda one: (-len(one[1].events), -(one[1].dlp or 0.0))):
        if not report.events or not any(report.events <= other.events for other in counted):
            counted.append(report)
    dlp = [report.dlp for report in counted if report.dlp is not None]
    ctdivol = [report.ctdivol for report in counted if report.ctdivol is not None]
    return StudyDose(sum(dlp) if dlp else None, max(ctdivol, default=None))


def _items(report: Dataset) -> Iterator[Dataset]:
    left, waiting = _MAX_ITEMS, [(report, 0)]
    while waiting and left:
        node, depth = waiting.pop()
        left -= 1
        if depth < _MAX_DEPTH:
            waiting += [(child, depth + 1) for child in _sequence(node, "ContentSequence")]
        yield node


def _sequence(node: Dataset, keyword: str) -> list[Dataset]:
    """Its items, none where it is damaged."""
    with _passed_over():
        return list(node.get(keyword) or ())
    return []


def _stated(items: Sequence[Dataset], code: str, value: Callable[[Dataset], T]) -> list[T]:
    """The values of the items with this code of the DICOM vocabulary that can be read."""
    found = []
    for item in items:
        with _passed_over():
            concept = item.ConceptNameCodeSequence[0]
            if (concept.CodingSchemeDesignator, concept.CodeValue) == ("DCM", code):
                found.append(value(item))
    return found


@contextmanager
def _passed_over() -> Iterator[None]:
    """What pydicom meets in a damaged item, or a missing attribute, ends this block alone."""
    try:
        yield
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return


def _measured(item: Dataset, *, length: bool) -> float:
    """In mGy, with `length` in mGy.cm; of an item without unit the template's. Raises
    ValueError, KeyError, and what a missing attribute raises."""
    measured = item.MeasuredValueSequence[0]
    value = float(measured.NumericValue)
    unit = _sequence(measured, "MeasurementUnitsCodeSequence")
    if unit:
        value *= _factor(unit[0].CodeValue, length=length)
    if not 0 <= value < 1e6:
        raise ValueError
    return value


def _factor(unit: Any, *, length: bool) -> float:
    """Of a unit in UCUM, also where its point is missing or is a star: scanners write mGycm."""
    match = re.fullmatch(r"(.?)Gy(?:[.*]?(m|cm|mm))?", str(unit).strip())
    if match is None or (match[2] is not None) != length:
        raise ValueError
    return _PARTS[match[1]] * (_LENGTHS[match[2]] if length else 1.0)


def _predecessors(report: Dataset) -> Iterator[str]:
    """SOP Instance UIDs (PS3.3, C.17.2.3: studies, series, instances)."""
    for study in _sequence(report, "PredecessorDocumentsSequence"):
        for series in _sequence(study, "ReferencedSeriesSequence"):
            for document in _sequence(series, "ReferencedSOPSequence"):
                if uid := document.get("ReferencedSOPInstanceUID"):
                    yield str(uid)
