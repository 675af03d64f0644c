"""Private analyses: how close Kaplan-Meier comes, what tests and intervals hold what they claim.

    python bench/analyses.py [--runs 2000]

Opened sums are made here, vectorised and without processes: a table's counts with the noise that
four sites' shares add up to, of whom one may collude, at the study's epsilon (`build_query`); they
are read by the code that reads a study's (`protocol.statistics`). Patients are drawn from a seed.

Kaplan-Meier: 200 runs, exponential times with a median of about 480 days, uniform departures, 16
public intervals of 100 days. The error is that of noise, against the estimate from the same
patients without it; over the middle 80% of follow-up. Log-rank: two groups of one distribution,
of equal size and 1 to 4. Regression: 2,000 patients, five binary factors of which two go together,
and one table of 3^5 times the outcome's cells; per coefficient the share of 95% intervals that hold
the truth, and the median width of an interval against the one without noise; likewise a logistic
model of three such factors and two numbers in 8 and 6 bins, against a fit to the numbers
themselves, a Poisson model with an offset in 5 bins, and a linear one with weights in 4. Hazard
ratios: three binary factors, times from Cox's model in 8 intervals.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.outcomes.estimates import project
from protocol.privacy.query_noise import pooled_noise
from protocol.statistics.coefficients import bin_values
from protocol.statistics.estimation import Fit, NoFitError
from protocol.statistics.hazards import fit_hazards
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.regression import fit, inverse_link
from protocol.statistics.survival import curve, noised_log_rank
from protocol.study.analysis import Family
from support.figure import figure

Floats = npt.NDArray[np.float64]
SITES, J, WIDTH = 4, 16, 100.0
TRUE = np.array([-0.5, 0.7, -0.4, 0.3, 0.0, 0.5])
DESIGN = np.array([(1.0, *bits) for bits in product((0.0, 1.0), repeat=5)])
CROSSED = np.column_stack([DESIGN, DESIGN[:, 1] * DESIGN[:, 2]])
CROSSED_TRUE = np.append(TRUE, -0.6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    held = [_kaplan_meier(1000, 0.012), _kaplan_meier(228, 0.04)]
    for smaller, epsilon in ((0.5, 1.0), (0.2, 1.0), (0.5, 0.3)):
        held.append(_log_rank(runs, smaller, epsilon))
    families: tuple[Family, ...] = ("binomial", "gaussian", "poisson")
    for family, epsilon in product(families, (1.0, 3.0)):
        held += _regression(family, epsilon, runs)
    for epsilon in (1.0, 3.0):
        held += _regression("binomial", epsilon, runs, crossed=True)
        for drawn in (_with_numbers, _with_offset, _with_weights):
            held += drawn(epsilon, runs)
        held += _hazards(epsilon, runs)
    return 0 if all(held) else 1


def _noise(epsilon: float) -> tuple[Floats, Floats]:
    """Of one cell of one table, in patients, and its chances."""
    question = Question.about("breast_cancer").table("malignant")
    patients = {f"site-{number}": 1000 for number in range(SITES)}
    values, chances = pooled_noise(build_query(question, patients, Price(epsilon=epsilon)), SITES)
    return values, chances / chances.sum()


def _patients(n: int, generator: np.random.Generator) -> Floats:
    """(2, J + 1) events and departures by interval, the last beyond all."""
    until, left = generator.exponential(700, n), generator.uniform(200, 2500, n)
    place = np.minimum(np.minimum(until, left) // WIDTH, J).astype(int)
    cells = np.zeros((2, J + 1))
    np.add.at(cells, (np.where(until <= left, 0, 1), place), 1)
    return cells


def _kaplan_meier(n: int, bar: float, runs: int = 200) -> bool:
    values, chances = _noise(1.0)
    generator, started, errors = np.random.default_rng(0), time.perf_counter(), []
    middle = slice(round(0.1 * J) - 1, round(0.9 * J))
    for _ in range(runs):
        cells = _patients(n, generator)
        seen = project(cells + generator.choice(values, size=cells.shape, p=chances))
        errors.append(float(np.abs(curve(seen) - curve(cells))[middle].max()))
    return figure(
        f"private Kaplan-Meier at epsilon 1, {n} patients: mean largest error",
        float(np.mean(errors)),
        "share of patients",
        bar,
        worst_of_20=round(float(np.quantile(errors, 0.95)), 4),
        runs=runs,
        seconds=round(time.perf_counter() - started, 1),
    )


def _log_rank(runs: int, smaller: float, epsilon: float, n: int = 500) -> bool:
    values, chances = _noise(epsilon)
    generator, started, found = np.random.default_rng(1), time.perf_counter(), []
    sizes = (round(smaller * n), n - round(smaller * n))
    for _ in range(runs):
        cells = np.stack([_patients(size, generator) for size in sizes])[:, None]
        cells = project(cells + generator.choice(values, size=cells.shape, p=chances))
        table = NoisedTable((), cells, values, chances, least_count=10)
        found.append(noised_log_rank(cells, table, generator).p < 0.05)
    return figure(
        f"log-rank type I error at 5%, epsilon {epsilon:g}, groups of {sizes[0]} and {sizes[1]}",
        float(np.mean(found)),
        "share of runs",
        0.07,
        runs=runs,
        seconds=round(time.perf_counter() - started, 1),
    )


def _drawn(
    family: Family, n: int, generator: np.random.Generator, linear: Floats
) -> tuple[Floats, Floats]:
    """linear: (32,) predictors by combination of factors -> outcome values, and (32, Y) patients
    by combination and by outcome."""
    bits = generator.random((n, 5)) < np.array([0.5, 0.3, 0.6, 0.5, 0.4])
    bits[:, 4] ^= bits[:, 0] & (generator.random(n) < 0.5)
    row = bits @ 2 ** np.arange(4, -1, -1)
    mean, _ = inverse_link(family, linear[row])
    match family:
        case "binomial":
            values, outcome = np.array([1.0, 0.0]), (generator.random(n) < mean).astype(float)
        case "gaussian":
            values, outcome = np.arange(-3.75, 5.0, 0.5), generator.normal(mean, 1.0)
        case "poisson":
            values, outcome = np.arange(8.0), generator.poisson(mean).astype(float)
    counts = np.zeros((32, len(values)))
    np.add.at(counts, (row, np.abs(outcome[:, None] - values).argmin(axis=1)), 1)
    return values, counts


def _regression(
    family: Family, epsilon: float, runs: int, crossed: bool = False, n: int = 2000
) -> list[bool]:
    """crossed: with the interaction of two factors."""
    design, truth = (CROSSED, CROSSED_TRUE) if crossed else (DESIGN, TRUE)
    noise, chances = _noise(epsilon)
    variance, generator = float(np.dot(noise**2, chances)), np.random.default_rng(2)

    def fits() -> tuple[Fit, Fit]:
        values, counts = _drawn(family, n, generator, design @ truth)
        noised = counts + generator.choice(noise, size=counts.shape, p=chances)
        alone = fit(family, design, values, counts, 0.0)
        return alone, fit(family, design, values, noised, variance)

    name = f"private {family} regression{' with an interaction' if crossed else ''}"
    return _coverage(name, epsilon, truth, fits, runs)


def _in_bins(edges: Floats, values: Floats) -> npt.NDArray[np.int64]:
    place = np.searchsorted(edges, values, side="right") - 1
    return np.asarray(np.clip(place, 0, len(edges) - 2), dtype=np.int64)


def _values(edges: Floats, counts: Floats, axis: int, variance: float) -> Floats:
    """What the bins along one axis count as."""
    along = counts.sum(axis=tuple(at for at in range(counts.ndim) if at != axis))
    return bin_values(edges, along, variance * counts.size / len(along))


def _with_numbers(epsilon: float, runs: int, n: int = 2000) -> list[bool]:
    """The first number is normal and hangs together with a factor, the second is skewed."""
    noise, chances = _noise(epsilon)
    variance, generator = float(np.dot(noise**2, chances)), np.random.default_rng(4)
    truth, outcomes = np.array([-0.4, 0.6, -0.3, 0.5, 0.5, -0.8]), np.array([1.0, 0.0])
    edges = (np.linspace(-3, 3, 9), np.linspace(0, 1, 7))

    def fits() -> tuple[Fit, Fit]:
        bits = generator.random((n, 3)) < 0.45
        first = np.clip(generator.normal(size=n) + 0.4 * bits[:, 0], -3, 3)
        second = generator.beta(2, 4, n)
        each = np.column_stack([np.ones(n), bits, first, second])
        place = (generator.random(n) > inverse_link("binomial", each @ truth)[0]).astype(int)
        counts = np.zeros((2, 2, 2, 8, 6, 2))
        binned = (_in_bins(edges[0], first), _in_bins(edges[1], second))
        np.add.at(counts, (*bits.astype(int).T, *binned, place), 1)
        alone = fit("binomial", each, outcomes, np.eye(2)[place], 0.0)
        noised = counts + generator.choice(noise, size=counts.shape, p=chances)
        levels = [_values(edges[at], noised, 3 + at, variance) for at in (0, 1)]
        rows = np.array([(1.0, *row) for row in product(*[(0.0, 1.0)] * 3, *levels)])
        return alone, fit("binomial", rows, outcomes, noised.reshape(len(rows), -1), variance)

    return _coverage("private logistic regression on two numbers", epsilon, truth, fits, runs)


def _with_offset(epsilon: float, runs: int, n: int = 2000) -> list[bool]:
    """The offset is the logarithm of a time at risk from a half to two years."""
    noise, chances = _noise(epsilon)
    variance, generator = float(np.dot(noise**2, chances)), np.random.default_rng(5)
    truth, edges = np.array([-0.3, 0.5, -0.4]), np.linspace(-0.7, 0.7, 6)

    def fits() -> tuple[Fit, Fit]:
        bits, offset = generator.random((n, 2)) < 0.5, generator.uniform(-0.7, 0.7, n)
        each = np.column_stack([np.ones(n), bits])
        drawn = np.minimum(generator.poisson(np.exp(each @ truth + offset)), 9)
        counts = np.zeros((2, 2, 5, 10))
        np.add.at(counts, (*bits.astype(int).T, _in_bins(edges, offset), drawn), 1)
        alone = fit("poisson", each, np.arange(10.0), np.eye(10)[drawn], 0.0, offset)
        noised = counts + generator.choice(noise, size=counts.shape, p=chances)
        levels = _values(edges, noised, 2, variance)
        rows = np.array([(1.0, *row) for row in product((0.0, 1.0), (0.0, 1.0), levels)])
        flat = noised.reshape(len(rows), -1)
        return alone, fit("poisson", rows[:, :3], np.arange(10.0), flat, variance, rows[:, 3])

    return _coverage("private Poisson regression with an offset", epsilon, truth, fits, runs)


def _with_weights(epsilon: float, runs: int, n: int = 2000) -> list[bool]:
    """Weights of precision from a half to 3. Intervals are by the robust errors, as in a study."""
    noise, chances = _noise(epsilon)
    variance, generator = float(np.dot(noise**2, chances)), np.random.default_rng(6)
    truth, edges = np.array([0.2, 0.7, -0.4, 0.0]), np.linspace(0.5, 3, 5)
    outcomes = np.arange(-4.5, 5.0, 1.0)

    def fits() -> tuple[Fit, Fit]:
        bits, weights = generator.random((n, 3)) < 0.5, generator.uniform(0.5, 3, n)
        each = np.column_stack([np.ones(n), bits])
        seen = generator.normal(each @ truth, 1 / np.sqrt(weights))
        place = np.abs(seen[:, None] - outcomes).argmin(axis=1)
        counts = np.zeros((2, 2, 2, 4, 10))
        np.add.at(counts, (*bits.astype(int).T, _in_bins(edges, weights), place), 1)
        alone = fit("gaussian", each, outcomes, np.eye(10)[place], 0.0, None, weights)
        noised = counts + generator.choice(noise, size=counts.shape, p=chances)
        levels = _values(edges, noised, 3, variance)
        rows = np.array([(1.0, *row) for row in product(*[(0.0, 1.0)] * 3, levels)])
        flat = noised.reshape(len(rows), -1)
        found = fit("gaussian", rows[:, :4], outcomes, flat, variance, None, rows[:, 4])
        return alone, replace(found, errors=found.robust)

    return _coverage("private linear regression with weights", epsilon, truth, fits, runs)


def _hazards(epsilon: float, runs: int, n: int = 2000) -> list[bool]:
    noise, chances = _noise(epsilon)
    variance, generator = float(np.dot(noise**2, chances)), np.random.default_rng(3)
    design, truth = DESIGN[:8, 3:], np.array([0.6, -0.4, 0.0])

    def fits() -> tuple[Fit, Fit]:
        row = generator.integers(0, 8, n)
        until = generator.weibull(1.3, n) * 900 * np.exp(-(design[row] @ truth) / 1.3)
        left = generator.integers(1, 20, n) * WIDTH
        place = np.where(until <= left, until // WIDTH, left // WIDTH - 1)
        cells = np.zeros((8, 2, J // 2 + 1))
        np.add.at(
            cells,
            (row, np.where(until <= left, 0, 1), np.minimum(place, J // 2).astype(int)),
            1,
        )
        noised = cells + generator.choice(noise, size=cells.shape, p=chances)
        return fit_hazards(design, cells, 0.0), fit_hazards(design, noised, variance)

    return _coverage("private hazard ratios", epsilon, truth, fits, runs)


def _coverage(
    name: str, epsilon: float, truth: Floats, fits: Callable[[], tuple[Fit, Fit]], runs: int
) -> list[bool]:
    """Of the first coefficients, those of `truth`; fits: without noise and with it."""
    started, held, robust, widths, failed = time.perf_counter(), [], [], [], 0
    for _ in range(runs):
        try:
            alone, found = fits()
        except NoFitError:
            failed += 1
            continue
        of = slice(0, len(truth))
        off = np.abs(found.coefficients[of] - truth)
        held.append(off <= 1.96 * found.errors[of])
        robust.append(off <= 1.96 * found.robust[of])
        widths.append(found.errors[of] / alone.errors[of])
    coverage, width = np.mean(held, axis=0), round(float(np.median(widths, axis=0).max()), 3)
    name, seconds = f"{name} at epsilon {epsilon:g}", round(time.perf_counter() - started, 1)
    least, mean = float(coverage.min()), float(coverage.mean())
    more = {"runs": runs, "no_estimate": failed, "robust": round(float(np.mean(robust)), 4)}
    figures = [
        figure(f"{name}: least coverage", least, "share", 0.935, least=True, **more),
        figure(f"{name}: mean coverage", mean, "share", 0.975, width=width, seconds=seconds),
    ]
    if epsilon == 3.0:
        figures.append(figure(f"{name}: width against no noise", width, "times", 1.5))
    return figures


if __name__ == "__main__":
    sys.exit(main())
