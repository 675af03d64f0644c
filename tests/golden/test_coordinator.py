"""A coordinator goes on in the folder that an older release left: accounts, keys, its studies."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.config.site_config import SiteConfig
from client.governance.governance import SiteGovernance
from launch.federations.deployment import RemoteFederation
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from server.coordinator.config import FILE, CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.coordinator.setup import bundle, status
from server.enrolment import signing_key
from server.enrolment.accounts import Accounts, Credentials
from server.enrolment.roster import Roster
from server.model.checkpoint import Checkpoint
from server.outcome import Outcome, RoundReport
from tasks import registry
from tests.deployment.processes import Command
from tests.golden.hospitals import OtherHospitals
from tests.golden.opened import HERE, Golden, code_of, everywhere
from tests.waiting import until

WARDROUND_SITE = Path(sys.executable).with_name("wardround-site")


class Noted:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.rounds: list[RoundReport] = []

    def waiting(self, why: str, sites: tuple[str, ...]) -> None:
        pass

    def lost(self, round_: int, attempt: int, why: str) -> None:
        pass

    def round(self, report: RoundReport) -> None:
        self.rounds.append(report)

    def finish(self, outcome: Outcome) -> None:
        pass


@pytest.fixture
def config(golden: Golden, tmp_path: Path) -> CoordinatorConfig:
    """A copy of the coordinator's folder, which listens on a free port."""
    folder = golden.copy("coordinator", tmp_path)
    file = folder / FILE
    listen = re.sub(r"^listen: .*$", 'listen: "127.0.0.1:0"', file.read_text(), flags=re.M)
    file.write_text(listen)
    return CoordinatorConfig.load(folder)


@contextmanager
def started(config: CoordinatorConfig) -> Iterator[Coordinator]:
    ending = threading.Event()
    with Coordinator(config, Journal(config.event_log, console=None)) as coordinator:
        serving = threading.Thread(target=coordinator.serve, args=(ending,))
        serving.start()
        try:
            yield coordinator
        finally:
            ending.set()
            serving.join()


@contextmanager
def ada(golden: Golden, tmp_path: Path, coordinator: Coordinator) -> Iterator[RemoteFederation]:
    """The account of then, with its credentials of then."""
    credentials = golden.copy("credentials.json", tmp_path)
    with RemoteFederation(credentials, address=coordinator.address) as remote:
        yield remote


def kept(config: CoordinatorConfig, digest: str) -> Path:
    return config.state / "studies" / digest


def test_accounts_roster_and_certificates_are_read(
    golden: Golden, config: CoordinatorConfig, tmp_path: Path
) -> None:
    token = Credentials.load(golden.copy("credentials.json", tmp_path)).token
    assert Accounts(config.accounts).owner(token) == "ada"
    assert Accounts(config.accounts).owner(token + "x") is None
    assert Roster(config.roster).identities() == golden.json("bundle.json")["roster"]
    assert config.pki.hosts() == ("127.0.0.1",)
    config.pki.renew()
    assert config.pki.hosts() == ("127.0.0.1",)
    seen = status(config)
    assert (seen["running"], sorted(seen["sites"])) == (False, ["east", "north", "south", "west"])
    assert {row["study"] for row in seen["studies"]} >= set(golden.expected["coordinator"])


