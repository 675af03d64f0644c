"""Whose account asks what was decided last, and when nobody is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.review.newest import newest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from server.enrolment.accounts import Credentials, issue
from server.enrolment.certificates import Pki

KEY = Identity.generate().public_key.hex()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has logged in on this machine."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("WARDROUND_CREDENTIALS", raising=False)


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """Of a coordinator that does not answer."""
    pki = Pki(tmp_path / "pki")
    pki.create("Test", ["localhost"])
    file, ca = tmp_path / "ada.json", pki.ca_certificate.read_text()
    there = Credentials(
        coordinator="localhost:1", ca=ca, account="ada", token="t" * 43, signing_key=KEY
    )
    issue(file, there)
    return file


def bundle(tmp_path: Path, key: str = KEY) -> Path:
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps({"signing_key": key}))
    return file


def test_with_the_public_key_alone_nobody_is_asked(tmp_path: Path) -> None:
    assert newest(bundle(tmp_path), None, offline=False) is None
    with pytest.raises(WardroundError) as raised:
        newest(None, None, offline=False)
    assert raised.value.code is Code.CREDENTIALS


def test_a_coordinator_that_does_not_answer_has_not_withdrawn_nothing(account: Path) -> None:
    with pytest.raises(WardroundError, match="withdrawn since cannot be asked") as raised:
        newest(account, None, offline=False)
    assert raised.value.code is Code.UNREACHABLE
    assert "--offline" in raised.value.remedy
    assert newest(account, None, offline=True) is None


def test_an_account_at_hand_asks_for_a_bundle_of_the_same_coordinator(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROUND_CREDENTIALS", str(account))
    with pytest.raises(WardroundError, match="withdrawn since cannot be asked"):
        newest(bundle(tmp_path), None, offline=False)
    other = Identity.generate().public_key.hex()
    assert newest(bundle(tmp_path, other), None, offline=False) is None


def test_an_account_that_others_may_read_is_refused_and_not_passed_over(account: Path) -> None:
    account.chmod(0o644)
    with pytest.raises(WardroundError) as raised:
        newest(account, None, offline=False)
    assert raised.value.code is Code.CREDENTIALS
