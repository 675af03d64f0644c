"""A hospital goes on in the folder that an older release left: its books, its keys, its models."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.config.site_config import SiteConfig
from client.governance.audit import PURPOSE, entry_hash
from client.governance.governance import SiteGovernance
from client.governance.patient_split import PatientSplit
from client.training.algorithm_state import algorithm_state_in
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from tests.golden.conftest import Run
from tests.golden.opened import Golden


@pytest.fixture
def site(golden: Golden, tmp_path: Path) -> Path:
    """A copy of the hospital's folder."""
    return golden.copy("site", tmp_path)


@contextmanager
def governing(site: Path, *, daemon: bool = False) -> Iterator[SiteGovernance]:
    config = SiteConfig.load(site / "site.yaml")
    governance = SiteGovernance(config, config.load_identity(), daemon=daemon)
    try:
        yield governance
    finally:
        governance.close_state()


# --- the operator's commands ---
def test_every_study_stands_where_it_stood(golden: Golden, site: Path, run: Run) -> None:
    ran = run(site, "studies", "--json")
    assert ran.status == 0, ran.err
    assert {one["digest"]: one["state"] for one in json.loads(ran.out)} == golden.states
    assert run(site, "studies").status == 0


@pytest.mark.slow
def test_every_study_is_shown_in_plain_words(golden: Golden, site: Path, run: Run) -> None:
    for digest, state in golden.states.items():
        ran = run(site, "show", digest[:12], "--json")
        assert ran.status == 0, ran.err
        shown = json.loads(ran.out)
        assert (shown["digest"], shown["state"]) == (digest, state)
        assert shown["words"]["Title"] == shown["study"]["title"]
    assert run(site, "show", golden.expected["waiting"]).status == 0


def test_the_ledger_has_every_attempt(golden: Golden, site: Path, run: Run) -> None:
    ran = run(site, "ledger", "--json")
    assert ran.status == 0, ran.err
    account = json.loads(ran.out)
    assert 0 < account["spent"] < account["reserved"] < account["cap"]
    shown = {one["digest"]: one for one in account["studies"]}
    plans: dict[str, dict[str, list[int]]] = {}
    for plan in golden.json("ledger.json")["plans"]:
        counts = [plan["debited"], plan["planned"]]
        plans.setdefault(plan["study"], {})[plan["part"]] = counts
        exact = plan["event"] == "" and plan["debited"] > 0
        assert (plan["part"] in shown[plan["study"]]["exact"]) == exact
    assert {d: {"train": s["trained"], "evaluate": s["evaluated"]} for d, s in shown.items()} == (
        plans
    )
    assert run(site, "ledger").status == 0


def test_the_audit_log_is_intact(golden: Golden, site: Path, run: Run) -> None:
    ran = run(site, "audit", "verify", "--json")
    assert ran.status == 0, ran.err
    # One entry more: that somebody verified it.
    assert json.loads(ran.out) == {"entries": golden.expected["audit"] + 1, "intact": True}


def test_the_audit_log_is_exported_as_it_was_written(golden: Golden, site: Path, run: Run) -> None:
    ran = run(site, "audit", "export")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    written = golden.json("ledger.json")["audit"]
    for line, row in zip(lines, written, strict=False):
        wanted = row | {"fields": json.loads(row["fields"]), "site": "north"}
        assert {key: line[key] for key in wanted} == wanted
    assert len(lines) == len(written) + 1


