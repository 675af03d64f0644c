"""A membership attack on a study's released model, on public data: for the reader of an audit."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from client.data.cohort import Cohort, Part
from client.privacy_audit.report import Membership
from launch.federations.inprocess import InProcessFederation
from launch.studies.baselines import pool
from protocol.study.study import Study
from server.rounds.listener import Listener
from tasks.base import Task
from tasks.flat_model import FlatModel

_BATCH = 256
_FALSE_RATE = 0.01


def attack(
    study: Study, task: Task, cohorts: Mapping[str, Cohort], listener: Listener
) -> Membership:
    """Runs the study in this process, and guesses from the loss on each patient's first record who
    trained (Yeom et al. 2018): patients who evaluate are those who did not."""
    weights = InProcessFederation(cohorts).run(study, task, listener).weights
    model, everybody = FlatModel(task, study.optimisation.seed), pool(cohorts)
    model.load(weights)
    members, others = (_losses(model, task, everybody, part) for part in ("train", "evaluation"))
    epsilon, delta = study.privacy.epsilon or math.inf, study.privacy.delta
    below = np.searchsorted(np.sort(others), members)
    smallest = np.quantile(others, _FALSE_RATE)
    return Membership(
        auc=float(1 - below.mean() / len(others)),
        at_one_percent=float((members < smallest).mean()),
        limit=min(1.0, math.exp(min(epsilon, 50.0)) * _FALSE_RATE + delta),
        members=len(members),
        others=len(others),
    )


def _losses(model: FlatModel, task: Task, everybody: Cohort, part: Part) -> np.ndarray:
    """(n,) float64, one for each patient of the part."""
    rows = everybody.first(everybody.members(part), part)
    found = []
    with torch.no_grad():
        for start in range(0, len(rows), _BATCH):
            chosen = rows[start : start + _BATCH]
            features = torch.tensor(everybody.features[chosen]).float()
            labels = torch.tensor(everybody.labels[chosen]).float()
            found.append(task.losses(model.module(features), labels).double().numpy())
    return np.concatenate(found)
