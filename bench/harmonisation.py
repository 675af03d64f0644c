"""A harmonisation report: what it takes for a difference, and how often its intervals hold.

    python bench/harmonisation.py [--runs 1000]

Opened sums are made here, vectorised and without processes: hospitals of 200, 500, 500 and 2,000
patients with a column of four categories and missing values, each with the discrete Laplace noise
that suffices at its own counts; what was released before has noise of its own. They are read by the
code that reads a study's (`protocol.statistics.harmonisation`). Alike: all hospitals have the same
shares. Apart: each one's shares are drawn around them. A study's p-values are simulated 20,000
times, here 2,000 times. The bars are those of the log-rank test and of coefficients' intervals.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import numpy.typing as npt

from protocol.privacy import discrete_laplace
from protocol.statistics.harmonisation.between_sites import (
    between,
    figures,
    groups,
    q_and_index,
    to_integers,
)
from protocol.statistics.noised_table import NoisedTable
from protocol.study.query import FIGURE_UNIT, Categories, Differing, Reference
from support.figure import figure

Floats = npt.NDArray[np.float64]
SIZES = (200, 500, 500, 2000)
SHARES = np.array([0.5, 0.3, 0.15, 0.03, 0.02])
AXIS = Categories(column="x", categories=("a", "b", "c", "d"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    held = []
    for epsilon in (0.2, 1.0):
        for apart in (0.0, 0.3):
            held += _report(epsilon, apart, runs)
    return 0 if all(held) else 1


def _report(epsilon: float, apart: float, runs: int) -> list[bool]:
    values, chances = discrete_laplace.distribution(epsilon, 1, 1.0)
    cell = NoisedTable((AXIS,), np.zeros(0), values.astype(float), chances / chances.sum(), 0)
    generator, started = np.random.default_rng(0), time.perf_counter()
    alarms, index, explained = [], [], []
    for _ in range(runs):
        shares = SHARES * np.exp(apart * generator.normal(size=(len(SIZES), len(SHARES))))
        shares /= shares.sum(axis=1, keepdims=True)
        patients = generator.multinomial(SIZES, shares)
        noised = patients + cell.noise(generator, patients.shape)
        statistic = _asked(patients.sum(axis=0) + cell.noise(generator, SHARES.shape), cell)
        sums = to_integers(figures(statistic, noised, cell.variance)).sum(axis=0) / FIGURE_UNIT
        found = between(statistic, sums, SIZES, cell, generator, draws=2000)
        if found is None:
            continue
        expected = figures(statistic, np.array(SIZES)[:, None] * shares, cell.variance)
        q, true = (float(of) for of in q_and_index(expected.sum(axis=0)))
        alarms.append(found.p < 0.05)
        index.append(found.index[1] <= true <= found.index[2])
        explained.append(found.explained[1] <= q / (q + found.degrees) <= found.explained[2])
    name = f"hospitals {'apart' if apart else 'alike'}, epsilon {epsilon:g}"
    seconds = round(time.perf_counter() - started, 1)
    alarmed, more = float(np.mean(alarms)), {"runs": runs, "told": len(alarms)}
    said = "false alarms at 5%" if not apart else "differences found at 5%"
    bar = 0.5 if apart else 0.07
    return [
        figure(f"{name}: {said}", alarmed, "share of runs", bar, least=apart > 0, **more),
        figure(f"{name}: index in its interval", float(np.mean(index)), "share", 0.935, least=True),
        figure(
            f"{name}: I2 in its interval",
            float(np.mean(explained)),
            "share",
            0.935,
            least=True,
            seconds=seconds,
        ),
    ]


def _asked(released: Floats, cell: NoisedTable) -> Differing:
    variances = np.full(len(released), cell.variance)
    return Differing(
        name="x",
        axis=AXIS,
        released=Reference(counts=tuple(released), variances=tuple(variances)),
        groups=groups(released, variances, len(SIZES)),
    )


if __name__ == "__main__":
    sys.exit(main())
