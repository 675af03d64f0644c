"""What of an object's texts may be kept: no identifier gets through, whatever stands where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.dicom.objects import descriptors
from client.data.dicom.objects.header import read_header
from client.data.dicom.objects.pseudonym import Pseudonyms
from tests.client.data.dicom.dicom_files import radiograph, written

NAMES = Pseudonyms(bytes(range(32)))


@given(st.text(max_size=80))
def test_a_cleaned_text_holds_only_words_of_the_vocabulary(text: str) -> None:
    kept = descriptors.cleaned(text)
    if kept is not None:
        assert all(word in descriptors.VOCABULARY or len(word) <= 3 for word in kept.split())
        assert any(word in descriptors.VOCABULARY for word in kept.split())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Chest PA Mueller", "chest pa"),
        ("SMITH^JOHN 19600101", None),
        ("Thorax a.p. lieg. 120 kV", "thorax 120"),
        ("Fußgelenk", None),
        ("", None),
        ("123", None),
    ],
)
def test_protocol_names_are_cleaned(text: str, kept: str | None) -> None:
    assert descriptors.cleaned(text) == kept


def test_a_site_may_declare_more_words() -> None:
    assert descriptors.cleaned("Lunge stehend Meier", frozenset({"lunge"})) == "lunge"


@given(st.text(st.characters(categories=["L"]), min_size=4, max_size=12), st.text(max_size=20))
def test_a_text_that_repeats_a_name_betrays_it(name: str, beside: str) -> None:
    for identifying in descriptors.words_of([name]):
        repeated = name.upper().casefold() == name.casefold()
        found = descriptors.betrays(f"{beside} {name.upper()}", frozenset({identifying}))
        assert found or not repeated


@pytest.mark.parametrize(
    "changes",
    [
        {"BodyPartExamined": "MUELLER"},
        {"Manufacturer": "Mueller & Co"},
        {"ManufacturerModelName": "XR for MÜLLER-Lüdenscheid"},
        {"ProtocolName": "Mueller 7770777"},
        {"ViewPosition": "MUELLER"},
        {"Modality": "MUELLER"},
        {"ImageType": ["ORIGINAL", "MUELLER"]},
    ],
)
def test_a_patients_name_is_kept_wherever_it_stands_out_of_every_column(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    name = "Mueller^Eva=Müller-Lüdenscheid"
    named = radiograph(0, PatientName=name, SpecificCharacterSet="ISO_IR 192", **changes)
    path = written(named, tmp_path / "x")
    header = read_header(path, NAMES)
    texts = [value for value in header.values.values() if isinstance(value, str)]
    assert len(texts) > 5
    assert not [t for t in texts if "mueller" in t.casefold() or "lüdenscheid" in t.casefold()]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_numbers_are_read_in_every_encoding_and_absurd_ones_are_not_given(
    tmp_path: Path, syntax: str
) -> None:
    values: dict[str, Any] = {"CTDIvol": 12.5, "KVP": "1e9", "Exposure": "-5", "ExposureTime": "12"}
    header = read_header(written(radiograph(0, **values), tmp_path / "x", syntax), NAMES)
    found = {c: header.values[c] for c in ("ctdivol", "kvp", "exposure", "exposure_time", "rows")}
    wanted = {"ctdivol": 12.5, "kvp": None, "exposure": None, "exposure_time": 12.0, "rows": 64.0}
    assert found == wanted


def test_a_pseudonym_is_keyed_and_knows_padding_and_accents() -> None:
    assert NAMES.of("A1") == NAMES.of(" A1 \0")
    assert NAMES.of("Mu\u0308ller") == NAMES.of("M\u00fcller")
    assert NAMES.of("A1") != NAMES.of("A2")
    assert NAMES.of("A1") != Pseudonyms(bytes(32)).of("A1")
    assert len(NAMES.of("A1")) == 64


def test_identifiers_in_other_alphabets_join_to_labels(tmp_path: Path) -> None:
    named = radiograph(0, PatientID="ПЕТРОВ-7", SpecificCharacterSet="ISO_IR 144")
    header = read_header(written(named, tmp_path / "x"), NAMES)
    assert header.values["patient"] == NAMES.of("ПЕТРОВ-7")
