"""Radiation dose reports: CTDIvol and DLP of a study, from the tree of a structured report.

PS3.16, TID 10011 (CT Radiation Dose): the coded concepts are of the DICOM vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

SOP_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.88.67"})
"""X-Ray Radiation Dose SR Storage."""
_TOTAL_DLP, _MEAN_CTDIVOL = "113813", "113830"
_MAX_DEPTH, _MAX_ITEMS = 12, 20_000
"""Levels of nesting and items that are read: a report is a small tree."""


def totals(report: Dataset) -> dict[str, float]:
    """`dlp`, the report's total in mGy.cm, and `ctdivol_report`, the greatest mean CTDIvol in mGy;
    what is not there, not finite or negative is left out."""
    numbers = [(code, value) for code, value in _numbers(report) if 0 <= value < 1e6]
    dlp = [value for code, value in numbers if code == _TOTAL_DLP]
    ctdivol = [value for code, value in numbers if code == _MEAN_CTDIVOL]
    return ({"dlp": sum(dlp)} if dlp else {}) | (
        {"ctdivol_report": max(ctdivol)} if ctdivol else {}
    )


def _numbers(report: Dataset) -> Iterator[tuple[str, float]]:
    """(concept code, value) of every numeric item."""
    left, waiting = _MAX_ITEMS, [(report, 0)]
    while waiting and left:
        node, depth = waiting.pop()
        left -= 1
        if depth < _MAX_DEPTH:
            waiting += [(child, depth + 1) for child in node.get("ContentSequence") or ()]
        if node.get("ValueType") == "NUM":
            concept, measured = node.ConceptNameCodeSequence[0], node.MeasuredValueSequence
            if concept.CodingSchemeDesignator == "DCM" and measured:
                yield str(concept.CodeValue), float(measured[0].NumericValue)
