"""Exact evaluation sums do not show a patient's record to a coordinator that chooses the weights.

Kind of fault: exact release of a function that the server chooses, many times, on the same
patients. Masks and the whole roster in every sum do not help: the sum itself says it. So a study
that claims an epsilon evaluates with noise only, and a site counts its exact releases over all
studies, tasks and accounts: none by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from client.cohorts.loading import loader
from client.config.site_config import SiteConfig
from client.config.site_roster import roster_text
from client.daemon.site import Site
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.governance import SiteGovernance
from launch.config.compose import load
from launch.demo.hospitals import write_csv
from launch.federations.inprocess import split_of
from launch.studies.study_builder import build_study
from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.study.vector_layout import Sections, decode_histogram
from protocol.vectors import LARGEST_WEIGHT, Vector
from protocol.wire import messages
from protocol.wire.messages import Frame, Ready, Share, Standing
from tasks import registry
from tasks.base import Task
from tasks.schema import PATIENT, Table
from tests.attack.simulated import Federation

TASK = registry.load("breast_cancer")
FEATURES = TASK.schema.width
BINS = 512
ROUNDS = 34
WORDS = (
    "task=breast_cancer",
    "federation=deployment",
    "tracking=off",
    "privacy=distributed",
    "privacy.delta=1e-3",
    f"rounds={ROUNDS}",
    "evaluation.every=1",
)
OTHER = registry.load("heart_disease")
STUDIES = 40
PLAIN = ("privacy=none", "federation=deployment", "tracking=off", "rounds=1", "evaluation.every=0",
         "aggregation.spare_attempts=0")  # fmt: skip
LOOKING, STEEP = 3, 3.0
"""Evaluations that look for the patient; the weight of the feature that is read."""
Histogram = npt.NDArray[np.int64]


def logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


class Attack:
    """What a hostile coordinator sends, and what it makes of the sums. Three evaluations find, ever
    finer, who is smallest in feature 0; every later one isolates that patient, whom the model
    scores far above all others, and reads one feature more off his score."""

    def __init__(self) -> None:
        self._seen = 0
        self.record: dict[int, tuple[float, float]] = {}
        """Feature -> its value, and the width of the bin that it was read from."""
        self._edge, self._slope = 0.7, 8.0

    @property
    def done(self) -> bool:
        return len(self.record) == FEATURES

    def weights(self) -> Vector:
        """(31,) float32: thirty weights and the intercept."""
        sent = np.zeros(FEATURES + 1, np.float32)
        sent[0], sent[-1] = -self._slope, -self._slope * self._edge
        if self._seen >= LOOKING:
            sent[self._read] = STEEP
        return sent

    @property
    def _read(self) -> int:
        """The feature that this evaluation reads."""
        return self._seen - LOOKING + 1

    def see(self, counts: Histogram) -> None:
        """(2, BINS) patients by label and score."""
        scored = np.flatnonzero(counts.sum(axis=0))
        best = int(scored[-1])
        if self._seen >= LOOKING:
            self.record[self._read] = (_middle(best) / STEEP, _width(best) / STEEP)
        else:
            found = _middle(best) / self._slope + self._edge
            self.record[0] = (-found, _width(best) / self._slope)
            if self._seen == 0 and len(scored) > 1:
                gap = found - (_middle(int(scored[-2])) / self._slope + self._edge)
                steepest = 0.9 * LARGEST_WEIGHT / max(1.0, abs(found))  # the intercept, too
                self._slope = min(max(14.0 / max(gap, 1e-3), 14.0), steepest)
            self._edge = found
        self._seen += 1


def _middle(bin_: int) -> float:
    """The logit in the middle of a bin of scores."""
    return logit((bin_ + 0.5) / BINS)


def _width(bin_: int) -> float:
    """How far apart logits of one bin of scores can be."""
    low, high = max(bin_, 0.5) / BINS, min(bin_ + 1, BINS - 0.5) / BINS
    return logit(high) - logit(low)


class Hospitals:
    """Four hospitals with their own site.yaml, keys, policy, ledger and audit log, called without
    a network in between. Their policies permit exact evaluation and so many exact releases. They
    also have a few patients for another task."""

    def __init__(self, folder: Path, exact_releases: int = 0) -> None:
        tables = TASK.public_sites(None)
        self.patients = {name: len(table[TASK.schema.label]) for name, table in tables.items()}
        self.records = np.concatenate([TASK.features(table) for table in tables.values()])
        self._governance: list[SiteGovernance] = []
        configs: dict[str, SiteConfig] = {}
        for name, table in tables.items():
            data = {TASK.name: folder / f"{name}.csv", OTHER.name: folder / f"{name}-other.csv"}
            write_csv(table, data[TASK.name])
            write_csv(made_up(OTHER, 30), data[OTHER.name])
            answers = _answers(name, data, exact_releases)
            configs[name] = new_site.init(folder / name, answers)
        identities = {name: config.load_identity() for name, config in configs.items()}
        keys = {name: identity.public_key.hex() for name, identity in identities.items()}
        for name in tables:
            (folder / name / new_site.ROSTER).write_bytes(roster_text(keys))
        self.federation = Federation(
            {name: self._site(folder / name, identities[name]) for name in tables}, identities, {}
        )

    def _site(self, folder: Path, identity: Identity) -> Site:
        config = SiteConfig.load(folder / new_site.SITE_YAML)
        governance = SiteGovernance(config, identity, daemon=True)
        self._governance.append(governance)
        # A hospital's split is secret. This one is known, so that the same patients evaluate in
        # every run of this test.
        cohort = loader(config, split_of(config.site), lambda study, cohort: None)
        return Site(config.site, identity, governance.roster, governance, cohort)

    def close(self) -> None:
        for governance in self._governance:
            governance.close_state()


def made_up(task: Task, patients: int) -> Table:
    """Records of no patient, within the task's public ranges."""
    drawn = np.random.default_rng(0)
    table: dict[str, npt.NDArray[Any]] = {PATIENT: np.arange(patients).astype(str)}
    for column in task.schema.columns:
        if column.kind == "number":
            table[column.name] = drawn.uniform(column.low, column.high, patients)
        else:
            table[column.name] = drawn.choice(np.array(column.categories, object), patients)
    return {**table, task.schema.label: drawn.integers(0, 2, patients)}


