"""Accounts: what is kept of a token, and who may pass."""

import json
import stat
from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from server.enrolment.accounts import Accounts, Credentials, issue

SECRET = Credentials(coordinator="127.0.0.1:1", ca="pem", account="alice", token="t0ken")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.json"


def test_a_token_opens_its_own_account_and_no_other(path: Path) -> None:
    accounts = Accounts(path)
    tokens = {name: accounts.add(name) for name in ("alice", "bob")}
    assert {name: accounts.owner(token) for name, token in tokens.items()} == {
        "alice": "alice",
        "bob": "bob",
    }
    alice = tokens["alice"]
    for wrong in ("", alice[:-1], alice + "A", alice.upper(), "alice", "é\udcff"):
        assert accounts.owner(wrong) is None


def test_the_file_holds_no_token_and_is_for_its_owner_only(path: Path) -> None:
    token = Accounts(path).add("alice")
    assert token not in path.read_text()
    assert token.removeprefix("wardround_") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(token) > 43, "256 bits"


def test_the_stored_hash_is_no_token(path: Path) -> None:
    accounts = Accounts(path)
    accounts.add("alice")
    stored = json.loads(path.read_text())["accounts"]["alice"]["token_sha256"]
    assert accounts.owner(stored) is None


def test_a_removal_by_another_process_holds_at_once(path: Path) -> None:
    serving, operator = Accounts(path), Accounts(path)
    alice, bob = operator.add("alice"), operator.add("bob")
    assert serving.owner(alice) == "alice"
    operator.remove("alice")
    assert serving.owner(alice) is None
    assert serving.owner(bob) == "bob"
    assert list(serving.all()) == ["bob"]


def test_a_new_token_does_not_revive_the_old_one(path: Path) -> None:
    accounts = Accounts(path)
    old = accounts.add("alice")
    accounts.remove("alice")
    new = accounts.add("alice")
    assert (accounts.owner(old), accounts.owner(new)) == (None, "alice")


@pytest.mark.parametrize("content", ["", "{", '{"accounts": {"alice": {}}}', '{"a": 1}', "[]"])
def test_an_unreadable_file_lets_nobody_in(path: Path, content: str) -> None:
    accounts = Accounts(path)
    token = accounts.add("alice")
    assert accounts.owner(token) == "alice"
    path.write_text(content)
    assert accounts.owner(token) is None
    with pytest.raises(WardroundError) as refused:
        accounts.add("bob")
    newer = content == '{"a": 1}'  # a field that a later release may have added
    assert refused.value.code is (Code.RELEASE if newer else Code.CONFIGURATION)
    assert path.read_text() == content, "what might be repaired was overwritten"


def test_without_a_file_nobody_passes(path: Path) -> None:
    assert Accounts(path).owner("") is None
    assert Accounts(path).all() == {}


@pytest.mark.parametrize("name", ["", "Alice", "a b", "-a", "a" * 65, "a\n"])
def test_names_that_cannot_be(path: Path, name: str) -> None:
    with pytest.raises(WardroundError) as refused:
        Accounts(path).add(name)
    assert refused.value.code is Code.USAGE
    assert Accounts(path).all() == {}


def test_a_name_is_given_once_and_taken_once(path: Path) -> None:
    accounts = Accounts(path)
    accounts.add("alice")
    with pytest.raises(WardroundError, match="already"):
        accounts.add("alice")
    accounts.remove("alice")
    with pytest.raises(WardroundError, match="no account"):
        accounts.remove("alice")


def test_credentials_go_into_a_private_file_once(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    issue(path, SECRET)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Credentials.load(path) == SECRET
    with pytest.raises(WardroundError, match="exists"):
        issue(path, SECRET)


def test_credentials_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    issue(path, SECRET)
    path.chmod(0o640)
    with pytest.raises(WardroundError) as refused:
        Credentials.load(path)
    assert refused.value.code is Code.CREDENTIALS
    assert "chmod 600" in refused.value.remedy


@pytest.mark.parametrize("content", ["", "{}", '{"token": 1}', "\xff"])
def test_a_file_that_holds_no_credentials(tmp_path: Path, content: str) -> None:
    path = tmp_path / "alice.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(WardroundError) as refused:
        Credentials.load(path)
    assert refused.value.code is Code.CREDENTIALS


def test_no_token_in_a_representation() -> None:
    assert "t0ken" not in repr(SECRET)


def test_a_token_expires(path: Path) -> None:
    accounts = Accounts(path)
    assert accounts.owner(accounts.add("alice", days=1)) == "alice"
    assert accounts.owner(accounts.add("bob", days=0)) is None
    assert accounts.all()["bob"].expired()


def test_a_rotated_account_keeps_its_name_and_not_its_token(path: Path) -> None:
    accounts = Accounts(path)
    old, bob = accounts.add("alice", days=0, role="all_studies"), accounts.add("bob")
    created = accounts.all()["alice"].created
    new = accounts.rotate("alice")
    assert [accounts.owner(token) for token in (old, new, bob)] == [None, "alice", "bob"]
    assert accounts.sees_all("alice"), "its role is kept"
    assert accounts.all()["alice"].created == created
    accounts.rotate("alice", role="own_studies")
    assert not accounts.sees_all("alice")
    with pytest.raises(WardroundError, match="no account carol"):
        accounts.rotate("carol")


def test_a_token_that_cannot_be_delivered_changes_nothing(path: Path) -> None:
    def full(token: str) -> None:
        raise OSError("no room")

    accounts = Accounts(path)
    old = accounts.add("alice")
    with pytest.raises(OSError, match="no room"):
        accounts.rotate("alice", deliver=full)
    with pytest.raises(OSError, match="no room"):
        accounts.add("bob", deliver=full)
    assert accounts.owner(old) == "alice"
    assert list(accounts.all()) == ["alice"]


def test_an_account_of_an_older_release_does_not_expire_and_sees_its_own_studies(
    path: Path,
) -> None:
    accounts = Accounts(path)
    token = accounts.add("alice", days=0, role="all_studies")
    stored = json.loads(path.read_text())
    for later in ("expires", "role"):
        del stored["accounts"]["alice"][later]
    path.write_text(json.dumps(stored))
    assert accounts.owner(token) == "alice"
    assert not accounts.sees_all("alice")


@pytest.mark.parametrize("expires", ["soon", "2999-01-01T00:00:00", "", 7])
def test_an_expiry_that_is_no_time_lets_nobody_in(path: Path, expires: object) -> None:
    accounts = Accounts(path)
    token = accounts.add("alice")
    stored = json.loads(path.read_text())
    stored["accounts"]["alice"]["expires"] = expires
    path.write_text(json.dumps(stored))
    assert accounts.owner(token) is None
