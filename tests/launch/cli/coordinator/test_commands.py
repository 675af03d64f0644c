"""`wardround coordinator` as an operator types it."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.enrolment.join import FederationBundle
from client.transport.node_key import create_node_key
from launch.cli.coordinator.main import coordinator_app
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.terminal import command_line
from server.enrolment.accounts import Accounts, Credentials
from server.enrolment.roster import Roster


def do(*words: str | Path, says: str = "") -> Result:
    return CliRunner().invoke(coordinator_app, [str(word) for word in words], input=says)


def fails(*words: str | Path) -> WardroundError:
    error = do(*words).exception
    assert isinstance(error, WardroundError)
    return error


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cli") / "coordinator"
    assert do("init", made, "--host", "127.0.0.1", "--host", "localhost").exit_code == 0
    return made


@pytest.fixture
def card(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "card.json"
    content = {
        "site": f"s{abs(hash(request.node.name)) % 10**9}",
        "identity": Identity.generate().public_key.hex(),
        "node_key": create_node_key(tmp_path / "node.pem").decode(),
    }
    path.write_text(json.dumps(content))
    return path


def test_what_init_makes_is_for_its_owner_only(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    public = {"ca.crt", "server.crt"}
    for path in folder.rglob("*"):
        if path.name not in public:
            assert not path.stat().st_mode & 0o077, path


def test_init_never_overwrites(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert fails("init", folder, "--host", "127.0.0.1").code is Code.STATE
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    "options", [("--host", "not a host"), ("--host", "a.org", "--mlflow", "mlflow.db")]
)
def test_an_init_that_fails_leaves_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert fails("init", tmp_path / "new", *options).code is Code.CONFIGURATION
    assert list(tmp_path.iterdir()) == []


def test_a_site_is_enrolled_once_somebody_has_confirmed_it(
    folder: Path, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = json.loads(card.read_text())["site"]
    nobody = fails("enrol", card, "--patients", "250", "-f", folder)
    assert (nobody.code, "--yes" in nobody.remedy) == (Code.USAGE, True)
    monkeypatch.setattr(command_line, "_someone_is_there", lambda: True)
    declined = do("enrol", card, "--patients", "250", "-f", folder, says="n\n")
    assert declined.exit_code == 1
    assert name not in Roster(folder / "roster.json").sites()
    accepted = do("enrol", card, "--patients", "257", "-f", folder, says="y\n")
    assert accepted.exit_code == 0
    assert Roster(folder / "roster.json").sites()[name].patients == 250
    found = json.loads(do("status", "-f", folder, "--json").stdout)
    assert found["sites"][name]["fingerprint"] in accepted.stdout
    assert (found["running"], found["sites"][name]["online"]) == (False, False)
    assert do("expel", name, "-f", folder).exit_code == 0
    assert name not in Roster(folder / "roster.json").sites()


def test_the_bundle_is_what_a_site_joins_by(folder: Path, card: Path, tmp_path: Path) -> None:
    do("enrol", card, "--patients", "100", "-f", folder, "--yes")
    out = tmp_path / "bundle.json"
    told = do("bundle", "--out", out, "-f", folder)
    assert told.exit_code == 0
    bundle = FederationBundle.load(out)
    assert bundle.coordinator == "127.0.0.1:9092"
    assert bundle.ca_fingerprint() in told.stdout
    assert bundle.roster[json.loads(card.read_text())["site"]]
    assert fails("bundle", "--out", out, "-f", folder).code is Code.USAGE


def test_an_account_comes_and_goes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "alice.json"
    made = do("account", "add", "alice", "--out", out, "-f", folder)
    assert made.exit_code == 0
    found = Credentials.load(out)
    assert (found.account, found.coordinator) == ("alice", "127.0.0.1:9092")
    assert found.token not in made.output
    assert Accounts(folder / "accounts.json").owner(found.token) == "alice"
    assert list(json.loads(do("account", "list", "--json", "-f", folder).stdout)) == ["alice"]
    again = ("account", "rotate", "alice", "--role", "all_studies", "--days", "1")
    assert fails(*again, "--out", out, "-f", folder).code is Code.USAGE
    assert fails(*again, "--out", tmp_path / "no" / "alice", "-f", folder)
    assert Accounts(folder / "accounts.json").owner(found.token) == "alice", "nothing has changed"
    assert do(*again, "--out", tmp_path / "alice-2.json", "-f", folder).exit_code == 0
    assert Accounts(folder / "accounts.json").owner(found.token) is None
    found = Credentials.load(tmp_path / "alice-2.json")
    assert Accounts(folder / "accounts.json").owner(found.token) == "alice"
    assert "sees all_studies" in do("account", "list", "-f", folder).stdout
    assert do("account", "remove", "alice", "-f", folder).exit_code == 0
    assert Accounts(folder / "accounts.json").owner(found.token) is None


def test_an_account_whose_file_cannot_be_written_is_not_made(folder: Path, tmp_path: Path) -> None:
    assert fails("account", "add", "bob", "--out", tmp_path / "no" / "bob", "-f", folder)
    assert "bob" not in Accounts(folder / "accounts.json").all()


def test_a_renewed_certificate_is_for_the_same_names(folder: Path) -> None:
    before = (folder / "pki" / "server.crt").read_bytes()
    told = do("renew", "-f", folder)
    assert "127.0.0.1, localhost" in told.stdout
    assert (folder / "pki" / "server.crt").read_bytes() != before


def test_a_program_reads_what_every_command_did(tmp_path: Path, card: Path) -> None:
    folder, name = tmp_path / "made", json.loads(card.read_text())["site"]

    def told(*words: str | Path) -> Any:
        done = do(*words, "--json", *(() if words[0] == "init" else ("-c", folder)))
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    made = told("init", folder, "--host", "127.0.0.1", "--port", "1234")
    assert made == {
        "folder": str(folder),
        "address": "127.0.0.1:1234",
        "listen": "127.0.0.1:1234",
    }
    enrolled = told("enrol", card, "--patients", "257", "--yes")
    assert (enrolled["site"], enrolled["patients"]) == (name, 250)
    given = told("bundle", "--out", tmp_path / "bundle.json")
    assert given["sites"] == {name: enrolled["identity"]}
    assert told("status")["sites"][name]["fingerprint"] == enrolled["identity"]
    added = told("account", "add", "ada", "--out", tmp_path / "ada.json")
    assert (added["account"], added["file"]) == ("ada", str(tmp_path / "ada.json"))
    listed = told("account", "list")["ada"]
    assert (listed["expires"], listed["role"]) == (added["expires"], "own_studies")
    assert told("account", "remove", "ada") == {"removed": "ada"}
    assert told("renew")["hosts"] == ["127.0.0.1"]
    study = folder / "state" / "studies" / ("3f" * 32)
    study.mkdir(parents=True)
    assert told("cancel", "3f3f") == {"cancelled": study.name}
    assert told("expel", name) == {"expelled": name}


@pytest.mark.parametrize("spelt", ["-c", "--config", "-f", "--folder"])
@pytest.mark.parametrize("file", ["", "coordinator.yaml"])
def test_a_coordinator_is_named_by_its_file_or_its_folder(
    folder: Path, spelt: str, file: str
) -> None:
    assert json.loads(do("status", spelt, folder / file, "--json").stdout)["running"] is False


def test_without_a_coordinator_here_every_command_says_so(tmp_path: Path) -> None:
    there = (("expel", "x"), ("revoke", "x"), ("cancel", "0" * 64))
    for words in (("status",), ("account", "list"), *there):
        assert fails(*words, "-f", tmp_path).code is Code.CONFIGURATION
