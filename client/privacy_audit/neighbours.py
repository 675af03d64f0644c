"""Neighbouring data sets and the weights that a coordinator may send to tell them apart.

The adversary chooses both: differential privacy is about all data sets and any weights. What is
here is what honest weights show, and two kinds of hostile ones:

- saturating: the model is sure of everybody. Patients whose label agrees have a gradient of exactly
  0, and the one whose label does not has the longest: the sum is that patient's.
- opposed: the model knows nothing. All patients pull one way, and one pulls the other: where
  samples have a fixed size, it is in another's place and moves the sum twice as far.
- cancelling: every score is a small difference of large numbers, so that the last bit of a float32
  decides the loss. Where that bit depends on who else is in the batch, one patient more moves the
  terms of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.data.cohort import Cohort
from client.privacy_audit.released_sums import AuditedStudy, Floats, Part, cohort_of
from protocol.vectors import Vector
from tasks.flat_model import FlatModel

_SURE = 128.0
"""A logit whose sigmoid is 1 in float32, and which float32 still resolves finely."""
_COMPANY, _CANDIDATES = 8, 16
_TRIALS = 240
_LARGEST = 2.0**30


@dataclass(frozen=True)
class Neighbours:
    """Two data sets, `more` with one patient more, and the weights they are used on.

    direction: (length,) where that patient moves the sum without noise, of norm 1. moved: how far,
    in units of what the study claims.
    """

    name: str
    weights: Vector
    few: Cohort
    more: Cohort
    direction: Floats
    moved: float


def honest(audited: AuditedStudy, patients: Cohort, part: Part, seed: int) -> Neighbours:
    """The weights that the study begins with; the patient of several who moves the sum most."""
    rng = np.random.default_rng([seed, 0])
    weights = FlatModel(audited.task, audited.study.optimisation.seed).weights()
    chosen = rng.permutation(len(patients.labels))
    company = chosen[: min(_COMPANY, len(chosen) - 1)]
    return max(
        (
            _neighbours("honest", audited, part, weights, rows.features, rows.labels)
            for newcomer in chosen[len(company) :][:_CANDIDATES]
            for rows in [_Rows.of(patients, [*company, newcomer])]
        ),
        key=lambda found: found.moved,
    )


def saturating(audited: AuditedStudy, patients: Cohort, part: Part, seed: int) -> Neighbours | None:
    """None for a model without a last layer of one output."""
    return _one_against_all("saturating", _SURE, audited, patients, part, seed)


def opposed(audited: AuditedStudy, patients: Cohort, part: Part, seed: int) -> Neighbours | None:
    """Likewise."""
    return _one_against_all("opposed", 0.0, audited, patients, part, seed)


def cancelling(audited: AuditedStudy, patients: Cohort, part: Part, seed: int) -> Neighbours | None:
    """Likewise; the worst of a search over weights, patients and sizes of batch."""
    rng = np.random.default_rng([seed, 2])
    if (last := _last(audited)) is None:
        return None
    worst: Neighbours | None = None
    for trial in range(_TRIALS):
        row = int(rng.integers(len(patients.labels)))
        size = _COMPANY if trial < _TRIALS // 2 else 2 + trial % 64
        alike = _Rows.of(patients, [row] * size)
        weights = _cancelling_on(audited, last, alike.features[:1], rng)
        labels = np.full(size, float(rng.integers(2)))
        one = _neighbours("cancelling", audited, part, weights, alike.features, labels)
        if worst is None or one.moved > worst.moved:
            worst = one
    return worst


def attacks(audited: AuditedStudy, patients: Cohort, part: Part, seed: int) -> Iterator[Neighbours]:
    """What there is against a release. patients: (n, ...) records to choose from, 2 or more."""
    yield honest(audited, patients, part, seed)
    for hostile in (saturating, opposed, cancelling):
        if (found := hostile(audited, patients, part, seed)) is not None:
            yield found


@dataclass(frozen=True)
class _Rows:
    features: npt.NDArray[Any]
    labels: npt.NDArray[np.float32]

    @staticmethod
    def of(patients: Cohort, rows: Any) -> _Rows:
        chosen = np.asarray(rows, dtype=np.int64)
        return _Rows(patients.features[chosen], patients.labels[chosen])


def _one_against_all(
    name: str, logit: float, audited: AuditedStudy, patients: Cohort, part: Part, seed: int
) -> Neighbours | None:
    """Patients who are alike with label 1, and one with label 0; the last layer says `logit`."""
    rng = np.random.default_rng([seed, 1])
    if (last := _last(audited)) is None:
        return None
    found = []
    for row in rng.integers(len(patients.labels), size=_CANDIDATES):
        alike = _Rows.of(patients, [row] * (_COMPANY + 1))
        weights = _saying(audited, last, alike.features[:1], logit)
        labels = np.r_[np.ones(_COMPANY), 0.0]
        found.append(_neighbours(name, audited, part, weights, alike.features, labels))
    return max(found, key=lambda one: one.moved)


def _neighbours(
    name: str,
    audited: AuditedStudy,
    part: Part,
    weights: Vector,
    features: npt.NDArray[Any],
    labels: npt.NDArray[Any],
) -> Neighbours:
    """All of these patients, and all but the last."""
    few, more = (cohort_of(features[:n], labels[:n], part) for n in (-1, len(labels)))
    without, with_ = (audited.twin.site(one, part).contribution(weights) for one in (few, more))
    way = with_ - without
    length = float(np.linalg.norm(way))
    claimed = audited.twin.spent(part).sensitivity.l2
    direction = way / length if length else way
    return Neighbours(name, weights, few, more, direction, length / claimed)


def _last(audited: AuditedStudy) -> nn.Linear | None:
    """The layer that makes the score, in the learner's own model."""
    layers = [
        layer
        for layer in audited.learner.model.module.modules()
        if isinstance(layer, nn.Linear) and layer.out_features == 1 and layer.bias is not None
    ]
    return layers[-1] if layers else None


def _hidden(audited: AuditedStudy, last: nn.Linear, patient: npt.NDArray[Any]) -> Tensor:
    """(in_features,) float64: what reaches the last layer from one patient, (1, ...)."""
    model = audited.learner.model
    model.load(FlatModel(audited.task, audited.study.optimisation.seed).weights())
    received: list[Tensor] = []
    hook = last.register_forward_hook(lambda _, given, __: received.append(given[0].double()))
    try:
        with torch.no_grad():
            model.module(torch.from_numpy(patient).float())
    finally:
        hook.remove()
    return received[0].reshape(-1, last.in_features)[0]


@torch.no_grad()
def _saying(
    audited: AuditedStudy, last: nn.Linear, patient: npt.NDArray[Any], logit: float
) -> Vector:
    hidden = _hidden(audited, last, patient)
    last.weight.copy_((hidden * (logit / max(float(hidden @ hidden), 1e-6))).float()[None])
    last.bias.fill_(logit)
    return audited.learner.model.weights()


@torch.no_grad()
def _cancelling_on(
    audited: AuditedStudy, last: nn.Linear, patient: npt.NDArray[Any], rng: np.random.Generator
) -> Vector:
    hidden = _hidden(audited, last, patient)
    steep = _LARGEST * 2.0 ** -float(rng.choice([0, 2, 4, 6]))
    drawn = rng.normal(size=last.in_features) * steep / max(float(hidden.abs().max()), 1e-6)
    weights = torch.from_numpy(drawn.astype(np.float32))
    last.weight.copy_(weights[None])
    last.bias.copy_(-(weights.double() @ hidden).float()[None])
    return audited.learner.model.weights()
