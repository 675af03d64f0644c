"""`wardround-site` as a hospital's operator meets it: what it writes, shows, refuses, explains."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.config.known_reviewers import known_reviewers
from client.config.site_config import SiteConfig
from client.governance.governance import SiteGovernance
from launch.queries.exact_analyses import exact_survival
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.errors import WardroundError
from protocol.identity import Identity, fingerprint
from protocol.study.study import Study
from protocol.terminal import command_line
from protocol.wire.enrolment import EnrolmentCard
from server.enrolment.certificates import Pki
from server.enrolment.signing_key import public_half
from tasks import registry
from tests.client.cli.conftest import Run
from tests.client.hospital import study as a_study

PRIVATE = (
    *("--task", "breast_cancer", "--purpose", "research", "--mode", "local"),
    *("--epsilon-per-study", "4", "--epsilon-lifetime", "9"),
)


@pytest.fixture
def site(tmp_path: Path, run: Run) -> Path:
    """alpha, which allows private studies of breast_cancer, approved by hand."""
    folder = tmp_path / "alpha"
    data = tmp_path / "data.csv"
    made = run("init", folder, "--site", "alpha", "--data", f"breast_cancer={data}", *PRIVATE)
    assert made.status == 0, made.err
    return folder


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.create("Test", ["127.0.0.1"])
    return made


def bundle(path: Path, pki: Pki, roster: dict[str, str], address: str = "10.0.0.1:9092") -> Path:
    text = {"coordinator": address, "ca": pki.ca_certificate.read_text(), "roster": roster}
    path.write_text(json.dumps(text))
    return path


def keys(*names: str) -> dict[str, str]:
    return {name: Identity.generate().public_key.hex() for name in names}


def own_key(folder: Path) -> str:
    return Identity.load(folder / "identity.pem").public_key.hex()


def proposed(folder: Path, study: Study) -> Study:
    """As the daemon records a study that a coordinator proposes."""
    config = SiteConfig.load(folder / "site.yaml")
    governance = SiteGovernance(config, config.load_identity())
    governance.propose(study)
    governance.close_state()
    return study


@pytest.fixture
def waiting(site: Path, run: Run, pki: Pki, tmp_path: Path) -> Study:
    """A study that waits for approval at alpha."""
    roster = keys("beta", "gamma") | {"alpha": own_key(site)}
    joined = run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site, "--yes")
    assert joined.status == 0, joined.err
    return proposed(site, a_study())


@pytest.mark.usefixtures("waiting")
def test_an_operator_audits_a_study_on_the_sites_own_patients(
    site: Path, run: Run, tmp_path: Path
) -> None:
    task = registry.load("breast_cancer")
    installed = a_study(task=registry.reference_to(task), nonce="2" * 16)
    proposed(site, installed)
    (table, *_) = task.public_sites(None).values()
    with (tmp_path / "data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(table)
        rows.writerows(zip(*table.values(), strict=True))
    out = tmp_path / "report"
    words = ("--runs", 100, "--canaries", 64, "--out", out, "--json", "-c", site)
    done = run("audit", "privacy", installed.digest[:12], *words)
    assert done.status == 0, done.err
    assert json.loads(done.out) == json.loads((out / "summary.json").read_text())
    assert json.loads(done.out)["membership"] is None
    assert stat.S_IMODE((out / "summary.json").stat().st_mode) & 0o077 == 0
    assert run("audit", "verify", "-c", site).status == 0


# --- help ---
def test_help_answers_without_loading_what_is_heavy() -> None:
    script = (
        "import sys; sys.argv = ['wardround-site', '--help']\n"
        "from client.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'flwr', 'duckdb', 'opacus', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "First steps" in done.stdout


@pytest.mark.parametrize(
    "command",
    ["init", "enrol", "join", "check", "start", "status", "studies", "show", "approve", "reject",
     "revoke", "ledger", "ledger acknowledge", "ledger backup", "backup", "restore",
     "audit verify", "audit export",
     "audit privacy",     "version"],
)  # fmt: skip
def test_every_command_explains_itself(run: Run, command: str) -> None:
    shown = run(*command.split(), "--help")
    assert shown.status == 0
    assert len(shown.out.splitlines()) > 6


def test_a_command_that_is_not_there_is_usage(run: Run) -> None:
    assert run("frobnicate").status == 2


# --- init ---
def test_init_makes_private_files_and_denies_by_default(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "sites" / "north"
    assert run("init", folder, "--site", "north").status == 0
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    config = SiteConfig.load(folder / "site.yaml")
    policy = config.policy
    assert (policy.tasks, policy.modes, policy.purposes) == ((), (), ())
    assert policy.approval == "hand"
    assert not policy.unmasked
    assert not policy.exact_evaluation
    assert (policy.exact_releases, policy.public_data) == (0, ())
    assert policy.epsilon_lifetime is None
    assert config.load_identity().public_key.hex() == config.roster["north"]


def test_init_never_overwrites(site: Path, run: Run) -> None:
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    again = run("init", site, "--site", "alpha")
    assert again.status == 7
    assert "never overwrites" in again.err
    assert before == {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--site", "North Ward"), "site"),
        (("--site", "north", "--coordinator", "nowhere"), "coordinator.address"),
        (("--site", "north", "--memory", "lots"), "policy.memory"),
        (("--site", "north", "--task", "breast_cancer"), "breast_cancer"),
        (("--site", "north", "--data", "breast_cancer"), "--data"),
        (("--site", 'x"\nunmasked: true #'), "site"),
    ],
)
def test_a_wrong_answer_is_named_and_leaves_nothing_behind(
    tmp_path: Path, run: Run, wrong: tuple[str, ...], named: str
) -> None:
    failed = run("init", tmp_path / "north", *wrong)
    assert failed.status == 2
    assert named in failed.err
    assert list(tmp_path.iterdir()) == []


def test_a_comment_explains_every_rule(site: Path) -> None:
    lines = (site / "site.yaml").read_text().splitlines()
    rules = [line for line in lines if line.startswith("  ") and ":" in line]
    assert sum("#" in line for line in lines) > 20
    assert any("epsilon_broken" in line for line in rules)


# --- enrol ---
def test_the_card_is_what_the_coordinator_reads(site: Path, run: Run, tmp_path: Path) -> None:
    shown = run("enrol", "--config", site)
    (tmp_path / "card.json").write_text(shown.out)
    card = EnrolmentCard.load(tmp_path / "card.json")
    assert card.site == "alpha"
    assert card.identity == own_key(site)
    assert card.identity_fingerprint in shown.err
    assert card.node_fingerprint in shown.err
    assert "PRIVATE" not in shown.out
    assert run("enrol", "--config", site, "--out", tmp_path / "again.json").status == 0
    assert EnrolmentCard.load(tmp_path / "again.json") == card


def test_a_key_that_others_can_read_is_refused(site: Path, run: Run) -> None:
    (site / "identity.pem").chmod(0o644)
    refused = run("enrol", "-c", site)
    assert refused.status == 4
    assert "chmod 600" in refused.err


# --- join ---
def test_join_shows_fingerprints_and_keeps_the_comments(
    site: Path, run: Run, pki: Pki, tmp_path: Path
) -> None:
    roster = keys("beta", "gamma") | {"alpha": own_key(site)}
    before = (site / "site.yaml").read_text()
    joined = run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site, "--yes")
    assert joined.status == 0, joined.err
    for key in roster.values():
        assert fingerprint(bytes.fromhex(key)) in joined.out
    config = SiteConfig.load(site / "site.yaml")
    assert config.roster == roster
    assert config.coordinator.address == "10.0.0.1:9092"
    ca = config.coordinator.root_certificate
    assert ca.read_text() == pki.ca_certificate.read_text()
    after = (site / "site.yaml").read_text()
    assert after == before.replace("coordinator.invalid:9092", "10.0.0.1:9092")


def test_joining_again_says_what_changed(site: Path, run: Run, pki: Pki, tmp_path: Path) -> None:
    roster = keys("beta", "gamma") | {"alpha": own_key(site)}
    run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site, "--yes")
    later = roster | keys("delta")
    again = run("join", bundle(tmp_path / "b.json", pki, later), "-c", site, "--yes", "--json")
    assert again.status == 0, again.err
    changes = {name: s["change"] for name, s in json.loads(again.out)["sites"].items()}
    assert changes == {"alpha": "this site", "beta": "known", "delta": "new", "gamma": "known"}
    assert SiteConfig.load(site / "site.yaml").roster == later


def test_a_site_that_left_returns_with_no_other_key_unnoticed(
    site: Path, run: Run, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = keys("beta", "gamma") | {"alpha": own_key(site)}
    run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site, "--yes")
    without = bundle(tmp_path / "b.json", pki, {n: k for n, k in roster.items() if n != "beta"})
    shrunk = run("join", without, "-c", site, "--yes")
    assert shrunk.status == 4
    assert "shrunk" in shrunk.err
    assert "beta" in shrunk.err
    monkeypatch.setattr(command_line, "_someone_is_there", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run("join", without, "-c", site).status == 0
    returned = bundle(tmp_path / "b.json", pki, roster | keys("beta"))
    refused = run("join", returned, "-c", site, "--yes")
    assert refused.status == 4
    assert "another key for beta" in refused.err


@pytest.mark.parametrize("changed", ["gamma", "authority"])
def test_changed_keys_are_taken_from_a_person_only(
    site: Path, run: Run, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    roster = keys("beta", "gamma") | {"alpha": own_key(site)}
    run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site, "--yes")
    before = {path: path.read_bytes() for path in site.glob("*.*")}
    if changed == "gamma":
        roster |= keys("gamma")
    else:
        pki = Pki(tmp_path / "other")
        pki.create("Another", ["127.0.0.1"])
    path = bundle(tmp_path / "b.json", pki, roster)
    refused = run("join", path, "-c", site, "--yes")
    assert refused.status == 4
    assert changed in refused.err
    assert before == {path: path.read_bytes() for path in site.glob("*.*")}
    monkeypatch.setattr(command_line, "_someone_is_there", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    asked = run("join", path, "-c", site)
    assert asked.status == 0, asked.err
    assert "CHANGED" in asked.out
    assert SiteConfig.load(site / "site.yaml").roster == roster


def test_joining_takes_the_key_that_signs_models_and_no_other_afterwards(
    site: Path, run: Run, pki: Pki, tmp_path: Path
) -> None:
    own = {"alpha": own_key(site)}
    kept = site / "coordinator-signing-key.pub"
    seen = []
    for signing_key in (None, "a" * 64, "a" * 64, None):
        path = bundle(tmp_path / "b.json", pki, own)
        plain = json.loads(path.read_text())
        path.write_text(json.dumps(plain | ({"signing_key": signing_key} if signing_key else {})))
        joined = run("join", path, "-c", site, "--yes", "--json")
        assert joined.status == 0, joined.err
        seen.append(json.loads(joined.out).get("signing_key", {}).get("change"))
    assert seen == [None, "new", "known", None]
    assert public_half(kept) == bytes.fromhex("a" * 64)
    path.write_text(json.dumps(plain | {"signing_key": "b" * 64}))
    refused = run("join", path, "-c", site, "--yes")
    assert refused.status == 4
    assert "signature" in refused.err
    assert public_half(kept) == bytes.fromhex("a" * 64)


def test_joining_takes_the_keys_of_reviewers_and_no_others_afterwards(
    site: Path, run: Run, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, (rita,) = {"alpha": own_key(site)}, keys("rita").values()
    path = bundle(tmp_path / "b.json", pki, own)
    plain, seen = json.loads(path.read_text()), []
    for reviewers in ({}, {"rita": rita}, {"rita": rita}, {}):
        path.write_text(json.dumps(plain | ({"reviewers": reviewers} if reviewers else {})))
        joined = run("join", path, "-c", site, "--yes", "--json")
        assert joined.status == 0, joined.err
        seen.append(json.loads(joined.out).get("reviewers", {}).get("rita", {}).get("change"))
    assert seen == [None, "new", "known", None]
    (other,) = keys("rita").values()
    path.write_text(json.dumps(plain | {"reviewers": {"rita": other}}))
    refused = run("join", path, "-c", site, "--yes")
    assert refused.status == 4
    assert "another key for the reviewer rita" in refused.err
    config = SiteConfig.load(site / "site.yaml")
    assert known_reviewers(config) == {"rita": rita}
    monkeypatch.setattr(command_line, "_someone_is_there", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    asked = run("join", path, "-c", site)
    assert fingerprint(bytes.fromhex(other)) in asked.out
    assert known_reviewers(config) == {"rita": other}


@pytest.mark.parametrize("own", ["swapped", "missing"])
def test_a_bundle_with_another_key_for_this_site_is_refused(
    site: Path, run: Run, pki: Pki, tmp_path: Path, own: str
) -> None:
    roster = keys("alpha", "beta") if own == "swapped" else keys("beta", "gamma")
    before = {path: path.read_bytes() for path in site.glob("*.*")}
    refused = run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site, "--yes")
    assert refused.status == 4
    assert "alpha" in refused.err
    assert before == {path: path.read_bytes() for path in site.glob("*.*")}


def test_joining_asks_a_person(site: Path, run: Run, pki: Pki, tmp_path: Path) -> None:
    roster = keys("beta") | {"alpha": own_key(site)}
    asked = run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site)
    assert asked.status == 2
    assert "--yes" in asked.err
    assert set(SiteConfig.load(site / "site.yaml").roster) == {"alpha"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"coordinator": "a:1"}', "\x00"])
def test_a_file_that_is_no_bundle(site: Path, run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    refused = run("join", tmp_path / "b.json", "-c", site, "--yes")
    assert refused.status == 2
    assert "not a bundle" in refused.err


def test_a_server_certificate_is_no_authority(
    site: Path, run: Run, pki: Pki, tmp_path: Path
) -> None:
    path = bundle(tmp_path / "b.json", pki, keys("beta") | {"alpha": own_key(site)})
    text = json.loads(path.read_text()) | {"ca": pki.certificate.read_text()}
    path.write_text(json.dumps(text))
    assert run("join", path, "-c", site, "--yes").status == 4


# --- studies ---
def test_a_study_is_listed_shown_approved_and_revoked(site: Path, run: Run, waiting: Study) -> None:
    short = waiting.digest[:8]
    listed = run("studies", "-c", site)
    assert waiting.digest[:12] in listed.out
    assert "1 waiting" in listed.out
    shown = run("show", short, "-c", site)
    told = (waiting.title, waiting.contact, "epsilon", "mean_radius", "would be left")
    for words in (*told, "no more than 1 of the sites"):
        assert words in shown.out
    asked = run("approve", short, "-c", site)
    assert asked.status == 2, "nobody confirmed"
    assert json.loads(run("studies", "-c", site, "--json").out)[0]["state"] == "waiting"
    approved = run("approve", short, "-c", site, "--yes", "--json")
    assert json.loads(approved.out) == {"digest": waiting.digest, "state": "accepted"}
    assert run("reject", short, "-c", site, "--yes").status == 2
    assert run("revoke", short, "-c", site, "--yes", "--reason", "moved").status == 0
    row = json.loads(run("studies", "-c", site, "--json").out)[0]
    assert (row["state"], row["reason"]) == ("revoked", "moved")


def test_a_rejected_study_stays_rejected_until_approved(
    site: Path, run: Run, waiting: Study
) -> None:
    assert run("reject", waiting.digest, "-c", site, "--yes").status == 0
    proposed(site, waiting)
    row = json.loads(run("studies", "-c", site, "--json").out)[0]
    assert row["state"] == "rejected"


def test_a_study_that_nobody_proposed(site: Path, run: Run) -> None:
    unknown = run("show", "abcd1234", "-c", site)
    assert unknown.status == 2
    assert "wardround-site studies" in unknown.err


def test_exact_sums_over_another_roster_are_permitted_by_hand(
    site: Path, run: Run, pki: Pki, tmp_path: Path
) -> None:
    """The operator is told whose data could be computed, may decline, and permits a roster once."""

    def exact(nonce: str, *sites: str) -> Study:
        roster = [{"name": name, "patients": 100} for name in sites]
        release = {"release": "exact"}
        return a_study(
            nonce=16 * nonce, roster=roster, privacy={"mode": "none"}, evaluation=release
        )

    def state_of(study: Study) -> str:
        listed = json.loads(run("studies", "-c", site, "--json").out)
        return next(str(one["state"]) for one in listed if one["digest"] == study.digest)

    roster = keys("beta", "gamma", "kappa") | {"alpha": own_key(site)}
    run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site, "--yes")
    rules = site / "site.yaml"
    text = rules.read_text().replace("modes: [local]", "modes: [none]")
    text = text.replace("exact_evaluation: false", "exact_evaluation: true")
    rules.write_text(text.replace("exact_releases: 0", "exact_releases: 500"))
    first = proposed(site, exact("1", "alpha", "beta", "gamma"))
    assert run("approve", first.digest, "-c", site, "--yes").status == 0
    needless = run("permit", first.digest, "-c", site, "--yes")
    assert needless.status != 0
    assert "needs no permission" in needless.err

    larger = proposed(site, exact("2", "alpha", "beta", "gamma", "kappa"))
    assert state_of(larger) == "refused"
    unasked = run("permit", larger.digest, "-c", site)
    assert unasked.status != 0
    assert "--yes" in unasked.err
    proposed(site, larger)
    assert state_of(larger) == "refused"
    permitted = run("permit", larger.digest[:8], "-c", site, "--yes", "--json")
    assert permitted.status == 0, permitted.err
    assert json.loads(permitted.out) == {"revealed": ["kappa"]}
    assert "data could be computed of these hospitals: kappa" in permitted.err
    proposed(site, larger)
    assert state_of(larger) == "waiting"
    assert run("approve", larger.digest, "-c", site, "--yes").status == 0


def test_an_exact_analysis_of_other_patients_is_permitted_by_hand(
    site: Path, run: Run, pki: Pki, tmp_path: Path
) -> None:
    """The operator is told that patients could be told by subtraction, may decline, and permits one
    study; another one is refused as before."""

    def asked(where: str) -> Study:
        question = exact_survival(
            Question.about("breast_cancer", where=where), "mean_radius:6/20", "malignant = 1"
        )
        return build_query(question, dict.fromkeys(("alpha", "beta", "gamma"), 100), Price())

    roster = keys("beta", "gamma") | {"alpha": own_key(site)}
    run("join", bundle(tmp_path / "b.json", pki, roster), "-c", site, "--yes")
    studies = [proposed(site, asked(where)) for where in ("", "mean_radius > 10", "mean_area > 0")]
    config = SiteConfig.load(site / "site.yaml")

    def fixed(study: Study, rows: str) -> None:
        governance = SiteGovernance(config, config.load_identity())
        try:
            governance.fix_rows(study, rows)
        finally:
            governance.close_state()

    fixed(studies[0], "a" * 64)
    with pytest.raises(WardroundError, match="wardround-site permit"):
        fixed(studies[1], "b" * 64)
    unasked = run("permit", studies[1].digest, "-c", site)
    assert unasked.status != 0
    with pytest.raises(WardroundError, match="another set of patients"):
        fixed(studies[1], "b" * 64)
    permitted = run("permit", studies[1].digest[:8], "-c", site, "--yes")
    assert permitted.status == 0, permitted.err
    assert "the patients by which its row set differs from earlier ones" in permitted.out
    fixed(studies[1], "b" * 64)
    with pytest.raises(WardroundError, match="another set of patients"):
        fixed(studies[2], "c" * 64)
    assert run("audit", "verify", "-c", site).status == 0


def test_a_title_cannot_command_the_terminal(site: Path, run: Run, waiting: Study) -> None:
    evil = proposed(site, a_study(title="\x1b[2J[red]free\u202e\x9b", nonce="1" * 16))
    for command in (("studies",), ("show", evil.digest), ("ledger",)):
        out = run(*command, "-c", site).out
        assert not {"\x1b", "\u202e", "\x9b"} & set(out)
    assert "[red]free" in run("show", evil.digest, "-c", site).out


# --- ledger and audit ---
def test_the_ledger_says_what_is_left(site: Path, run: Run, waiting: Study) -> None:
    assert "spent     epsilon 0" in run("ledger", "-c", site).out
    assert run("approve", waiting.digest, "-c", site, "--yes").status == 0
    account = json.loads(run("ledger", "-c", site, "--json").out)
    assert account["spent"] == 0
    assert 0 < account["reserved"] < account["cap"] == 9
    assert account["left"] == pytest.approx(9 - account["reserved"])
    assert account["studies"][0]["digest"] == waiting.digest


def test_the_spending_is_drawn(site: Path, run: Run, tmp_path: Path) -> None:
    assert run("ledger", "-c", site, "--plot", tmp_path / "spent.png").status == 0
    assert (tmp_path / "spent.png").read_bytes().startswith(b"\x89PNG")
    refused = run("ledger", "-c", site, "--plot", tmp_path / "spent.exe")
    assert refused.status == 2
    assert ".png" in refused.err


def test_a_restored_backup_is_refused_until_acknowledged(
    site: Path, run: Run, waiting: Study, tmp_path: Path
) -> None:
    private = tmp_path / "backups"
    private.mkdir(mode=0o700)
    copy = private / "monday.sqlite"
    assert run("approve", waiting.digest, "-c", site, "--yes").status == 0
    assert run("ledger", "backup", copy, "-c", site).status == 0
    assert run("ledger", "backup", copy, "-c", site).status == 2, "never over another"
    for leftover in ("state.sqlite-wal", "state.sqlite-shm"):
        (site / "state" / leftover).unlink(missing_ok=True)
    (site / "state" / "state.sqlite").write_bytes(copy.read_bytes())
    refused = run("revoke", waiting.digest, "-c", site, "--yes")
    assert refused.status == 7
    assert "ledger acknowledge" in refused.err
    assert run("studies", "-c", site).status == 0, "reading goes on"
    unsaid = run("ledger", "acknowledge", "-c", site, "--yes")
    assert unsaid.status == 2, "what was accepted since must be said"
    assert "coordinator history" in unsaid.err
    done = run("ledger", "acknowledge", "-c", site, "--none-since", "--yes", "--json")
    assert json.loads(done.out) == {"charged": [waiting.title]}
    account = json.loads(run("ledger", "-c", site, "--json").out)
    assert account["spent"] > 0
    assert account["studies"][0]["state"] == "revoked"


def test_the_audit_log_holds_every_command_and_shows_tampering(
    site: Path, run: Run, waiting: Study
) -> None:
    run("approve", waiting.digest, "-c", site, "--yes")
    assert json.loads(run("audit", "verify", "-c", site, "--json").out)["intact"]
    lines = [json.loads(line) for line in run("audit", "export", "-c", site).out.splitlines()]
    commands = [e["fields"]["command"] for e in lines if e["event"] == "operator"]
    assert commands == ["approve", "audit verify", "audit export"]
    assert all(e["fields"]["uid"] == os.getuid() for e in lines if e["event"] == "operator")
    db = sqlite3.connect(site / "state" / "state.sqlite")
    db.executescript("DROP TRIGGER audit_is_append_only_u; UPDATE audit SET event='x' WHERE seq=2")
    db.close()
    broken = run("audit", "verify", "-c", site)
    assert broken.status == 7
    assert "Entry 2" in broken.err


def test_a_program_reads_what_every_command_did(tmp_path: Path, run: Run) -> None:
    folder, private = tmp_path / "north", tmp_path / "private"
    private.mkdir(mode=0o700)

    def told(*words: object) -> Any:
        done = run(*words, "--json", *(() if words[0] in ("init", "view") else ("-c", folder)))
        assert (done.status, done.err) == (0, ""), done
        return json.loads(done.out)

    made = told("init", folder, "--site", "north")
    assert made == {"site": "north", "config": str(folder / "site.yaml")}
    shown = told("enrol", "--out", tmp_path / "north.json")
    card = EnrolmentCard.load(tmp_path / "north.json")
    assert shown["card"] == card.model_dump()
    assert shown["fingerprints"]["identity"] == card.identity_fingerprint
    copy = private / "monday.sqlite"
    assert told("ledger", "backup", copy)["file"] == str(copy)
    assert [entry["fields"]["command"] for entry in told("audit", "export")] == [
        "ledger backup",
        "audit export",
    ]
    assert told("audit", "export", "--out", tmp_path / "log") == {"file": str(tmp_path / "log")}
    assert len((tmp_path / "log").read_text().splitlines()) == 3
    assert told("personal") == []
    assert told("cache", "purge") == {"files": 0, "bytes": 0}
    assert "SELECT" in told("view", "icu_mortality", "omop")["sql"]
    definitions = told("view", "icu_mortality", "fhir", "--definitions")["definitions"]
    assert all(Path(path).is_file() for path in definitions)


@pytest.mark.parametrize(
    "command",
    ["enrol --out none/x", "audit export --out none/x", "ledger backup none/x",
     "ledger --plot none/x.png", "ledger acknowledge --yes --lost none"],
)  # fmt: skip
def test_a_file_in_a_folder_that_is_not_there(site: Path, run: Run, command: str) -> None:
    refused = run(*command.split(), "-c", site)
    assert refused.status == 2
    *_, message, remedy = refused.err.splitlines()
    assert "none" in message
    assert remedy


def test_a_configuration_that_is_not_there(tmp_path: Path, run: Run) -> None:
    missing = run("studies", "-c", tmp_path / "nowhere.yaml")
    assert missing.status == 2
    assert "wardround-site init" in missing.err


def test_status_without_a_daemon(site: Path, run: Run) -> None:
    shown = run("status", "-c", site, "--json")
    assert shown.status == 7
    answer = json.loads(shown.out)
    assert (answer["running"], answer["daemon"], answer["waiting"]) == (False, None, 0)
    assert answer["budget"]["cap"] == 9
