"""Queries through a real coordinator, and daemons as processes: quality by hospital, and drift."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from client.config.site_config import SiteConfig
from client.enrolment import join, new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.database import SiteState
from client.governance.patient_split import PatientSplit
from client.prediction.state import PredictionState
from launch.demo.local_ports import free_port
from launch.federations.deployment import RemoteFederation
from launch.queries import presets
from launch.queries.drift import histograms_of, watched
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.study.query import Scored
from protocol.study.study import Study
from server.coordinator import setup
from server.coordinator.config import FILE, CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.enrolment.roster import Roster
from server.outcome import Outcome
from server.rounds.listener import Listeners
from server.tracking.summary import write_summary
from tasks import registry
from tasks.query_schema import PREDICTED
from tasks.schema import PATIENT, Table
from tests.client.daemon_federation import RULES, TASK, write_csv
from tests.client.daemon_process import Daemon
from tests.server.hospitals import credentials, new_coordinator
from tests.waiting import HUNG, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MODEL = "7d" * 32
MOVED = "mean_radius"
TABLES = dict(list(registry.load(TASK).public_sites(None).items())[:3])


class Federation:
    """A coordinator, and three hospitals that answer queries, by rule."""

    def __init__(self, folder: Path, tables: Mapping[str, Table] = TABLES, join_for: int = 600):
        self.folder, self.sites = folder, tuple(tables)
        self._config = new_coordinator(folder / "there", free_port())
        text = (self._config.folder / FILE).read_text()
        (self._config.folder / FILE).write_text(text.replace("join: 86400", f"join: {join_for}"))
        self._config = CoordinatorConfig.load(self._config.folder)
        roster = Roster(self._config.roster)
        for site, table in tables.items():
            write_csv(table, folder / f"{site}.csv")
            answers = SiteAnswers(site=site, data={TASK: folder / f"{site}.csv"}, **RULES)
            new_site.init(folder / site, answers)
            path = folder / site / new_site.SITE_YAML
            plain = yaml.safe_load(path.read_text())
            rules = {"watch": True, "unapproved": True}
            plain["policy"] |= {"queries": ["histogram"], "predict": {"models": {MODEL: rules}}}
            plain["policy"] |= {"least_noise_multiplier": 0.01}
            path.write_text(yaml.safe_dump(plain))
            roster.add(new_site.card(SiteConfig.load(path)), len(table[PATIENT]))
        self.patients = {site: entry.patients for site, entry in roster.sites().items()}
        bundle = folder / "bundle.json"
        bundle.write_text(json.dumps(setup.bundle(self._config)))
        for site in self.sites:
            path = folder / site / new_site.SITE_YAML
            join.join(join.compare(path, join.FederationBundle.load(bundle)))
        self.account = credentials(self._config, self._config.address, "ada")

    def config(self, site: str) -> SiteConfig:
        return SiteConfig.load(self.folder / site / new_site.SITE_YAML)

    @contextmanager
    def running(self, **env: str) -> Iterator[Coordinator]:
        """Coordinator and daemons, from their start to their end."""
        ending = threading.Event()
        journal = Journal(self._config.event_log, console=None)
        with Coordinator(self._config, journal) as coordinator:
            serving = threading.Thread(target=coordinator.serve, args=(ending,))
            serving.start()
            daemons = [Daemon(self.folder / site, env=env) for site in self.sites]
            try:
                until(lambda: set(self.sites) <= coordinator.link.online(), "the sites are online")
                yield coordinator
            finally:
                for daemon in daemons:
                    daemon.stop()
                ending.set()
                serving.join(HUNG)

    def study(self, question: Question, epsilon: float) -> Study:
        return build_query(question, self.patients, Price(epsilon=epsilon, delta=1e-3))

    def answered(self, study: Study) -> Outcome:
        with RemoteFederation(self.account) as ada:
            return ada.run(study, {}, {}, Listeners())


def test_each_hospital_says_which_of_its_columns_differ(tmp_path: Path) -> None:
    """One of three measures a column in another unit: asked through a coordinator, it says so."""
    first, *_ = TABLES
    moved = TABLES | {first: {**TABLES[first], MOVED: TABLES[first][MOVED] * 100}}
    federation = Federation(tmp_path, moved)
    with federation.running():
        question = presets.quality(TASK, columns=(MOVED, "mean_texture"))
        released = federation.answered(federation.study(question, 20.0))
        reference = tmp_path / "reference"
        reference.mkdir()
        (reference / "study.json").write_bytes(released.study.document)
        write_summary(released, reference / "summary.json")
        compared = presets.sites_that_differ(TASK, histograms_of(reference))
        outcome = federation.answered(federation.study(compared, 20.0))
    found = {answer.name: answer for answer in outcome.answers}
    assert found[MOVED].counts[0] in (1.0, 2.0, 3.0), "all differ from what one has moved"
    assert [sum(n or 0 for n in answer.counts) for answer in outcome.answers] == [3, 3]
    for site in federation.sites:
        (page,) = (federation.config(site).state / "comparisons").iterdir()
        assert MOVED in page.read_text()
        assert page.stat().st_mode & 0o077 == 0


def keep(config: SiteConfig, patients: int) -> None:
    """As if the model had scored so many patients here this month."""
    split = PatientSplit.load(config.state)
    said = [
        (split.name(TASK, f"P{n}"), json.dumps({PREDICTED + "score": 0.05}))
        for n in range(patients)
    ]
    with PredictionState.open(config.state) as state:
        state.add(MODEL, [], watched=said)


def test_a_reserved_period_is_answered_after_restarts_of_both_sides(tmp_path: Path) -> None:
    """The month is not over: it is reserved, and the study rests. A month later both sides have
    been stopped and started, the account goes on with it, and it is answered and paid for once."""
    federation = Federation(tmp_path, join_for=5)
    now = datetime.now(UTC)
    for site in federation.sites:
        keep(federation.config(site), 80)
    period = Scored(model=MODEL, since=f"{now:%Y-%m}", until=f"{now:%Y-%m}")
    study = federation.study(watched(Question.about(TASK), period), 5.0)
    with federation.running(), RemoteFederation(federation.account) as ada:
        ada.submit(study, {})
        assert ada.settle(study.digest, lambda state: state == "failed", HUNG) == "failed"
    assert not any(debits(federation, site) for site in federation.sites)
    later = f"{now.year + now.month // 12:04}-{now.month % 12 + 1:02}-02"
    with federation.running(TODAY=later), RemoteFederation(federation.account) as ada:
        ada.resume(study.digest)
        assert ada.settle(study.digest, lambda state: state.over, HUNG) == "finished"
        outcome = ada.follow(study.digest, study, Listeners())
    (scores,) = outcome.answers
    assert np.nansum(np.array(scores.counts, dtype=float)) == pytest.approx(240, abs=40)
    assert [debits(federation, site) for site in federation.sites] == [1, 1, 1]


def debits(federation: Federation, site: str) -> int:
    config = federation.config(site)
    key = config.load_identity().public_key.hex()
    state = SiteState.open(config.state, site, key)
    try:
        with state.reading() as db:
            return int(db.execute("SELECT count(*) FROM debits").fetchone()[0])
    finally:
        state.close()
