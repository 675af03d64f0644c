"""The index of images keeps apart who is not the same, keeps no name, and reads whole reports.

What each case stands for: two patients merged, as Patient ID is unique only within its issuer
(PS3.3, C.7.1.1), so that one clip is made for two people; free text kept because the name
attribute is anonymised, or because the name is short; one bad item that costs a whole report.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from client.data.dicom.objects.header import Header, Unreadable, read_header
from client.data.dicom.objects.pseudonym import Pseudonyms

HERE = Path(__file__).resolve().parent


def header(name: str) -> Header:
    return read_header(HERE / f"{name}.dcm", Pseudonyms(b"0" * 32))


def wrong(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)


def test_one_patient_id_of_two_issuers_is_two_patients() -> None:
    assert header("issuer_a").values["patient"] != header("issuer_b").values["patient"]


def holds(text: str, word: str) -> bool:
    """A short word counts as a whole word only: it may well be a part of others."""
    text, word = text.lower(), word.lower()
    return word in text.replace("^", " ").split() or (len(word) > 3 and word in text)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(
            "typed_elsewhere_after_anonymised_name",
            ["KANARIQUX"],
            marks=wrong("A name typed elsewhere is not kept, also where the name is anonymised."),
        ),
        pytest.param(
            "two_letter",
            ["Li", "Bo"],
            marks=wrong("A name of two letters typed into other attributes is not kept."),
        ),
    ],
)
def test_a_name_typed_into_other_attributes_is_kept_nowhere(name: str, words: list[str]) -> None:
    values = header(name).values.items()
    kept = sorted(
        column
        for column, value in values
        if isinstance(value, str) and any(holds(value, word) for word in words)
    )
    assert kept == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("dose_sr_emptynum", 70.0),
        ("dose_sr_text", 570.0),
    ],
)
def test_the_dose_length_product_of_a_report_is_read(name: str, wanted: float) -> None:
    try:
        seen: list[float | str | None] | str = list(header(name).dose.values())
    except Unreadable as unread:
        seen = unread.problem.value
    assert isinstance(seen, list), seen
    assert wanted in seen