def test_every_study_is_there_with_all_that_was_told_of_it(
    golden: Golden, config: CoordinatorConfig, tmp_path: Path
) -> None:
    expected = golden.expected
    ended: dict[str, str] = expected["coordinator"]
    unended = {expected["running"], expected["waiting"]}
    with started(config) as coordinator, ada(golden, tmp_path, coordinator) as remote:
        until(
            lambda: (
                {row["state"] for row in remote.studies() if row["study"] in unended} == {"waiting"}
            ),
            "they wait for their sites",
        )
        found = {row["study"]: row for row in remote.studies()}
        assert {digest: row["state"] for digest, row in found.items()} == (
            ended | dict.fromkeys(unended, "waiting")
        )
        assert found[expected["running"]]["round"] == expected["rounds_told"]
        for digest, state in ended.items():
            document = (kept(config, digest) / "study.json").read_bytes()
            study = Study.parse(document)
            assert remote.study(digest)["document"] == json.loads(document)
            told = (kept(config, digest) / "events.jsonl").read_text().splitlines()
            assert [dict(event) for event in remote.events(digest)] == list(map(json.loads, told))
            if state == "cancelled":
                with pytest.raises(KeyboardInterrupt):
                    remote.follow(digest, study, Noted())
                continue
            outcome = remote.follow(digest, study, Noted())
            summary = json.loads((kept(config, digest) / "summary.json").read_text())
            assert outcome.status == summary["status"] == "finished"
            assert outcome.epsilon == summary["epsilon"]
            assert {n: of.value for n, of in outcome.metrics.items()} == {
                n: of["value"] for n, of in summary["metrics"].items()
            }
            assert len(outcome.answers) == len(summary.get("answers", ()))
            weights = (kept(config, digest) / "weights.f32").read_bytes()
            assert outcome.weights.astype("<f4").tobytes() == weights


def test_the_journal_goes_on_in_its_file(golden: Golden, config: CoordinatorConfig) -> None:
    before = (golden / "coordinator/state/events.log").read_bytes()
    with started(config):
        pass
    after = config.event_log.read_bytes()
    assert after.startswith(before)
    events = [json.loads(line)["event"] for line in after[len(before) :].splitlines()]
    assert {"coordinator", "study-starts", "coordinator-ended"} <= set(events)


def test_it_has_no_signing_key_and_gets_one_with_the_first_start(
    golden: Golden, config: CoordinatorConfig, tmp_path: Path
) -> None:
    """Credentials and bundle of then still serve; that they hold no key is said where it is asked
    for."""
    made = config.folder / signing_key.FILE
    assert not made.exists()
    with started(config) as coordinator:
        key = coordinator.signer.public_key
        assert made.stat().st_mode & 0o777 == 0o600
    with started(config) as coordinator:
        assert coordinator.signer.public_key == key
    assert bundle(config)["signing_key"] == key.hex()
    for older in ("credentials.json", "bundle.json"):
        with pytest.raises(WardroundError) as caught:
            signing_key.public_half(golden.copy(older, tmp_path))
        assert caught.value.code == Code.CREDENTIALS
        assert "0.1.0 had none" in caught.value.remedy


