"""A model's record: only the coordinator's key signs it, and it names no file elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.record import (
    RECORD,
    SIGNATURE,
    SIGNER,
    ModelRecord,
    SignedRecord,
    digests_of,
)

KEY = Identity.generate()
PLAIN = ModelRecord(
    study=64 * "a",
    model="breast_cancer",
    version="1",
    weights=64 * "b",
    files={"MLmodel": 64 * "c", "data/data/weights.npz": 64 * "d"},
)
SIGNED = SignedRecord.make(PLAIN, KEY)


def test_a_signed_record_comes_back_from_its_tags() -> None:
    found = SignedRecord.of_tags(SIGNED.tags | {"mlflow.user": "ada"})
    assert found == SIGNED
    assert found is not None
    assert found.record == PLAIN
    assert found.is_signed_by(KEY.public_key)


def test_without_a_key_it_is_nobodys() -> None:
    unsigned = SignedRecord.make(PLAIN, None)
    assert unsigned.tags == {RECORD: unsigned.text}
    assert not unsigned.is_signed_by(KEY.public_key)
    assert unsigned.signer_fingerprint == "nobody"


@given(st.integers(0, len(SIGNED.text) - 1), st.characters(codec="ascii"))
def test_no_character_of_it_can_be_changed(place: int, other: str) -> None:
    text = SIGNED.text[:place] + other + SIGNED.text[place + 1 :]
    assert replace(SIGNED, text=text).is_signed_by(KEY.public_key) == (text == SIGNED.text)


def test_the_key_that_it_names_counts_for_nothing() -> None:
    forged = SignedRecord.make(PLAIN, Identity.generate())
    assert not forged.is_signed_by(KEY.public_key)
    relabelled = forged.tags | {SIGNER: KEY.public_key.hex()}
    found = SignedRecord.of_tags(relabelled)
    assert found is not None
    assert not found.is_signed_by(KEY.public_key)


def test_a_signature_for_another_purpose_is_none() -> None:
    other = KEY.sign("wardround audit entry", SIGNED.text.encode()).hex()
    assert not replace(SIGNED, signature=other).is_signed_by(KEY.public_key)
    assert not replace(SIGNED, signature="no hex").is_signed_by(KEY.public_key)


@pytest.mark.parametrize(
    "path", ["../weights.npz", "/etc/passwd", "data/../../x", ".env", "a//b", "a\\b", "a\nb", ""]
)
def test_a_record_that_names_a_file_elsewhere_is_refused(path: str) -> None:
    files = {path: 64 * "d"}
    text = PLAIN.model_copy(update={"files": files}).model_dump_json()
    with pytest.raises(WardroundError) as caught:
        SignedRecord.of_tags({RECORD: text, SIGNATURE: "", SIGNER: ""})
    assert caught.value.code == Code.WEIGHTS


@pytest.mark.parametrize("text", ["{", "null", '{"format": 2}', 9000 * " "])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(WardroundError) as caught:
        SignedRecord.of_tags({RECORD: text})
    assert caught.value.code == Code.WEIGHTS


def test_a_model_of_an_older_release_has_none() -> None:
    assert SignedRecord.of_tags({"wardround.study": 64 * "a"}) is None


def test_every_file_below_a_folder_is_counted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(b"abc")
    (tmp_path / "MLmodel").write_bytes(b"")
    assert digests_of(tmp_path) == {  # the examples of FIPS 180-4
        "MLmodel": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "data/x": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