def test_the_personal_models_are_listed(golden: Golden, site: Path, run: Run) -> None:
    ran = run(site, "personal", "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert sorted(one["study"] for one in found) == golden.expected["personal"]
    assert {one["algorithm"] for one in found} == {"ditto", "fedbn"}
    for one in found:
        weights = np.load(one["weights"], allow_pickle=False)
        study = Study.parse(Path(one["weights"]).with_name("study.json").read_bytes())
        assert weights.shape == (study.model.parameters,)
        assert np.isfinite(one["figures"]["own"]["auc"])


def test_status_says_that_no_daemon_runs(golden: Golden, site: Path, run: Run) -> None:
    ran = run(site, "status", "--json")
    assert ran.status == 7, ran.err
    told = json.loads(ran.out)
    assert (told["site"], told["running"], told["waiting"]) == ("north", False, 1)
    assert told["daemon"]["phase"] == "stopped"


def test_check_finds_keys_ledger_and_data_as_they_should_be(site: Path, run: Run) -> None:
    """All but the coordinator, which does not listen."""
    ran = run(site, "check", "--json")
    findings = {one["name"]: one for one in json.loads(ran.out)["checks"]}
    for name in (
        "keys",
        "ledger and clock",
        "audit log",
        "data of recovery",
        "training recovery",
        "data of breast_cancer",
        "training breast_cancer",
    ):
        assert findings[name]["passed"] is not False, findings[name]
    assert findings["coordinator reachable"]["passed"] is False


def test_a_waiting_study_is_approved_and_a_rejected_one_too(
    golden: Golden, site: Path, run: Run
) -> None:
    for name in ("waiting", "rejected"):
        digest = golden.expected[name]
        ran = run(site, "approve", digest, "--yes")
        assert ran.status == 0, ran.err
        ran = run(site, "revoke", digest, "--yes", "--reason", "enough")
        assert ran.status == 0, ran.err
    assert run(site, "audit", "verify").status == 0


def test_a_study_that_was_refused_is_refused_again(golden: Golden, site: Path, run: Run) -> None:
    for digest in golden.expected["refused"]:
        assert run(site, "approve", digest, "--yes").status == 5
        assert run(site, "reject", digest, "--yes").status == 0


# --- the daemon ---
def test_the_daemon_takes_the_books_up(golden: Golden, site: Path) -> None:
    """It holds open studies against today's rules before it answers; the private one stays."""
    with governing(site, daemon=True) as governance:
        stands = {s.digest: s.state for s in governance.approvals.studies()}
        assert stands == golden.states
        study, _ = governance.approvals.find(golden.expected["running"])
        governance.admit(study)
        assert governance.audit.verify() > golden.expected["audit"]


@pytest.mark.parametrize(
    ("old", "new", "state"),
    [
        ("threads: 1 ", "threads: 2 ", "accepted"),
        ("purposes: [research]", "purposes: [teaching]", "revoked"),
    ],
)
def test_open_studies_are_held_against_new_rules(
    golden: Golden, site: Path, run: Run, old: str, new: str, state: str
) -> None:
    rules = site / "site.yaml"
    assert old in rules.read_text()
    rules.write_text(rules.read_text().replace(old, new))
    with governing(site, daemon=True) as governance:
        study, stands = governance.approvals.find(golden.expected["running"])
        assert stands == state
        last = governance.audit.entries()[-1]
        assert last.fields["study"] == study.digest
    assert run(site, "audit", "verify").status == 0


def test_spending_goes_on_where_it_stood(golden: Golden, site: Path) -> None:
    running = golden.expected["running"]
    rows = [r for r in golden.json("ledger.json")["debits"] if r["study"] == running]
    last = max(row["attempt"] for row in rows)
    with governing(site, daemon=True) as governance:
        study, _ = governance.approvals.find(running)
        train = Sections(study, train=True, evaluate=False)
        for round_, attempt in ((1, 1), (last, last), (last - 1, last)):
            with pytest.raises(WardroundError) as refused:
                governance.debit(study, round_, attempt, train)
            assert refused.value.code is Code.REFUSED_REPLAY
        governance.debit(study, last, last + 1, train)
        governance.audit.verify()
        with governance.state.reading() as db:
            found = db.execute("SELECT COUNT(*) FROM debits").fetchone()[0]
    assert found == golden.expected["debits"] + 1


def test_what_has_ended_is_not_answered(golden: Golden, site: Path) -> None:
    wanted = {
        "finished": Code.REFUSED_REPLAY,
        "cancelled": Code.REFUSED_REPLAY,
        "revoked": Code.REVOKED,
        "rejected": Code.REFUSED_STUDY,
        "refused": Code.REFUSED_STUDY,
        "waiting": Code.WAITING_APPROVAL,
    }
    with governing(site, daemon=True) as governance:
        for digest, state in golden.states.items():
            if state == "accepted":
                continue
            study, _ = governance.approvals.find(digest)
            with pytest.raises(WardroundError) as refused:
                governance.admit(study)
            assert refused.value.code is wanted[state]


def test_what_an_algorithm_kept_is_read(golden: Golden, site: Path) -> None:
    """SCAFFOLD's control variate of the last attempt that counted."""
    digest = golden.expected["running"]
    (kept,) = (site / "state" / "kept" / digest).glob("shared-*.npy")
    found = algorithm_state_in(site / "state", digest, np.load(kept).size).vector
    assert found is not None
    assert np.array_equal(found, np.load(kept))
    assert np.any(found != 0)


def test_every_patient_stays_in_his_part(golden: Golden, site: Path) -> None:
    """Who trains and who evaluates follows from the hospital's secret; epsilon rests on it."""
    split = PatientSplit.load(site / "state")
    places = golden.expected["places"]
    assert {name: split.place(name) for name in places} == places


def test_a_backup_that_is_put_back_is_noticed_and_charged_in_full(
    golden: Golden, site: Path, run: Run, tmp_path: Path
) -> None:
    shutil.copyfile(golden / "backup.sqlite", site / "state" / "state.sqlite")
    with pytest.raises(WardroundError) as refused, governing(site, daemon=True):
        pass
    assert refused.value.code is Code.LEDGER
    lost = golden / f"coordinator/state/studies/{golden.expected['running']}/study.json"
    ran = run(site, "ledger", "acknowledge", "--yes", "--lost", lost, "--json")
    assert ran.status == 0, ran.err
    assert sorted(json.loads(ran.out)["charged"]) == ["Charged in full", "Left running"]
    assert run(site, "audit", "verify").status == 0
    with governing(site, daemon=True) as governance:
        study, state = governance.approvals.find(golden.expected["running"])
        assert state == "revoked"
        with pytest.raises(WardroundError) as ended:
            governance.admit(study)
    assert ended.value.code is Code.REVOKED


def test_an_older_database_beside_a_newer_head_is_refused(
    golden: Golden, site: Path, run: Run
) -> None:
    """A copy of the file alone, which does not say of itself that it is one."""
    shutil.copyfile(golden / "backup.sqlite", site / "state" / "state.sqlite")
    with closing(sqlite3.connect(site / "state" / "state.sqlite")) as db:
        db.execute("DELETE FROM meta WHERE key = 'backup'")
        db.commit()
    with pytest.raises(WardroundError) as refused, governing(site, daemon=True):
        pass
    assert refused.value.code is Code.LEDGER
    assert run(site, "audit", "verify").status == 7


def test_a_head_that_a_power_cut_left_behind_is_taken_up(
    golden: Golden, site: Path, run: Run
) -> None:
    """The database commits first: it may be one entry ahead of its head, never behind it."""
    entry = golden.json("ledger.json")["audit"][-2]
    head = site / "state" / "head.json"
    head.write_text(json.dumps({"hash": entry["hash"], "seq": entry["seq"]}))
    head.chmod(0o600)
    assert run(site, "audit", "verify").status == 0
    assert json.loads(head.read_text())["seq"] == golden.expected["audit"] + 1


# --- what stands in the text of the ledger ---
def test_the_text_of_the_ledger_is_what_the_database_holds(golden: Golden, site: Path) -> None:
    ledger: dict[str, list[dict[str, Any]]] = golden.json("ledger.json")
    with closing(sqlite3.connect(site / "state" / "state.sqlite")) as db:
        for table, rows in ledger.items():
            names = ", ".join(rows[0])
            found = db.execute(f"SELECT {names} FROM {table}").fetchall()
            held = [
                [value.decode() if isinstance(value, bytes) else value for value in row]
                for row in found
            ]
            assert held == [list(row.values()) for row in rows], table


def test_every_entry_of_the_log_is_hashed_and_signed_as_it_was(
    golden: Golden, tmp_path: Path
) -> None:
    key = Identity.load(golden.copy("site/identity.pem", tmp_path)).public_key
    for row in golden.json("ledger.json")["audit"]:
        fields = json.loads(row["fields"])
        hashed = entry_hash("north", row["seq"], row["time"], row["event"], fields, row["previous"])
        assert hashed == row["hash"]
        assert verify(key, PURPOSE, bytes.fromhex(hashed), bytes.fromhex(row["signature"]))