def _answers(site: str, data: Mapping[str, Path], exact_releases: int) -> SiteAnswers:
    return SiteAnswers(
        site=site,
        data=data,
        tasks=tuple(data),
        purposes=("research",),
        modes=("none", "distributed"),
        approval="rule",
        delta=1e-3,
        epsilon_per_study=1e3,
        epsilon_lifetime=9e3,
        epsilon_broken=9e3,
        exact_evaluation=True,
        exact_releases=exact_releases,
        threads=1,
    )


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Hospitals]:
    made = Hospitals(tmp_path)
    try:
        yield made
    finally:
        made.close()


def summed(
    federation: Federation, study: Study, round_: int, weights: Vector | None
) -> Histogram | None:
    """The sites' score histograms of these weights, added up in a round that trains and evaluates
    what the study says of it; empty where it does not evaluate. None where a site refuses."""
    trains, evaluates = round_ <= study.optimisation.rounds, study.evaluates(round_)
    sections = Sections(study, train=trains, evaluate=evaluates)
    readys = federation.prepare(
        study, round_, round_=round_, train=trains, evaluate=evaluates, weights=weights
    )
    if not _all_are(Ready, readys):
        return None
    shares = federation.collect(study, readys, round_, round_)
    if not _all_are(Share, shares):
        return None
    total = federation.open(study, shares)[sections.histogram]
    if not sections.evaluate:
        return np.zeros((2, 0), np.int64)
    return np.rint(decode_histogram(study, total)).astype(np.int64).reshape(2, -1)


