"""Folds by patient, studies over them through the framework, and AUC within folds.

Each fold's patients are the evaluation part of one study (the simulated sites' split puts them
there), so that its epsilon covers training and the noised evaluation, for every patient. The AUC is
counted here, from public patients: the coordinator never learns a score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from client.data.cohort import Cohort
from client.training.dp_trainer import DPTrainer
from launch.config.compose import load
from launch.federations.inprocess import InProcessFederation
from launch.studies.study_builder import build_study
from protocol.study.study import Evaluation
from protocol.vectors import Vector
from server.enrolment.roster import banded
from server.rounds.listener import Listeners
from tasks.base import Task
from tasks.schema import PATIENT, Table

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fold:
    """One fold: cohorts by site, whose evaluation part (`share` of the patients) is the fold; the
    public score of its records (M,), in the order of `part`; none where the task knows none."""

    cohorts: Mapping[str, Cohort]
    share: float
    public: npt.NDArray[np.float64] | None

    def part(self, training: bool, sites: Sequence[str] | None = None) -> tuple[Features, Labels]:
        """(M, F), (M,) of all records of the sites' training or evaluation patients."""
        chosen = [self.cohorts[site] for site in sites or self.cohorts]
        masks = [c.in_training == training for c in chosen]
        return (
            np.concatenate([c.features[m] for c, m in zip(chosen, masks, strict=True)]),
            np.concatenate([c.labels[m] for c, m in zip(chosen, masks, strict=True)]),
        )

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """(M,) which patient each record of the evaluation part is of, in the order of `part`."""
        starts = np.cumsum([0, *(c.patients for c in self.cohorts.values())])
        parts = zip(self.cohorts.values(), starts, strict=False)
        return np.concatenate([c.patient[~c.in_training] + start for c, start in parts])


class Data:
    """A task's public sites, their features made once and dealt to parts as often as asked."""

    def __init__(self, task: Task, tables: Mapping[str, Table]) -> None:
        evaluation = Evaluation(release="exact")
        self.task = task
        self._patients = {
            site: np.unique(t[PATIENT][_labelled(task, t)].astype(str))
            for site, t in tables.items()
        }
        self._cohorts = {
            s: Cohort.build(task, t, lambda _: 0.0, evaluation) for s, t in tables.items()
        }

    def fold(self, start: float, share: float, seed: int) -> Fold:
        """Patients whose place is in [start, start + share) evaluate; the others train."""
        cohorts, public = {}, []
        for site, whole in self._cohorts.items():
            places = np.array([place(patient, seed) for patient in self._patients[site]])
            u = (places - start - share) % 1.0
            train = u < 1 - share
            cohorts[site] = Cohort(
                whole.features,
                whole.labels,
                whole.patient,
                whole.identity,
                u,
                train[whole.patient],
                train,
                ~train,
            )
            if whole.public is not None:
                public.append(whole.public[~train[whole.patient]])
        return Fold(cohorts, share, np.concatenate(public) if public else None)

    def folds(self, count: int, seed: int) -> list[Fold]:
        """`count` folds by patient: each patient evaluates in one."""
        return [self.fold(k / count, 1 / count, seed) for k in range(count)]


def _labelled(task: Task, table: Table) -> npt.NDArray[np.bool_]:
    """(N,) rows that have a label; patients without any are in no cohort."""
    return ~task.outcome.missing(task.outcome.labels_of(task.schema.label_of(table)))


def place(patient: str, seed: int) -> float:
    """A patient's place in [0, 1): in which fold he is, whatever the hospital."""
    word = hashlib.sha256(f"fold {seed} of {patient}".encode()).digest()[:8]
    return int.from_bytes(word) / 2**64


def trained(
    task: Task, fold: Fold, overrides: Sequence[str], *, counted: Callable[[int], int] = banded
) -> tuple[Vector, float]:
    """One study of the fold's training patients -> (weights, epsilon spent or 0). counted: what a
    site declares of its patients."""
    config = load(
        [
            f"task={task.name}",
            "federation=inprocess",
            "tracking=off",
            "evaluation.every=0",
            *(f"task.options.{key}={value}" for key, value in task.options.items()),
            f"evaluation.fraction={fold.share}",
            *overrides,
        ]
    )
    declared = {site: counted(int(c.train.sum())) for site, c in fold.cohorts.items()}
    study = build_study(config, task, declared)
    outcome = InProcessFederation(fold.cohorts).run(study, task, Listeners())
    return outcome.weights, outcome.epsilon or 0.0


def federated(
    task: Task, fold: Fold, overrides: Sequence[str], *, counted: Callable[[int], int] = banded
) -> tuple[npt.NDArray[np.float32], float]:
    """The same -> (scores (M,) of the evaluation patients' records, epsilon spent or 0)."""
    weights, spent = trained(task, fold, overrides, counted=counted)
    features, _ = fold.part(training=False)
    return DPTrainer(task, 0).scores(weights, torch.from_numpy(features)), spent


def auc(labels: npt.NDArray[np.floating], scores: npt.NDArray[np.floating]) -> float:
    """Area under the ROC curve."""
    return float(roc_auc_score(labels, scores))


def within(labels: Sequence[Labels], scores: Sequence[npt.NDArray[np.floating]]) -> float:
    """AUC over pairs of one fold each: models of different folds are never compared, whose noise
    shifts all scores of a fold alike and would deflate the pooled AUC."""
    pairs = np.array([(y == 1).sum() * (y == 0).sum() for y in labels], dtype=np.float64)
    aucs = [auc(y, s) for y, s in zip(labels, scores, strict=True)]
    return float(np.average(aucs, weights=pairs))


def gain_interval(
    folds: Sequence[Fold], scores: Sequence[npt.NDArray[np.floating]], draws: int = 400
) -> tuple[float, float]:
    """The middle 95% of what the scores' AUC within folds is over the public score's, when the
    tested patients are drawn again with replacement, each with all of his records (Efron 1979)."""
    generator = np.random.default_rng(0)
    gains = []
    for _ in range(draws):
        total, pairs = 0.0, 0.0
        for fold, scored in zip(folds, scores, strict=True):
            labels, owners, public = fold.part(training=False)[1], fold.owners, fold.public
            if public is None:
                raise ValueError("a gain is over a public score, and this task knows none")
            many = int(owners.max()) + 1
            weight = generator.multinomial(many, np.full(many, 1 / many))[owners].astype(float)
            weighed = float(weight[labels == 1].sum() * weight[labels == 0].sum())
            if weighed:
                ours, theirs = (
                    float(roc_auc_score(labels, s, sample_weight=weight)) for s in (scored, public)
                )
                total, pairs = total + weighed * (ours - theirs), pairs + weighed
        gains.append(total / pairs)
    low, high = np.quantile(gains, (0.025, 0.975))
    return float(low), float(high)
