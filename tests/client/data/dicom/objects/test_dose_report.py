"""What a study's radiation dose reports come to: units, odd items, reports sent again."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from client.data.dicom.objects.dose_report import DoseReport, StudyDose, of_study, read

DLP, CTDIVOL, EVENT = "113813", "113830", "113769"


def item(code: str, scheme: str = "DCM", **attributes: Any) -> Dataset:
    concept, made = Dataset(), Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator = code, scheme
    made.ConceptNameCodeSequence = [concept]
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def number(code: str, value: str | None, unit: str | None = None) -> Dataset:
    measured = Dataset()
    measured.NumericValue = value
    if unit is not None:
        measured.MeasurementUnitsCodeSequence = [Dataset()]
        measured.MeasurementUnitsCodeSequence[0].CodeValue = unit
    return item(code, ValueType="NUM", MeasuredValueSequence=[measured])


def report(*items: Dataset, **attributes: Any) -> Dataset:
    """As it comes out of a file: with values that are converted when they are looked at."""
    made = Dataset()
    made.ContentSequence = items
    for name, value in attributes.items():
        setattr(made, name, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = BytesIO()
    dcmwrite(file, made, implicit_vr=True, little_endian=True)
    return dcmread(file, force=True)


def said(*items: Dataset, **attributes: Any) -> DoseReport:
    return read(report(*items, **attributes), str)


@pytest.mark.parametrize(
    ("unit", "mgy_cm"),
    [
        ("mGy.cm", 70), ("mGycm", 70), ("mGy*cm", 70), ("Gy.cm", 70_000), ("uGy.m", 7),
        ("cGy.cm", 700), ("dGy.cm", 7000), ("mGy.mm", 7), (None, 70),
    ],
)  # fmt: skip
def test_a_dose_length_product_is_in_mgy_cm_whatever_its_unit(
    unit: str | None, mgy_cm: float
) -> None:
    assert said(number(DLP, "70", unit)).dlp == pytest.approx(mgy_cm)


@pytest.mark.parametrize("unit", ["mGy", "mSv.cm", "mGy.cm2", "1", "", "xGy.cm", "mgy.cm"])
def test_a_number_in_a_unit_of_something_else_is_none(unit: str) -> None:
    assert said(number(DLP, "70", unit)).dlp is None


def test_a_ctdivol_is_in_mgy() -> None:
    assert said(number(CTDIVOL, "0.012", "Gy"), number(CTDIVOL, "7", "mGy")).ctdivol == 12
    assert said(number(CTDIVOL, "7", "mGy.cm")).ctdivol is None


def test_an_odd_item_costs_itself() -> None:
    odd = [
        number(DLP, None),
        number(DLP, "-1"),
        number(DLP, "1e400"),
        item(DLP, ValueType="NUM"),
        item(DLP, ValueType="NUM", MeasuredValueSequence=[]),
        item(DLP, "99LOCAL", ValueType="NUM", MeasuredValueSequence=[Dataset()]),
        item(EVENT, ValueType="UIDREF"),
        Dataset(),
    ]
    nameless = number(DLP, "5")
    nameless.ConceptNameCodeSequence = []
    assert said(*odd, nameless, number(DLP, "70"), item(EVENT, UID="1.2.3")) == DoseReport(
        70, None, frozenset({"1.2.3"})
    )


def test_a_value_that_is_no_number_costs_itself() -> None:
    """Read from bytes: pydicom would not write it."""
    made = Dataset()
    made.ContentSequence = [number(DLP, "70"), number(DLP, "12345678")]
    file = BytesIO()
    dcmwrite(file, made, implicit_vr=True, little_endian=True)
    read_back = dcmread(BytesIO(file.getvalue().replace(b"12345678", b"12,5 mGy")), force=True)
    assert read(read_back, str).dlp == 70


def predecessors(uid: str) -> Mapping[str, Any]:
    study, series, document = Dataset(), Dataset(), Dataset()
    document.ReferencedSOPInstanceUID = uid
    series.ReferencedSOPSequence = [document, Dataset()]
    study.ReferencedSeriesSequence = [series]
    return {"PredecessorDocumentsSequence": [study, Dataset()]}


def test_a_report_that_another_replaces_does_not_count() -> None:
    first = said(number(DLP, "70"))
    second = said(number(DLP, "50"), **predecessors("1.2.3"))
    assert of_study([("1.2.3", first), ("1.2.4", second)]) == StudyDose(50, None)
    assert of_study([("1.2.5", first), ("1.2.4", second)]) == StudyDose(120, None)


def test_a_report_sent_again_as_the_examination_goes_on_counts_once() -> None:
    one, both, other = frozenset("a"), frozenset("ab"), frozenset("c")
    reports = [
        ("1", DoseReport(10, 1, one)),
        ("2", DoseReport(30, 2, both)),
        ("2", DoseReport(30, 2, both)),  # a copy
        ("3", DoseReport(30, 2, both)),  # the same, under another UID
        ("4", DoseReport(5, 9, other)),  # another scanner's
    ]
    assert of_study(reports) == StudyDose(35, 9)
    assert of_study(reversed(reports)) == StudyDose(35, 9)


def test_reports_that_name_no_events_are_added_up() -> None:
    assert of_study([("1", DoseReport(10, 1)), ("2", DoseReport(20, 3))]) == StudyDose(30, 3)
    assert of_study([("1", DoseReport(None, None))]) == StudyDose(None, None)


def test_it_is_stored_as_it_was_read() -> None:
    for dose in (DoseReport(7, 2, frozenset("ab"), frozenset("c")), DoseReport(None, None)):
        stored: dict[str, Any] = {**dose.columns}
        assert DoseReport.of_columns(*stored.values()) == dose
