"""Folds by patient, studies over them through the framework, and AUC within folds.

Each fold's patients are the evaluation part of one study (the simulated sites' split puts them
there), so that its epsilon covers training and the noised evaluation, for every patient. The AUC is
counted here, from public patients: the coordinator never learns a score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from client.data.cohort import Cohort
from launch.configuration import load
from launch.inprocess import InProcessFederation
from launch.study_builder import build_study
from protocol.study import Evaluation
from server.listener import Listeners
from server.roster import banded
from tasks.base import Task
from tasks.schema import PATIENT, Table
from tasks.weights import FlatModel

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fold:
    """One fold: cohorts by site, whose evaluation part is the fold; the public score of the same
    patients (M,), in the order of `evaluation`."""

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


def place(patient: str, seed: int) -> float:
    """A patient's place in [0, 1): in which fold he is, whatever the hospital."""
    word = hashlib.sha256(f"fold {seed} of {patient}".encode()).digest()[:8]
    return int.from_bytes(word) / 2**64


def folds(task: Task, tables: Mapping[str, Table], count: int, seed: int) -> Iterator[Fold]:
    """`count` folds by patient, each the evaluation part once."""
    for k in range(count):
        yield fold(task, tables, k / count, 1 / count, seed)


def fold(task: Task, tables: Mapping[str, Table], start: float, share: float, seed: int) -> Fold:
    """The patients whose place is in [start, start + share) evaluate; the others train."""
    evaluation = Evaluation(release="exact", fraction=share)

    def split(patient: str) -> float:
        return (place(patient, seed) - start - share) % 1.0

    cohorts = {site: Cohort.build(task, t, split, evaluation) for site, t in tables.items()}
    public = []
    for site, table in tables.items():
        scores = task.public_score(table)
        if scores is None:
            return Fold(cohorts, share, None)
        if len(scores) != len(cohorts[site].labels):
            raise ValueError(f"rows of {site} were set aside: the public score would not match")
        u = np.array([split(str(patient)) for patient in table[PATIENT]])
        public.append(scores[u >= 1 - share])
    return Fold(cohorts, share, np.concatenate(public))


def federated(
    task: Task, fold: Fold, overrides: Sequence[str]
) -> tuple[npt.NDArray[np.float32], float]:
    """One study of the fold's training patients -> (scores (M,) of its evaluation patients'
    records, epsilon spent or 0)."""
    config = load(
        [
            f"task={task.name}",
            "federation=inprocess",
            "tracking=off",
            "evaluation.every=0",
            f"evaluation.fraction={fold.share}",
            *overrides,
        ]
    )
    declared = {site: banded(int(c.train.sum())) for site, c in fold.cohorts.items()}
    study = build_study(config, task, declared)
    outcome = InProcessFederation(fold.cohorts).run(study, task, Listeners())
    model = FlatModel(task, study.optimisation.seed)
    model.load(outcome.weights)
    features, _ = fold.part(training=False)
    with torch.no_grad():
        parts = torch.split(torch.from_numpy(features).float(), 8192)
        scores = torch.cat([task.scores(model.module(part)) for part in parts])
    return scores.numpy(), outcome.epsilon or 0.0


def auc(labels: npt.NDArray[np.floating], scores: npt.NDArray[np.floating]) -> float:
    """Area under the ROC curve."""
    return float(roc_auc_score(labels, scores))


def within(labels: Sequence[Labels], scores: Sequence[npt.NDArray[np.floating]]) -> float:
    """AUC over pairs of one fold each: models of different folds are never compared, whose noise
    shifts all scores of a fold alike and would deflate the pooled AUC."""
    pairs = np.array([(y == 1).sum() * (y == 0).sum() for y in labels], dtype=np.float64)
    aucs = [auc(y, s) for y, s in zip(labels, scores, strict=True)]
    return float(np.average(aucs, weights=pairs))
