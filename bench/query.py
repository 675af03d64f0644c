"""Noised counts of a query: how close they are to the truth, and what an auditor can prove.

    python bench/query.py [--runs 10000]

Closeness: runs of the sites' own code (each draws its share of discrete Laplace noise), summed. A
count at epsilon 0.5 has at best P(|noise| <= 5) = 1 - 2 a^6 / (1 + a) = 0.938, a = exp(-1/2): the
geometric mechanism is optimal for every such loss among all mechanisms of pure epsilon, whatever
is done to its output afterwards (Ghosh, Roughgarden and Sundararajan 2009; over counts without a
bound Gupte and Sundararajan 2010). Sites that share the noise so that x of them may collude draw
|U| / (|U| - x) times as much of it, which is why small rosters stay below that.

Audit: the two neighbouring cohorts that differ most (a patient more or less), as the coordinator
and x colluding sites see them, and the best test there is: is the sum at most n? It was fixed
before any run. Clopper-Pearson bounds of its two error rates, at 95% together, give a lower bound
on epsilon, which must not exceed 0.5 and should come close (Jagielski et al. 2020, section 3).
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from launch.queries.query_builder import build_query
from launch.queries.question import Question
from protocol.privacy.query_noise import half_width, share
from protocol.study.study import Study
from support.figure import figure

EPSILON, WITHIN, BAR = 0.5, 5, 0.95
ROSTERS = (4, 6, 20, 50)
RUNS = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    ratio = math.exp(-EPSILON)
    best = 1 - 2 * ratio ** (WITHIN + 1) / (1 + ratio)
    held = [_closeness(_count(sites), runs, best) for sites in ROSTERS]
    held += _audit(_count(ROSTERS[0]), runs)
    return 0 if all(held) else 1


def _count(sites: int) -> Study:
    """One count at epsilon 0.5, exactly, at so many sites of which one may collude."""
    question = Question.about("breast_cancer").count()
    study = build_query(question, {f"site-{number:02d}": 100 for number in range(sites)})
    if study.evaluation.noise_multiplier != 1 / EPSILON:
        raise SystemExit("The noise is not what epsilon 0.5 asks for.")
    return study


def _noise(study: Study, runs: int, drawing: int) -> npt.NDArray[np.int64]:
    """(runs,) the sum of the shares of `drawing` of the study's sites."""
    sites = len(study.roster)
    return np.array([sum(int(share(study, sites)[0]) for _ in range(drawing)) for _ in range(runs)])


def _closeness(study: Study, runs: int, best: float) -> bool:
    sites, started = len(study.roster), time.perf_counter()
    off = np.abs(_noise(study, runs, sites))
    return figure(
        f"noised counts at epsilon {EPSILON} within {WITHIN} of the truth, {sites} sites",
        float((off <= WITHIN).mean()),
        "share of runs",
        BAR,
        least=True,
        best_of_any_mechanism=round(best, 4),
        within_95=half_width(study, sites),
        standard_error=round(float((off <= WITHIN).std()) / math.sqrt(runs), 4),
        runs=runs,
        seconds=round(time.perf_counter() - started, 1),
    )


def _audit(study: Study, runs: int) -> list[bool]:
    """The coalition subtracts what its own sites drew, and sees the others' shares as a sum."""
    honest = len(study.roster) - study.aggregation.colluding_sites
    without = int((_noise(study, runs, honest) <= 0).sum())
    with_ = int((_noise(study, runs, honest) + 1 <= 0).sum())
    least = float(beta.ppf(0.025, without, runs - without + 1))
    most = float(beta.ppf(0.975, with_ + 1, runs - with_))
    proved = math.log(least / most)
    return [
        figure(
            "epsilon that an audit of a count proves",
            proved,
            "epsilon",
            EPSILON,
            runs=runs,
            estimate=round(math.log(without / with_), 4),
        ),
        figure("the same, as part of the epsilon claimed", proved / EPSILON, "", 0.85, least=True),
    ]


if __name__ == "__main__":
    sys.exit(main())
