"""`wardround-site check`: everything that can fail is tried, and each failure says what to do."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client.cli import main
from client.enrolment import join, new_site
from client.enrolment.site_template import SiteAnswers
from protocol.identity import Identity
from server.enrolment.certificates import Pki
from server.transport.superlink import SuperLink, SuperLinkConfig
from tasks import registry
from tests.client.daemon_federation import RULES, TASK, write_csv

Checked = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


class Ward:
    """One hospital, joined to a coordinator that may or may not be there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder / "west", folder / "west.csv"
        self.table = registry.load(TASK).public_sites(None)["west"]
        write_csv(self.table, self.data)
        config = new_site.init(self.folder, SiteAnswers("west", data={TASK: self.data}, **RULES))
        self.card = new_site.card(config)
        self.pki = Pki(folder / "pki")
        self.pki.create("Test", ["127.0.0.1"])

    def join(self, address: str, ca: Path | None = None) -> None:
        roster = {"west": self.card.identity, "east": Identity.generate().public_key.hex()}
        authority = (ca or self.pki.ca_certificate).read_text()
        bundle = join.FederationBundle(coordinator=address, ca=authority, roster=roster)
        join.join(join.compare(self.folder / "site.yaml", bundle))

    def edit(self, old: str, new: str) -> None:
        path = self.folder / "site.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


@pytest.fixture
def link(ward: Ward) -> Iterator[SuperLink]:
    with SuperLink(SuperLinkConfig(ward.pki.certificate, ward.pki.private_key)) as link:
        yield link


@pytest.fixture
def checked(
    ward: Ward, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Checked:
    """Exit status, and the findings by name."""

    def run() -> tuple[int, dict[str, dict[str, Any]]]:
        argv = ["wardround-site", "check", "-c", str(ward.folder), "--json"]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as leaving:
            main.main()
        answer = json.loads(capsys.readouterr().out)
        status = int(leaving.value.code or 0)
        assert answer["ok"] == (status == 0)
        findings = {finding["name"]: finding for finding in answer["checks"]}
        for finding in findings.values():
            assert finding["passed"] is not False or finding["code"], finding
        return status, findings

    return run


def debits(ward: Ward) -> int:
    db = sqlite3.connect(ward.folder / "state" / "state.sqlite")
    count = int(db.execute("SELECT count(*) FROM debits").fetchone()[0])
    db.close()
    return count


def test_all_is_well(ward: Ward, link: SuperLink, checked: Checked) -> None:
    link.register("west", ward.card.node_key.encode())
    ward.join(link.address)
    status, findings = checked()
    assert status == 0, findings
    failing = [name for name, finding in findings.items() if finding["passed"] is False]
    assert failing == []
    assert "68 patients" in findings[f"data of {TASK}"]["found"]
    assert "no bit" in findings[f"independence of patients in {TASK}"]["found"]
    assert "dry step" in findings[f"training {TASK}"]["found"]
    assert debits(ward) == 0, "a dry step is not debited, since nothing leaves"
    assert len(findings) >= 11


def test_a_site_that_has_not_joined(ward: Ward, checked: Checked) -> None:
    status, findings = checked()
    assert status == 4
    assert "join" in findings["sign-in"]["remedy"]
    assert findings[f"training {TASK}"]["passed"]


def test_an_unregistered_node_key(ward: Ward, link: SuperLink, checked: Checked) -> None:
    ward.join(link.address)
    status, findings = checked()
    assert status == 4
    assert findings["TLS"]["passed"]
    assert findings["sign-in"]["code"] == "node_key"


def test_another_authority(ward: Ward, link: SuperLink, checked: Checked, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other")
    other.create("Other", ["127.0.0.1"])
    ward.join(link.address, other.ca_certificate)
    status, findings = checked()
    assert status == 4
    assert findings["coordinator reachable"]["passed"]
    assert findings["TLS"]["code"] == "tls"
    assert findings["TLS"]["remedy"]


def test_a_coordinator_that_is_not_there(ward: Ward, checked: Checked) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ward.join(f"127.0.0.1:{probe.getsockname()[1]}")
        status, findings = checked()
    assert status == 4
    assert findings["coordinator reachable"]["code"] == "unreachable"


def test_too_few_patients_says_no_number(ward: Ward, checked: Checked) -> None:
    ward.edit("least_patients: 20", "least_patients: 69")
    status, findings = checked()
    found = findings[f"data of {TASK}"]
    assert status == 3
    assert found["code"] == "too_few_patients"
    # Free space, ports and temporary folders have numbers of their own.
    told = json.dumps({name: of for name, of in findings.items() if TASK in name})
    assert "68" not in told.replace(str(ward.folder.parent), "")
    assert findings[f"training {TASK}"]["passed"] is None


@pytest.mark.parametrize("broken", ["missing", "empty", "truncated", "a column gone", "a word"])
def test_data_that_is_wrong_names_the_file_or_column_and_no_value(
    ward: Ward, checked: Checked, broken: str
) -> None:
    lines = ward.data.read_text().splitlines(keepends=True)
    if broken == "missing":
        ward.data.unlink()
    elif broken == "empty":
        ward.data.write_text("")
    elif broken == "truncated":
        ward.data.write_text("".join(lines[:20])[:-40])
    elif broken == "a column gone":
        ward.data.write_text(lines[0].replace("mean_radius", "radius") + "".join(lines[1:]))
    else:
        patient, _, rest = lines[5].split(",", 2)
        lines[5] = f"{patient},CANARY,{rest}"
        ward.data.write_text("".join(lines))
    status, findings = checked()
    found = findings[f"data of {TASK}"]
    assert status == 3
    assert found["code"] in ("no_data", "malformed_data")
    assert found["remedy"] or broken == "empty"
    assert (
        "west.csv" in found["found"] or "malignant" in found["found"] or "mean_" in found["found"]
    )
    assert "CANARY" not in json.dumps(findings)
    assert "wdbc" not in json.dumps(findings)


def test_a_view_that_is_not_one_select(ward: Ward, checked: Checked) -> None:
    ward.edit("view: SELECT * FROM records", "view: DROP TABLE records")
    status, findings = checked()
    assert status == 2
    assert findings[f"data of {TASK}"]["code"] == "configuration"


def test_a_tampered_audit_log(ward: Ward, checked: Checked) -> None:
    checked()
    db = sqlite3.connect(ward.folder / "state" / "state.sqlite")
    db.executescript("DROP TRIGGER audit_is_append_only_u; UPDATE audit SET event = 'x'")
    db.close()
    status, findings = checked()
    assert status == 7
    assert findings["audit log"]["code"] == "audit"


def test_more_threads_than_processors_is_a_doubt_not_a_failure(
    ward: Ward, checked: Checked
) -> None:
    ward.edit("threads: 1 ", "threads: 999 ")
    _, findings = checked()
    assert findings["processors"]["passed"] is None
    assert findings["processors"]["remedy"]


def test_the_table_says_what_to_do(
    ward: Ward, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["wardround-site", "check", "-c", str(ward.folder)])
    with pytest.raises(SystemExit):
        main.main()
    out = capsys.readouterr().out
    assert "FAIL  coordinator reachable" in out
    assert "wardround-site join" in out
    assert "is ready" not in out
