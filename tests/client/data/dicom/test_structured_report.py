"""A report is of the patient whose image it is about, whatever the alphabet, and warns nobody."""

from __future__ import annotations

import io
import subprocess
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from client.data.dicom.results.influence_map import influence_map
from client.data.dicom.results.structured_report import Finding, ModelStatement, structured_report
from protocol.errors import Code, WardroundError
from tests.client.data.dicom.dicom_files import radiograph, written

MODEL = ModelStatement("chest", "3", "a" * 64, "b" * 64, "Not for diagnosis.", "DX")
FOUND = [Finding("Probability of", "Pneumonia", 0.25)]
NOW = datetime(2027, 3, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        (None, "Smith^Ada"),
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 144", "Люк^Иван"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("ISO_IR 192", "single component"),
    ],
)
def test_the_patients_name_is_kept_in_any_alphabet_and_quoted_nowhere(
    characters: Any, name: str, tmp_path: Path
) -> None:
    said = {"PatientName": name, "SpecificCharacterSet": characters}
    file = written(radiograph(0, **said), tmp_path / "image.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uid, content = structured_report(file, MODEL, FOUND, NOW)
    report = dcmread(io.BytesIO(content))
    assert report.SOPInstanceUID == uid
    assert report.PatientName == dcmread(file).PatientName
    assert report.StudyInstanceUID == dcmread(file).StudyInstanceUID


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SOPInstanceUID"])
def test_an_image_of_no_study_is_refused_without_its_name(missing: str, tmp_path: Path) -> None:
    dataset = radiograph(0)
    file = written(dataset, tmp_path / "image.dcm")
    stripped = dcmread(file)
    delattr(stripped, missing)
    stripped.save_as(file)
    with pytest.raises(WardroundError) as caught:
        structured_report(file, MODEL, FOUND, NOW)
    assert caught.value.code == Code.MALFORMED_DATA
    assert "CANARY" not in str(caught.value)
    with pytest.raises(WardroundError):
        structured_report(tmp_path / "gone.dcm", MODEL, FOUND, NOW)


def test_each_class_is_a_measurement_and_so_is_a_number(dicom3tools: Path, tmp_path: Path) -> None:
    file = written(radiograph(0), tmp_path / "image.dcm")
    found = [Finding("Probability of", f"{k}: {'Pneumonia ' * 9}", k / 10) for k in range(3)]
    found.append(Finding("Predicted", "Days until discharge", 12.345678901234567))
    _, content = structured_report(file, MODEL, found, NOW)
    report = tmp_path / "report.dcm"
    report.write_bytes(content)
    measured = [item for item in _items(dcmread(report)) if item.ValueType == "NUM"]
    values = [item.MeasuredValueSequence[0].FloatingPointValue for item in measured]
    assert values == [0.0, 0.1, 0.2, 12.345678901234567]
    names = [item.ConceptNameCodeSequence[0].CodeMeaning for item in measured]
    assert len(set(names)) == 4
    assert len({item.ConceptNameCodeSequence[0].CodeValue for item in measured}) == 4
    assert all(len(name) <= 64 for name in names)
    said = subprocess.run([dicom3tools, report], capture_output=True, text=True).stderr
    assert "Error" not in said, said


def _items(of: Any) -> Iterator[Any]:
    for item in of.get("ContentSequence", ()):
        yield item
        yield from _items(item)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"StudyTime": "11:20:00"}, {"StudyTime": "112000"}),
        ({"StudyDate": "1997.04.24"}, {"StudyDate": "19970424"}),
        ({"StudyDate": "00000000", "PatientBirthDate": "anon"}, {"StudyDate": ""}),
        ({"PatientAge": "81"}, {"PatientAge": None}),
        ({"PatientAge": "081Y", "StudyTime": "1120.5"}, {"PatientAge": "081Y", "StudyTime": ""}),
    ],
)
def test_a_date_that_a_scanner_wrote_wrong_withholds_no_result(
    said: dict[str, Any], expected: dict[str, str | None], tmp_path: Path, dicom3tools: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = written(radiograph(0, **said), tmp_path / "image.dcm")
    influence = np.full((28, 28), 200, dtype=np.uint8)
    for _, content in (
        structured_report(file, MODEL, FOUND, NOW),
        influence_map(file, MODEL, influence, NOW),
    ):
        (made := tmp_path / "made.dcm").write_bytes(content)
        report = dcmread(made)
        for name, value in expected.items():
            assert (str(report.get(name)) if name in report else None) == value
        checked = subprocess.run([dicom3tools, made], capture_output=True, text=True)
        assert "Error" not in checked.stderr, checked.stderr


@pytest.mark.parametrize(
    ("said", "thickness"),
    [
        ({"SliceThickness": 5}, 5),
        ({"SliceThickness": 5, "SpacingBetweenSlices": 4}, 5),
        ({"SpacingBetweenSlices": 4}, 4),
        ({}, None),
    ],
)
def test_a_map_of_a_slice_says_how_thick_that_is_and_no_more(
    said: dict[str, Any], thickness: float | None, tmp_path: Path, dicom3tools: Path
) -> None:
    slice_: dict[str, Any] = {
        "Modality": "CT",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "PixelSpacing": [0.7, 0.7],
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "FrameOfReferenceUID": "1.2.3.4",
    }
    file = written(radiograph(0, **slice_, **said), tmp_path / "image.dcm")
    influence = np.full((28, 28), 200, dtype=np.uint8)
    if thickness is None:  # none may be made up, and a Segmentation of a slice needs one
        with pytest.raises(WardroundError):
            influence_map(file, MODEL, influence, NOW)
        return
    _, content = influence_map(file, MODEL, influence, NOW)
    (made := tmp_path / "made.dcm").write_bytes(content)
    (measures,) = dcmread(made).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.SliceThickness == thickness
    assert measures.get("SpacingBetweenSlices") == said.get("SpacingBetweenSlices")
    checked = subprocess.run([dicom3tools, made], capture_output=True, text=True)
    assert "Error" not in checked.stderr, checked.stderr
