"""A bundle is what one coordinator signed, in every part, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.bundle import Bundle
from protocol.models.decision import OpenedEntry
from protocol.models.record import SignedRecord
from protocol.vectors import Layout
from tests.client.hospital import study
from tests.client.prediction.approvals import approved, history
from tests.protocol.models.bundles import KEY, TRUSTED, bundle, changed

WHOLE = bundle()
BYTES = WHOLE.to_bytes()
OTHER = Identity.generate()


def refused(data: bytes, trusted: bytes = TRUSTED) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        Bundle.parse(data, trusted, "model.safetensors")
    return caught.value


def header(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return found


def test_what_was_written_is_read(tmp_path: Path) -> None:
    WHOLE.write(tmp_path / "model.safetensors")
    read = Bundle.read(tmp_path / "model.safetensors", TRUSTED)
    assert (read.digest, read.study, read.card) == (WHOLE.digest, WHOLE.study, WHOLE.card)
    assert (read.signed, read.layout, read.name) == (WHOLE.signed, WHOLE.layout, "model/1")
    np.testing.assert_array_equal(read.weights, WHOLE.weights)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"another")
    with pytest.raises(WardroundError, match="cannot be written"):
        WHOLE.write(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == b"another"


def test_what_another_signed_is_refused() -> None:
    assert refused(BYTES, Identity.generate().public_key).code == Code.WEIGHTS
    assert "by nobody" in refused(bundle(key=None).to_bytes()).message


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("study", lambda b: changed(b, study=study())),
        ("card", lambda b: changed(b, card="# For everything")),
        ("weights", lambda b: changed(b, weights=np.nextafter(b.weights, np.float32(9)))),
        ("order of weights", lambda b: changed(b, layout=Layout(b.layout.entries[::-1]))),
        (
            "frozen parameters",
            lambda b: changed(b, frozen={"more": np.zeros(1, dtype=np.float32)}),
        ),
    ],
)
def test_no_part_can_be_exchanged(part: str, change: Callable[[Bundle], Bundle]) -> None:
    """Whoever has the file, and not the key, can make it agree with itself."""
    fault = refused(change(WHOLE).to_bytes())
    assert fault.code == Code.WEIGHTS
    assert f"its {part} is not what was signed" in fault.message


def test_a_tensor_beside_the_models_is_refused() -> None:
    tensors = load(BYTES) | {"weights/extra": np.zeros(3, dtype=np.float32)}
    assert "list of tensors" in refused(save(tensors, header(BYTES))).message


def test_what_a_newer_release_adds_is_refused_by_name() -> None:
    told = save(load(BYTES), header(BYTES) | {"wardround.more": "{}"})
    assert refused(told).code == Code.RELEASE
    assert refused(save(load(BYTES), header(BYTES) | {"wardround.bundle": "2"})).code == (
        Code.RELEASE
    )


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    assert refused(data).code == Code.WEIGHTS


@given(st.integers(0, len(BYTES) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, by: int) -> None:
    data = bytearray(BYTES)
    data[place] ^= by
    try:
        read = Bundle.parse(bytes(data), TRUSTED, "model.safetensors")
    except WardroundError:
        return
    assert read.to_bytes() != b""  # what the signature leaves open says nothing of the model
    assert read.signed.is_signed_by(KEY.public_key)
    np.testing.assert_array_equal(read.weights, WHOLE.weights)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WardroundError, match=r"gone\.safetensors cannot be read") as caught:
        Bundle.read(tmp_path / "gone.safetensors", TRUSTED)
    assert caught.value.code == Code.NO_DATA


def test_the_digest_is_that_of_what_was_signed() -> None:
    again = SignedRecord.make(WHOLE.signed.record, Identity.generate())
    assert changed(WHOLE, signed=again).digest == WHOLE.digest


# --- with a reviewer's approval
def test_an_approval_goes_with_the_bundle() -> None:
    whole = approved(WHOLE)
    read = Bundle.parse(whole.to_bytes(), TRUSTED, "model.safetensors")
    assert read.approval == whole.approval
    assert read.digest == WHOLE.digest, "a hospital's rules name the model, approved or not"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (lambda: approved(changed(WHOLE, signed=another())).approval, "about another version"),
        (lambda: history(WHOLE, "rejected").entries[0], "rita has rejected it"),
        (lambda: history(WHOLE, "approved", by=OTHER).entries[0], "not signed by the coordinator"),
    ],
    ids=["another model's", "a rejection", "another coordinator's"],
)
def test_what_is_no_approval_of_this_model_is_refused(
    entry: Callable[[], OpenedEntry], says: str
) -> None:
    fault = refused(changed(WHOLE, approval=entry()).to_bytes())
    assert fault.code is Code.REFUSED_POLICY
    assert says in fault.message


def another() -> SignedRecord:
    record = WHOLE.signed.record.model_copy(update={"version": "2"})
    return SignedRecord.make(record, KEY)
