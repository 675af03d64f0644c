"""One run of a study with canaries among its patients: how many are found, against the claim.

All attempts that epsilon pays for, on weights as training makes them (Steinke, Nasr and Jagielski
2023). The coordinator adds up what the sums say along each canary's coordinate; it says "in" of the
eighth of the canaries with the largest sums and "out" of the eighth with the smallest. The lower
bound holds for any mechanism of the claimed kind (`bounds.refuted`), and is loose for one run; the
estimate takes the scores for normal ones and compares their deviation with what a canary adds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from client.data.cohort import Cohort
from client.privacy_audit.bounds import CONFIDENCE, Floats, profile, refuted
from client.privacy_audit.canaries import Canaries, plant
from client.privacy_audit.finding import Finding, epsilon_at, with_shift
from client.privacy_audit.many_runs import Progress
from client.privacy_audit.released_sums import ROUND, AuditedStudy
from protocol.privacy.accounting import deltas, epsilon
from protocol.privacy.events import Event
from protocol.study.study import Study
from protocol.study.vector_layout import decode_gradient
from tasks.base import Task
from tasks.flat_model import FlatModel

_SIDE = 8
_EPSILONS = np.r_[0.0, np.geomspace(0.02, 50.0, 40)]
_MOST, _STEPS = 16.0, 12


def audit(
    study: Study, task: Task, patients: Cohort, canaries: int, seed: int, progress: Progress
) -> Finding:
    """One run with so many canaries, beside these patients.

    Raises WardroundError(CONFIGURATION) where the model cannot be trained with them.
    """
    planted = plant(study, task, patients, canaries, seed)
    audited = AuditedStudy.of(planted.study, planted.task)
    spent, delta = audited.spent("training"), study.privacy.delta
    scores = _scores(audited, planted, progress)
    right, guesses = _guessed(scores, planted.included)
    return Finding(
        audit="one run",
        part="training",
        weights="as trained",
        epsilon=epsilon([spent], delta),
        bound=epsilon_at(min_shift(spent, canaries, guesses, right), spent, delta),
        estimate=epsilon_at(apparent_shift(spent, scores, planted.included), spent, delta),
        runs=canaries,
        confidence=CONFIDENCE,
    )


def min_shift(event: Event, canaries: int, guesses: int, right: int) -> float:
    """The largest mu (sensitivity over deviation, of one release) that the run refutes; 0 if none.

    event: all releases of the run.
    """
    low, high = 1e-2 / math.sqrt(event.count), _MOST

    def beyond(mu: float) -> bool:
        noised = with_shift(event, mu)
        inverse = profile(_EPSILONS, np.ones(len(_EPSILONS)))
        if noised is not None:
            inverse = profile(_EPSILONS, deltas([noised], _EPSILONS))
        return refuted(inverse, canaries, guesses, right)

    if not beyond(low):
        return 0.0
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if beyond(middle) else (low, middle)
    return low


def apparent_shift(event: Event, scores: Floats, included: npt.NDArray[np.bool_]) -> float:
    """The mu of one release that the scores suggest: canaries in the run are sampled at the rate q
    in each of n releases, and differ by n q mu on average, in deviations of one release."""
    out, releases = scores[~included], event.count
    noise = float(out.std(ddof=1)) / math.sqrt(releases)
    added = (float(scores[included].mean()) - float(out.mean())) / (releases * event.sampling_rate)
    return max(0.0, added / noise) if noise > 0 else math.inf


def _scores(audited: AuditedStudy, planted: Canaries, progress: Progress) -> Floats:
    """(m,) what all sums together say along each canary's coordinate."""
    study, everyone = audited.study, frozenset(audited.study.sites)
    site = audited.site(planted.patients, "training")
    weights = FlatModel(audited.task, study.optimisation.seed).weights()
    scores = np.zeros(planted.where.stop - planted.where.start)
    rate, attempts = study.optimisation.server.lr, study.aggregation.attempts
    for attempt in range(attempts):
        released = site.release(weights)[: study.model.parameters]
        gradient = decode_gradient(study, released.astype(np.int64), everyone, ROUND)
        scores -= gradient[planted.where]
        weights = (weights - rate * gradient).astype(np.float32)
        weights[planted.where] = 0.0
        progress("one run with canaries", attempt + 1, attempts)
    return scores


def _guessed(scores: Floats, included: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """How many guesses are right, and how many there are."""
    order, side = np.argsort(scores), max(1, len(scores) // _SIDE)
    right = int(included[order[-side:]].sum()) + int((~included[order[:side]]).sum())
    return right, 2 * side
