"""How long a study would take: a round of its largest site on made-up patients, timed here, and one
of its smallest, since a round costs something whoever is there; and what the coordinator takes to
state the epsilon of the rounds."""

from __future__ import annotations

import time

import numpy as np

from client.data.cohort import Cohort, identities
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.local_steps import SiteContext
from client.training.sampling import Patients
from launch.studies.plans.plan_bytes import traffic
from protocol.privacy.releases import spent_epsilon
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from tasks.base import Task

_EXCHANGE = 0.08
"""Seconds for a question and its answer over TLS beside the bytes; two a round."""
_SIMULATED = 0.001
"""Seconds a round and site for messages in one process."""
_STATED = 10
"""How often at most the rounds of a study are accounted for anew."""
_MOST = 5000
"""Made-up patients at most; more are counted in proportion."""


def seconds(study: Study, task: Task, *, simulated: bool, line: float) -> float:
    """Of the whole study, if no site keeps it waiting. In a deployment sites work side by side;
    simulated ones, one after the other. `line`: bytes a second of the slowest site's line."""
    rounds, stated = study.optimisation.rounds + 1, _accounting(study)
    patients = [member.patients for member in study.roster]
    largest = _step(study, task, max(patients))
    if not simulated:
        return rounds * (largest + 2 * _EXCHANGE) + traffic(study).seconds(line) + stated
    smallest = _step(study, task, min(patients)) if min(patients) < max(patients) else largest
    steps = np.interp(patients, (min(patients), max(patients)), (smallest, largest))
    return rounds * (float(steps.sum()) + _SIMULATED * len(patients)) + stated


def _accounting(study: Study) -> float:
    """Seconds in which the coordinator states what has been spent: in each tenth of the rounds
    (`Attempts.epsilon_so_far`), and at the end also as if masks had not held."""
    if study.privacy.epsilon is None:
        return 0.0
    rounds = study.optimisation.rounds
    started = time.perf_counter()
    spent_epsilon(study, max(1, rounds - 1), 0)
    one = time.perf_counter() - started
    spent_epsilon(study, rounds, 0, broken=True)
    return min(rounds, _STATED) * one + time.perf_counter() - started


def _step(study: Study, task: Task, patients: int) -> float:
    """Seconds of one round's work at a site with so many training patients."""
    number = min(patients, _MOST)
    largest = max(study.roster, key=lambda member: member.patients).name
    learner = DPTrainer(task, study.optimisation.seed)
    cohort = Patients.of(task, made_up(task, number))
    contributor = Contributor(SiteContext(study, largest, cohort, learner))
    sections = Sections(study, train=True, evaluate=False)
    body = np.zeros(sections.body, np.float32)
    body[: study.model.parameters] = learner.model.weights()
    best = float("inf")
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        contributor.contribution(sections, body, 1)
        worked = time.perf_counter() - started
        contributor.noise(sections, len(study.roster))
        noised = time.perf_counter() - started - worked
        best = min(best, worked * patients / number + noised)
    return best


def made_up(task: Task, number: int) -> Cohort:
    """So many training patients, all alike; as many more evaluate. Labels alternate."""
    features = task.features(task.schema.made_up(1))
    training = np.arange(2 * number) < number
    return Cohort(
        np.broadcast_to(features, (2 * number, *features.shape[1:])).copy(),
        (np.arange(2 * number) % 2).astype(np.float32),
        np.arange(2 * number),
        identities(map(str, range(2 * number))),
        np.where(training, 0.0, 1.0 - 1e-9),
        training,
        training,
        ~training,
    )
