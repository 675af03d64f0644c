"""The split: uniform, fixed for life, secret, and the patient's own."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from client.governance.patient_split import PatientSplit
from protocol.errors import Code, WardroundError

SECRET = bytes(range(32))


@given(st.text())
def test_a_place_is_in_the_unit_interval_and_the_patients_own(patient: str) -> None:
    place = PatientSplit(SECRET).place(patient)
    assert 0 <= place < 1
    assert (
        place
        == PatientSplit(SECRET).place(patient)
        == PatientSplit(SECRET).places(["x", patient])[1]
    )


def test_it_is_hmac_sha256_of_the_patient() -> None:
    tag = hmac.new(SECRET, b"patient:P1", hashlib.sha256).digest()
    assert PatientSplit(SECRET).place("P1") == (int.from_bytes(tag[:8]) >> 11) / 2**53


def test_places_are_uniform_and_another_secret_gives_others() -> None:
    names = [f"P{number}" for number in range(4000)]
    mine, theirs = PatientSplit(SECRET).places(names), PatientSplit(bytes(32)).places(names)
    assert stats.kstest(mine, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(mine, theirs)[0, 1]) < 0.08


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    first = PatientSplit.create(tmp_path)
    assert PatientSplit.create(tmp_path).check == PatientSplit.load(tmp_path).check == first.check
    assert len((tmp_path / "split.key").read_bytes()) == 32


@pytest.mark.parametrize("damage", ["missing", "short", "shared"])
def test_a_secret_that_is_not_there_whole_and_private_is_refused(
    tmp_path: Path, damage: str
) -> None:
    PatientSplit.create(tmp_path)
    path = tmp_path / "split.key"
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        path.write_bytes(b"x")
    else:
        path.chmod(0o644)
    with pytest.raises(WardroundError) as caught:
        PatientSplit.load(tmp_path)
    assert caught.value.code == Code.STATE
