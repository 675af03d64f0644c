"""Code strings are of closed lists, makers of a known one or hashed; the rest is dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from client.data.dicom.objects import defined_terms
from client.data.dicom.objects.attributes import ATTRIBUTES
from client.data.dicom.objects.header import read_header
from client.data.dicom.objects.pseudonym import Pseudonyms
from tests.client.data.dicom.dicom_files import radiograph, written

NAMES = Pseudonyms(bytes(range(32)))


def test_modalities_are_those_of_the_standards_context_group() -> None:
    names = codes.cid33.dir()
    assert set(defined_terms.MODALITIES) == {getattr(codes.cid33, name).value for name in names}


def test_every_code_has_its_list_and_every_term_fits_its_representation() -> None:
    for attribute in ATTRIBUTES:
        assert bool(attribute.terms) == (attribute.kind == "code")
        assert all(len(term) <= 16 for term in attribute.terms.values())
    assert set(defined_terms.BODY_PARTS) >= defined_terms.HEAD


@given(st.text(max_size=20))
def test_a_text_is_a_term_of_the_list_or_nothing(text: str) -> None:
    kept = defined_terms.term(text, defined_terms.BODY_PARTS)
    assert kept is None or kept in defined_terms.BODY_PARTS.values()
    made = defined_terms.manufacturer(text)
    assert made is None or made in defined_terms.MANUFACTURERS.values()


@pytest.mark.parametrize(
    ("column", "changes", "kept"),
    [
        ("body_part", {"BodyPartExamined": "whole body "}, "WHOLEBODY"),
        ("body_part", {"BodyPartExamined": "LI BO"}, None),
        ("body_part", {"BodyPartExamined": "CHEST 22071933"}, None),
        ("view_position", {"ViewPosition": "MLO"}, "MLO"),
        ("view_position", {"ViewPosition": "BO"}, None),
        ("modality", {"Modality": "MG", "AccessionNumber": "MG-4711"}, "MG"),
        ("modality", {"Modality": "LI"}, None),
        ("laterality", {"Laterality": "X"}, None),
        ("photometric", {"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ("manufacturer", {"Manufacturer": "Philips Medical Systems, ward of Li"}, "PHILIPS"),
        ("manufacturer", {"Manufacturer": "General Electric"}, "GE"),
        ("manufacturer", {"Manufacturer": "Li Bo & Co"}, NAMES.of("Li Bo & Co")),
        ("device", {"ManufacturerModelName": "Li Bo unit"}, NAMES.of("Li Bo unit")),
        ("protocol", {"ProtocolName": "Chest 22.07.1933"}, "chest"),
        ("protocol", {"ProtocolName": "Chest 22 7 33"}, "chest"),
        ("protocol", {"ProtocolName": "Chest 22JUL1933"}, "chest"),
        ("protocol", {"ProtocolName": "Chest jul1933"}, "chest"),
        ("protocol", {"ProtocolName": "Chest 120 kV"}, "chest 120"),
        ("protocol", {"ProtocolName": "T2 Chest 19330722"}, "t2 chest"),
    ],
)
def test_what_is_typed_is_kept_as_a_term_or_not_at_all(
    tmp_path: Path, column: str, changes: dict[str, Any], kept: str | None
) -> None:
    path = written(radiograph(0, **changes), tmp_path / "x")
    assert read_header(path, NAMES).values[column] == kept


def test_a_name_of_two_letters_is_not_kept_though_the_site_calls_it_harmless(
    tmp_path: Path,
) -> None:
    path = written(radiograph(0, PatientName="Li^Bo", ProtocolName="Chest Li Bo"), tmp_path / "x")
    assert read_header(path, NAMES, frozenset({"li", "bo"})).values["protocol"] == "chest"


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({"BodyPartExamined": "BRAIN"}, True),
        ({"BodyPartExamined": "HEAD NECK"}, True),
        ({"BodyPartExamined": "CRANIO"}, True),
        ({"BodyPartExamined": "", "SeriesDescription": "t1 Sch\u00e4del nativ"}, True),
        ({"BodyPartExamined": "", "StudyDescription": "MR_BRAIN_WO"}, True),
        ({"BodyPartExamined": "CHEST", "ProtocolName": "PET whole body"}, True),
        ({"BodyPartExamined": "CHEST", "ProtocolName": "Thorax"}, False),
        ({"BodyPartExamined": "ABDOMEN", "SeriesDescription": "arm overhead"}, False),
    ],
)
def test_an_object_says_whether_it_shows_a_head(
    tmp_path: Path, changes: dict[str, Any], head: bool
) -> None:
    path = written(radiograph(0, SpecificCharacterSet="ISO_IR 192", **changes), tmp_path / "x")
    assert read_header(path, NAMES).head is head
