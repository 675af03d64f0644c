"""What a view chooses images by: where they lie in their series and patient, and whose they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from client.data.dicom.objects.header import read_header
from client.data.dicom.objects.pseudonym import Pseudonyms
from tests.cases.imaging.objects import radiograph

Read = Callable[..., dict[str, str | float | None]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    names = Pseudonyms.create(tmp_path)

    def values(**said: object) -> dict[str, str | float | None]:
        dataset: Dataset = radiograph("P1", "1.2.3", "1.2", 4000)
        for name, value in said.items():
            setattr(dataset, name, value)
        dataset.save_as(tmp_path / "one.dcm", enforce_file_format=True)
        return read_header(tmp_path / "one.dcm", names).values

    return values


def test_a_slice_has_its_place_in_its_series(read: Read) -> None:
    found = read(
        InstanceNumber=12,
        ImagePositionPatient=[-125.5, 30, 812.25],
        ImageOrientationPatient=[1, 0, 0, 0, 0.9, -0.4],
        PixelSpacing=[0.7, 0.8],
    )
    assert [found[f"position_{axis}"] for axis in "xyz"] == [-125.5, 30, 812.25]
    assert (found["row_spacing"], found["column_spacing"]) == (0.7, 0.8)
    assert (found["instance_number"], found["orientation"]) == (12, "LP")


def test_patient_orientation_comes_before_cosines(read: Read) -> None:
    said = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    assert read(PatientOrientation=["P", "FL"], **said)["orientation"] == "PF"
    assert read(PatientOrientation=["", ""], **said)["orientation"] == "LP"
    assert read(PatientOrientation=["X", "F"])["orientation"] is None


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("045Y", "40-49"), ("040Y", "40-49"), ("009Y", "0-9"), ("018M", "0-9"), ("130M", "10-19"),
        ("003D", "0-9"), ("089Y", "80-89"), ("090Y", "90+"), ("117Y", "90+"),
        ("45", None), ("45Y", None), ("", None), ("ABCY", None),
    ],
)  # fmt: skip
def test_an_age_is_only_known_to_ten_years(read: Read, age: str, band: str | None) -> None:
    assert read(PatientAge=age)["age_band"] == band


@pytest.mark.parametrize(("sex", "kept"), [("F", "F"), ("O", "O"), ("", None), ("MILLER", None)])
def test_a_sex_is_a_defined_term(read: Read, sex: str, kept: str | None) -> None:
    assert read(PatientSex=sex)["sex"] == kept