def _all_are(kind: type, frames: Mapping[str, Frame]) -> bool:
    return all(isinstance(messages.parse(frame), kind) for frame in frames.values())


def accepted(hospitals: Hospitals, evaluation: str) -> Study | None:
    """The study, evaluated so, once every hospital has accepted it. None where it is refused."""
    try:
        study = build_study(load([*WORDS, f"evaluation={evaluation}"]), TASK, hospitals.patients)
    except WardroundError:
        return None
    standings = hospitals.federation.propose(study).values()
    agreed = all(isinstance(s, Standing) and s.state == "accepted" for s in standings)
    return study if agreed else None


def read_out(hospitals: Hospitals) -> Attack:
    """The attack, as far as the sites let it go."""
    attack, study = Attack(), accepted(hospitals, "exact")
    if study is None:
        return attack
    for round_ in range(1, ROUNDS + 1):
        counts = summed(hospitals.federation, study, round_, attack.weights())
        if counts is None or attack.done:
            break
        if counts.shape == (2, BINS) and counts.any():
            attack.see(counts)
    return attack


def test_the_same_hospitals_answer_where_evaluation_is_noised(hospitals: Hospitals) -> None:
    """A refusal in the test below is one of exact evaluation, and of nothing else."""
    study, weights = accepted(hospitals, "noised"), Attack().weights()
    assert study is not None
    for round_ in (1, 2):
        counts = summed(hospitals.federation, study, round_, weights)
        assert counts is not None
        assert bool(counts.size) == study.evaluates(round_)


def test_no_patients_record_is_read_from_exact_evaluation_sums(hospitals: Hospitals) -> None:
    """The patient's whole record: all thirty features, each within a bin."""
    recovered = features_read(hospitals, read_out(hospitals))
    assert recovered < FEATURES, f"{recovered} of {FEATURES} features of one patient were read"


def features_read(hospitals: Hospitals, attack: Attack) -> int:
    """Features of one patient that the attack knows, each within a bin, once it has them all."""
    read = np.zeros(len(hospitals.records), dtype=np.int64)
    for feature, (value, width) in attack.record.items():
        read += np.abs(hospitals.records[:, feature] - value) <= width
    return int(read.max()) if attack.done else 0


def spread(hospitals: Hospitals) -> tuple[Attack, int]:
    """The attack over studies of as many accounts, each of one round and one exact evaluation, and
    closed after it; some are of another task. Also how many exact sums were opened in all."""
    attack, opened = Attack(), 0
    federation = hospitals.federation
    for number in range(STUDIES):
        task = OTHER if number % 7 == 6 else TASK
        words = [*PLAIN, f"task={task.name}", f"contact=account{number}@example.org"]
        declared = hospitals.patients if task is TASK else dict.fromkeys(hospitals.patients, 20)
        study = build_study(load(words), task, declared)
        if any(standing.state != "accepted" for standing in federation.propose(study).values()):
            continue
        weights = attack.weights() if task is TASK and not attack.done else None
        counts = summed(federation, study, 2, weights)
        opened += counts is not None
        if counts is not None and weights is not None and counts.any():
            attack.see(counts)
        close = messages.frame(messages.Close(study=study.digest, outcome="cancelled"))
        for site in federation.sites.values():
            site.answer(close)
    return attack, opened


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [0, 12, 1000])
def test_forty_studies_of_forty_accounts_get_what_the_policy_counts(
    tmp_path: Path, allowed: int
) -> None:
    """With a number large enough the record is read: nothing but the number stands before it."""
    hospitals = Hospitals(tmp_path, allowed)
    try:
        attack, opened = spread(hospitals)
        assert opened <= allowed
        assert (opened > 0) == (allowed > 0)
        assert features_read(hospitals, attack) == (FEATURES if allowed > STUDIES else 0)
    finally:
        hospitals.close()
