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
- uneven: weights of all sizes in every layer, under which norms are hard to compute. The newcomer's
  term is longer than what is claimed where a norm is too small.

An attack makes up neighbours one after another, all weights between -largest and largest; none for
a model without the layer that it is about. `farthest` takes the one that moves the sum most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
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
BEYOND = 2.0**30
"""Far beyond the range that a site accepts (`protocol.vectors.LARGEST_WEIGHT`), which would hide
some faults: an audit asks whether the claim holds even without that check."""


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


Attack = Callable[[AuditedStudy, Cohort, Part, int, float], Iterator[Neighbours]]
"""The study, (n, ...) two or more records to choose from, what is released, a seed, and the largest
weight -> what it tries."""


def honest(
    audited: AuditedStudy, patients: Cohort, part: Part, seed: int, largest: float
) -> Iterator[Neighbours]:
    """The weights that the study begins with, whatever `largest`; one patient after another."""
    rng = np.random.default_rng([seed, 0])
    weights = FlatModel(audited.task, audited.study.optimisation.seed).weights()
    for rows in _newcomers(patients, rng):
        yield _neighbours("honest", audited, part, weights, rows)


def saturating(
    audited: AuditedStudy, patients: Cohort, part: Part, seed: int, largest: float
) -> Iterator[Neighbours]:
    """It needs a last layer of one output."""
    return _one_against_all("saturating", _SURE, audited, patients, part, seed, largest)


def opposed(
    audited: AuditedStudy, patients: Cohort, part: Part, seed: int, largest: float
) -> Iterator[Neighbours]:
    """Likewise."""
    return _one_against_all("opposed", 0.0, audited, patients, part, seed, largest)


def cancelling(
    audited: AuditedStudy, patients: Cohort, part: Part, seed: int, largest: float
) -> Iterator[Neighbours]:
    """Likewise; a search over weights, patients and sizes of batch."""
    rng = np.random.default_rng([seed, 2])
    extremes = audited.study.outcome.extremes
    if (last := _last(audited)) is None:
        return
    for trial in range(_TRIALS):
        row = int(rng.integers(len(patients.labels)))
        size = _COMPANY if trial < _TRIALS // 2 else 2 + trial % 64
        alike = _Rows.of(patients, [row] * size)
        weights = _cancelling_on(audited, last, alike.features[:1], rng, largest)
        labels = np.full(size, np.float32(extremes[rng.integers(2)]))
        yield _neighbours("cancelling", audited, part, weights, replace(alike, labels=labels))


def uneven(
    audited: AuditedStudy, patients: Cohort, part: Part, seed: int, largest: float
) -> Iterator[Neighbours]:
    """Of any model."""
    rng = np.random.default_rng([seed, 3])
    size = audited.study.model.parameters
    for rows in _newcomers(patients, rng):
        spread = np.log(largest) * rng.choice([0.1, 0.3, 1.0])
        drawn = rng.choice([-1.0, 1.0], size) * np.exp(rng.uniform(-spread, spread, size))
        yield _neighbours("uneven", audited, part, drawn.astype(np.float32), rows)


AUDITED: tuple[Attack, ...] = (honest, saturating, opposed, cancelling)
ATTACKS: tuple[Attack, ...] = (*AUDITED, uneven)


def farthest(tried: Iterable[Neighbours]) -> Neighbours | None:
    """The one in which a patient moves the sum most; None of none."""
    return max(tried, key=lambda found: found.moved, default=None)


def attacks(audited: AuditedStudy, patients: Cohort, part: Part, seed: int) -> Iterator[Neighbours]:
    """What an audit tries against a release: of every attack in AUDITED the farthest."""
    for attack in AUDITED:
        if (found := farthest(attack(audited, patients, part, seed, BEYOND))) is not None:
            yield found


@dataclass(frozen=True)
class _Rows:
    features: npt.NDArray[Any]
    labels: npt.NDArray[np.float32]

    @staticmethod
    def of(patients: Cohort, rows: Any) -> _Rows:
        chosen = np.asarray(rows, dtype=np.int64)
        return _Rows(patients.features[chosen], patients.labels[chosen])


def _newcomers(patients: Cohort, rng: np.random.Generator) -> Iterator[_Rows]:
    """Some patients and, last, one of several others."""
    chosen = rng.permutation(len(patients.labels))
    company = chosen[: min(_COMPANY, len(chosen) - 1)]
    for newcomer in chosen[len(company) :][:_CANDIDATES]:
        yield _Rows.of(patients, [*company, newcomer])


def _one_against_all(
    name: str,
    logit: float,
    audited: AuditedStudy,
    patients: Cohort,
    part: Part,
    seed: int,
    largest: float,
) -> Iterator[Neighbours]:
    """Patients who are alike with the highest label, and one with the lowest; the last layer says
    `logit`."""
    rng = np.random.default_rng([seed, 1])
    if (last := _last(audited)) is None:
        return
    lowest, highest = audited.study.outcome.extremes
    labels = np.r_[np.full(_COMPANY, highest), lowest].astype(np.float32)
    for row in rng.integers(len(patients.labels), size=_CANDIDATES):
        alike = _Rows.of(patients, [row] * len(labels))
        weights = _saying(audited, last, alike.features[:1], logit, largest)
        yield _neighbours(name, audited, part, weights, replace(alike, labels=labels))


def _neighbours(
    name: str, audited: AuditedStudy, part: Part, weights: Vector, rows: _Rows
) -> Neighbours:
    """All of these patients, and all but the last."""
    few, more = (
        cohort_of(rows.features[:n], rows.labels[:n], part) for n in (-1, len(rows.labels))
    )
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


def _saying(
    audited: AuditedStudy,
    last: nn.Linear,
    patient: npt.NDArray[Any],
    logit: float,
    largest: float,
) -> Vector:
    hidden = _hidden(audited, last, patient)
    steep = hidden * (logit / max(float(hidden @ hidden), 1e-6))
    return _with_last(audited, last, steep, logit, largest)


def _cancelling_on(
    audited: AuditedStudy,
    last: nn.Linear,
    patient: npt.NDArray[Any],
    rng: np.random.Generator,
    largest: float,
) -> Vector:
    hidden = _hidden(audited, last, patient)
    steep = largest * 2.0 ** -float(rng.choice([0, 2, 4, 6]))
    drawn = rng.normal(size=last.in_features) * steep / max(float(hidden.abs().max()), 1e-6)
    drawn *= min(1.0, largest / max(np.abs(drawn).max(), abs(float(hidden.numpy() @ drawn))))
    weights = torch.from_numpy(drawn.astype(np.float32)).double()
    return _with_last(audited, last, weights, -float(weights @ hidden), largest)


@torch.no_grad()
def _with_last(
    audited: AuditedStudy, last: nn.Linear, weights: Tensor, bias: float, largest: float
) -> Vector:
    """(P,) of the model, its last layer with (in_features,) weights and a bias."""
    last.weight.copy_(weights.clamp(-largest, largest).float()[None])
    last.bias.fill_(min(max(bias, -largest), largest))
    return audited.learner.model.weights()
