"""Many releases of two neighbouring data sets: how well they are told apart, against the claim.

One attempt is released again and again on the same weights. A test is chosen on a quarter of the
releases and counted on the others, so that choosing it costs no confidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from client.data.cohort import Cohort
from client.privacy_audit.bounds import CONFIDENCE, many_runs
from client.privacy_audit.finding import Finding, epsilon_at
from client.privacy_audit.neighbours import Neighbours, attacks
from client.privacy_audit.released_sums import AuditedStudy, Floats, Part
from protocol.privacy.accounting import epsilon

Progress = Callable[[str, int, int], None]
"""Of a stage, steps done and steps in all."""

_CHOOSING = 4
_PLACES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98)
_ROUGHLY = 0.1
"""Error of the bounds by which tests are compared."""
_SHOWN = 50


def audit(
    audited: AuditedStudy, patients: Cohort, runs: int, seed: int, progress: Progress
) -> list[Finding]:
    """Every attack against every release of which the study claims something.

    patients: whose records the neighbouring data sets are made of. runs: releases of each data set.
    """
    parts: tuple[Part, ...] = ("training", "evaluation")
    return [
        distinguish(audited, part, neighbours, runs, progress)
        for part in parts
        if audited.claims(part)
        for neighbours in attacks(audited, patients, part, seed)
    ]


def distinguish(
    audited: AuditedStudy, part: Part, neighbours: Neighbours, runs: int, progress: Progress
) -> Finding:
    """One attack, `runs` times on each of the two data sets."""
    stage = f"{part}, {neighbours.name} weights"
    one_step = audited.stepwise
    sites = [one_step.site(patients, part) for patients in (neighbours.few, neighbours.more)]
    found = np.empty((2, runs, 2))
    progress(stage, 0, runs)
    for run in range(runs):
        for world, site in enumerate(sites):
            released = site.release(neighbours.weights)
            along = float(released @ neighbours.direction)
            found[world, run] = along, float(released @ released)
        if run % _SHOWN == _SHOWN - 1 or run == runs - 1:
            progress(stage, run + 1, runs)
    return _judged(audited, part, neighbours, found)


def _judged(audited: AuditedStudy, part: Part, neighbours: Neighbours, found: Floats) -> Finding:
    """found: (2, runs, 2), of both data sets, what each test looks at in every release."""
    spent, delta = audited.spent(part), audited.study.privacy.delta
    rate, runs = spent.sampling_rate, found.shape[1]
    first = runs // _CHOOSING
    column, sign, place = _chosen(found[:, :first], rate)
    false_hits, hits = (int((sign * world[first:, column] > place).sum()) for world in found)
    shown = many_runs(false_hits, hits, runs - first, rate)
    few, more = found[:, :, 0]
    noise = float(few.std(ddof=1))
    apparent = abs(float(more.mean() - few.mean())) / (rate * noise) if noise else 0.0
    return Finding(
        audit="many runs",
        part=part,
        weights=neighbours.name,
        epsilon=epsilon([spent], delta),
        bound=epsilon_at(shown, spent, delta),
        estimate=epsilon_at(max(shown, apparent), spent, delta),
        runs=runs,
        confidence=CONFIDENCE,
    )


def _chosen(found: Floats, rate: float) -> tuple[int, float, float]:
    """Of the tests "column times sign is above place", the one that tells these releases apart
    best."""
    best, most = (0, 1.0, 0.0), -1.0
    for column, sign in itertools.product((0, 1), (1.0, -1.0)):
        few, more = sign * found[:, :, column]
        for place in np.quantile(found[:, :, column] * sign, _PLACES):
            false_hits, hits = int((few > place).sum()), int((more > place).sum())
            shown = many_runs(false_hits, hits, len(few), rate, _ROUGHLY)
            if shown > most:
                best, most = (column, sign, float(place)), shown
    return best