@pytest.mark.slow
def test_a_study_goes_on_where_an_older_release_left_it(
    golden: Golden, config: CoordinatorConfig, tmp_path: Path
) -> None:
    """Coordinator and one hospital from their folders; that hospital has kept a control variate
    and has paid for the round in which all ended."""
    expected = golden.expected
    digest = expected["running"]
    site, hospitals = golden.copy("site", tmp_path), golden.copy("hospitals", tmp_path)
    tables = registry.load("recovery").public_sites(None)
    others = OtherHospitals(hospitals, Roster(config.roster).identities(), tables)
    study = Study.parse((kept(config, digest) / "study.json").read_bytes())
    attempts = [r["attempt"] for r in golden.json("ledger.json")["debits"] if r["study"] == digest]
    train = Sections(study, train=True, evaluate=False)
    for governance in others.governance.values():  # they too answered in the round in hand
        governance.debit(study, max(attempts), max(attempts), train)
    noted, daemon = Noted(), None
    with started(config) as coordinator, ada(golden, tmp_path, coordinator) as remote:
        rules = site / "site.yaml"
        rules.write_text(rules.read_text().replace("127.0.0.1:9092", coordinator.address))
        try:
            others.connect(coordinator.address, config.pki.ca_certificate)
            daemon = Command([WARDROUND_SITE, "start", "--config", site], tmp_path / "daemon")
            outcome = remote.follow(digest, study, noted)
            untold = kept(config, digest) / "untold.json"
            until(lambda: not untold.exists(), "every site has heard of the end")
            daemon.interrupt(signal.SIGTERM)
            assert daemon.ended() == 0, daemon.said
        finally:
            if daemon is not None:
                daemon.end()
            others.disconnect()
        assert remote.study(expected["waiting"])["state"] == "waiting", "for a person"
    refused = {error.code for site in others.governance.values() for error in site.errors}
    assert refused <= {Code.REFUSED_REPLAY}, "the attempt in hand is begun again, nothing else"
    assert outcome.status == "finished"
    assert [report.round for report in noted.rounds] == list(range(1, 9))
    assert all(report.participants == len(study.sites) for report in noted.rounds)
    assert outcome.epsilon is not None
    assert np.isfinite(outcome.weights).all()
    events = [json.loads(line) for line in (kept(config, digest) / "events.jsonl").open()]
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    settings = SiteConfig.load(rules)
    books = SiteGovernance(settings, settings.load_identity())
    try:
        books.audit.verify()
        assert books.approvals.find(digest)[1] == "finished"
        with books.state.reading() as db:
            rows: list[Any] = db.execute(
                "SELECT round, attempt FROM debits WHERE study = ? AND part = 'train'"
                " ORDER BY attempt",
                (digest,),
            ).fetchall()
    finally:
        books.close_state()
    assert [attempt for _, attempt in rows] == sorted({attempt for _, attempt in rows})
    assert {round_ for round_, _ in rows} == set(range(1, 9))
    lost = [event for event in events if event["type"] == "lost"]
    assert len(rows) <= 8 + len(lost), "only what was lost is paid for once more"
    assert not (site / "state" / "kept" / digest).exists()


@pytest.mark.parametrize(("release", "name"), everywhere("twins/checkpoint_bad_*.pt"))
def test_a_checkpoint_that_is_damaged_or_anothers_is_refused(
    release: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WardroundError) as refused:
        Checkpoint.load(HERE / release / name, Golden(HERE / release).expected["running"])
    assert refused.value.code is code_of(name, Code.STATE)
    assert list(tmp_path.iterdir()) == [], "nothing in it was run"


def test_a_damaged_study_ends_alone(golden: Golden, config: CoordinatorConfig) -> None:
    """One whose checkpoint is cut short fails with a reason, one whose document is written
    otherwise is left out; every other is there."""
    expected = golden.expected
    running = kept(config, expected["running"])
    shutil.copyfile(golden / "twins/checkpoint_bad_cut_short.pt", running / "checkpoint.pt")
    other, *rest = sorted(expected["coordinator"])
    shutil.copyfile(golden / "studies/study_bad_spaces.json", kept(config, other) / "study.json")
    with started(config) as coordinator:
        failed = coordinator.study(expected["running"])
        assert failed is not None
        until(lambda: failed.state == "failed", "failed")
        (event,) = failed.log.events("failed")
        assert event["code"] == Code.STATE
        found = {run.digest: run.state for run in coordinator.studies()}
    assert other not in found
    assert {digest: found[digest] for digest in rest} == {
        digest: expected["coordinator"][digest] for digest in rest
    }


@pytest.mark.parametrize(("release", "name"), everywhere("twins/roster_bad_*.json"))
def test_a_damaged_roster_is_refused(release: str, name: str) -> None:
    with pytest.raises(WardroundError) as refused:
        Roster(HERE / release / name).sites()
    assert refused.value.code is code_of(name, Code.CONFIGURATION)


@pytest.mark.parametrize(("release", "name"), everywhere("twins/accounts_bad_*.json"))
def test_damaged_accounts_let_nobody_in(release: str, name: str, tmp_path: Path) -> None:
    token = Credentials.load(Golden(HERE / release).copy("credentials.json", tmp_path)).token
    accounts = Accounts(HERE / release / name)
    assert accounts.owner(token) is None
    with pytest.raises(WardroundError) as refused:
        accounts.all()
    assert refused.value.code is code_of(name, Code.CONFIGURATION)
