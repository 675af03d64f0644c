"""Was federating worth it? The same training at one hospital alone, and on all data pooled.

Only where all data is public and here. Every model is scored on the same patients, those who
evaluate at any site, and each gets the federated study's own privacy budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from client.data.cohort import Cohort
from client.learner import Learner
from client.sampling import Patients
from launch.configuration import Config
from launch.inprocess import InProcessFederation
from launch.study_builder import build_study
from protocol.scores import accuracy, histogram, roc_auc
from protocol.vectors import Vector
from server.listener import Listeners
from tasks.base import Task

_BINS = 4096
"""So fine that the area under the curve is that of the scores themselves."""


@dataclass(frozen=True)
class Judged:
    """AUC and accuracy of one or several models; the lowest and highest where several."""

    name: str
    auc: float
    accuracy: float
    lowest_auc: float
    highest_auc: float


def compare(
    config: Config,
    task: Task,
    cohorts: Mapping[str, Cohort],
    declared: Mapping[str, int],
    federated: Vector,
) -> list[Judged]:
    """One hospital alone (mean over hospitals), federated, all data pooled.

    declared: site -> training patients that the study declared. federated: (P,) float32.
    """
    pooled = pool(cohorts)
    patients = Patients(pooled).evaluation
    learner = Learner(task, config.seed)

    def judge(name: str, models: list[Vector]) -> Judged:
        counts = [
            histogram(learner.scores(w, patients.features), patients.labels.numpy(), _BINS)
            for w in models
        ]
        aucs = [float(roc_auc(c.astype(np.float64))) for c in counts]
        right = float(np.mean([accuracy(c.astype(np.float64)) for c in counts]))
        return Judged(name, float(np.mean(aucs)), right, min(aucs), max(aucs))

    def train(name: str, cohort: Cohort, size: int) -> Vector:
        study = build_study(_alone(config), task, {name: size})
        return InProcessFederation({name: cohort}).run(study, task, Listeners()).weights

    return [
        judge(
            "one hospital alone",
            [train(site, cohort, declared[site]) for site, cohort in cohorts.items()],
        ),
        judge("federated", [federated]),
        judge("all data pooled", [train("pooled", pooled, sum(declared.values()))]),
    ]


def pool(cohorts: Mapping[str, Cohort]) -> Cohort:
    """All sites' patients as one cohort, each in the part that he has at his site."""
    parts = list(cohorts.values())
    starts = np.cumsum([0, *(part.patients for part in parts[:-1])])
    return Cohort(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([p.patient + start for p, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.u for part in parts]),
        np.concatenate([part.in_training for part in parts]),
        np.concatenate([part.train for part in parts]),
        np.concatenate([part.evaluation for part in parts]),
    )


def _alone(config: Config) -> Config:
    """The same study for a single site in this process, scored only here."""
    return replace(
        config,
        federation=replace(config.federation, name="inprocess", masked=False),
        aggregation=replace(config.aggregation, least_sites=1, colluding_sites=0),
        evaluation=replace(config.evaluation, release="exact", every=0, bins=512),
    )
