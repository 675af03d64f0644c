"""Kaplan-Meier and log-rank: without noise those of the reference, with noise honest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import CensoredData, ecdf, logrank

from protocol.outcomes.estimates import project
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.results import AnalysisResult, Figure
from protocol.statistics.survival import noised_log_rank
from protocol.statistics.survival_tables import survival_tables
from protocol.study.analysis import Survival
from tests.protocol.statistics.tables import SEX, Floats, bins, holds, noised, table

EDGES = np.arange(0.0, 1601.0, 100.0)
J = len(EDGES) - 1
TIME = bins("days", *EDGES, outside=True)


def patients(n: int, mean: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """(n,) times and whether the event has happened."""
    until, left = generator.exponential(mean, n), generator.uniform(200, 2500, n)
    return np.minimum(until, left), (until <= left).astype(float)


def cells(times: Floats, events: Floats) -> Floats:
    """(3, J + 3): event, none, unknown by below, intervals, above, missing."""
    counts = np.zeros((3, J + 3))
    place = np.minimum((times // 100).astype(int), J) + 1
    np.add.at(counts, (np.where(events > 0, 0, 1), place), 1)
    return counts


def by_sex(*groups: Floats, epsilon: float | None = None) -> NoisedTable:
    unknown = np.zeros((1, 3, J + 3))
    return table([SEX, holds("event"), TIME], np.concatenate([np.stack(groups), unknown]), epsilon)


def column(result: AnalysisResult, title: str, at: int) -> Floats:
    (found,) = (one for one in result.tables if one.title == title)
    cells = [row.cells[at] for row in found.rows]
    return np.array([cell.value for cell in cells if isinstance(cell, Figure)])


def test_without_noise_the_curve_is_the_references() -> None:
    times, events = patients(500, 700, np.random.default_rng(0))
    result = survival_tables(Survival(), table([holds("event"), TIME], cells(times, events)))
    ends = np.floor(times / 100) * 100 + 100
    # departures happen after events at the end of an interval; beyond the last edge nobody counts
    happened = (events > 0) & (times < EDGES[-1])
    reference = ecdf(CensoredData(ends[happened], right=ends[~happened])).sf.evaluate(EDGES[1:])
    assert column(result, "Share without event", 0) == pytest.approx(reference, abs=1e-9)
    at_risk = [(times >= start).sum() for start in EDGES[:-1]]
    assert column(result, "Patients at risk", 0) == pytest.approx(at_risk)


def test_without_noise_the_log_rank_test_is_the_references() -> None:
    generator = np.random.default_rng(1)
    a, b = patients(150, 600, generator), patients(120, 900, generator)
    result = survival_tables(Survival(grouped=True), by_sex(cells(*a), cells(*b)))

    def censored(times: Floats, events: Floats) -> CensoredData:
        ends, happened = np.floor(times / 100), (events > 0) & (times < EDGES[-1])
        ends = np.where(times < EDGES[-1], ends, J)
        return CensoredData(ends[happened], right=ends[~happened])

    reference = logrank(censored(*a), censored(*b))
    (row,) = result.tables[-1].rows
    statistic, freedom, p = row.cells
    assert isinstance(statistic, Figure)
    assert statistic.value == pytest.approx(reference.statistic**2, rel=1e-9)
    assert freedom == Figure(1.0)
    assert isinstance(p, Figure)
    assert p.value == pytest.approx(reference.pvalue, rel=1e-9)


def test_the_log_rank_test_is_that_of_r_where_each_interval_is_one_time() -> None:
    """`survdiff` of these times gives chi-squared 6.91598157449, p .008542873404. With a third
    group of the same patients as the first there is still a test, in whatever order."""
    a = ((8, 12, 26, 14, 21, 27), (8, 32, 20, 40))
    b = ((33, 28, 41), (48, 48, 25, 37, 48, 25, 43))
    cells = np.zeros((2, 1, 2, 50))
    for group, kinds in enumerate((a, b)):
        for kind, times in enumerate(kinds):
            np.add.at(cells[group, 0, kind], np.array(times), 1)
    exact = table([SEX], np.zeros(3))
    found = noised_log_rank(cells, exact, np.random.default_rng(0))
    assert found.statistic == pytest.approx(6.91598157449)
    assert found.p == pytest.approx(0.008542873404)
    three = np.concatenate([cells, cells[:1]])
    both = (three, three[[2, 1, 0]], three[[1, 0, 2]])
    tests = [noised_log_rank(of, exact, np.random.default_rng(0)) for of in both]
    assert {test.freedom for test in tests} == {2}
    assert [test.statistic for test in tests] == pytest.approx([tests[0].statistic] * 3)


def test_an_event_on_the_first_day_counts() -> None:
    cells = np.zeros((3, J + 3))
    cells[0, 1], cells[1, 2] = 30, 70
    result = survival_tables(Survival(), table([holds("event"), TIME], cells))
    assert column(result, "Share without event", 0)[0] == pytest.approx(0.7)


def test_strata_are_compared_within_themselves() -> None:
    """Twice the same patients in two strata: twice the statistic. All groups differing by stratum
    alone: no difference."""
    generator = np.random.default_rng(2)
    a, b = cells(*patients(150, 600, generator)), cells(*patients(150, 800, generator))
    plain = survival_tables(Survival(grouped=True), by_sex(a, b))
    unknown = np.zeros_like(a)
    split = np.stack([np.stack([of, of, unknown]) for of in (a, b, unknown)])
    axes = [SEX, {**SEX, "column": "ward"}, holds("event"), TIME]
    both = survival_tables(Survival(grouped=True, stratified=True), table(axes, split))
    one, two = (result.tables[-1].rows[0].cells[0] for result in (plain, both))
    assert isinstance(one, Figure)
    assert isinstance(two, Figure)
    assert one.value is not None
    assert two.value == pytest.approx(2 * one.value)
    confounded = np.stack([np.stack(of) for of in ((a * 9, b, unknown), (a, b * 9, unknown))])
    whole = np.concatenate([confounded, np.zeros((1, *confounded.shape[1:]))])
    same = survival_tables(Survival(grouped=True, stratified=True), table(axes, whole))
    assert isinstance(p := same.tables[-1].rows[0].cells[2], Figure)
    assert p.value == pytest.approx(1.0)


def test_bands_median_and_mean_of_noised_curves_hold_the_truth() -> None:
    """At epsilon 1 and 250 patients, against the distribution that they are drawn from."""
    generator, runs = np.random.default_rng(3), 150
    held: dict[str, list[bool]] = {"share": [], "median": [], "mean": []}
    grid = np.concatenate([[0.0], EDGES[1:]])
    true_mean = np.sum((np.exp(-grid[1:] / 700) + np.exp(-grid[:-1] / 700)) / 2 * 100)
    for _ in range(runs):
        of = table([holds("event"), TIME], cells(*patients(250, 700, generator)), epsilon=1.0)
        result = survival_tables(Survival(), noised(of, generator))
        share, _, summary = result.tables[:3]
        for name, found, truth in (
            ("share", share.rows[4].cells[0], np.exp(-500 / 700)),
            ("median", summary.rows[2].cells[0], 700 * np.log(2)),
            ("mean", summary.rows[3].cells[0], true_mean),
        ):
            assert isinstance(found, Figure)
            assert found.low is not None
            high = np.inf if found.high is None else found.high
            held[name].append(bool(found.low <= truth <= high))
    assert min(np.mean(of) for of in held.values()) >= 0.92


def test_the_log_rank_test_knows_the_noise() -> None:
    """Groups of one distribution, at epsilon .3: without the noise in its variance the test would
    find a difference in one of five."""
    generator, runs = np.random.default_rng(4), 300
    found = 0
    for _ in range(runs):
        of = by_sex(*(cells(*patients(114, 700, generator)) for _ in range(2)), epsilon=0.3)
        known = noised(of, generator).counts[:2, None, :2, 1:-1]
        found += noised_log_rank(project(known), of, generator).p < 0.05
    assert found / runs <= 0.08


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (lambda a: a * np.array([[0], [1], [1]]), "no events"),
        (lambda a: a * np.array([[1], [0], [1]]) * (np.arange(J + 3) <= J), "nobody is censored"),
        (lambda a: a * 0, "empty or nearly empty group"),
        (lambda a: np.roll(a, -1, axis=1), "Negative times"),
    ],
)
def test_what_hinders_an_analysis_is_diagnosed(counts: object, said: str) -> None:
    assert callable(counts)
    of = counts(cells(*patients(500, 300, np.random.default_rng(5))))
    result = survival_tables(Survival(), table([holds("event"), TIME], of, epsilon=3.0))
    assert any(said in note for note in result.notes), result.notes


def test_a_group_of_few_has_no_figures_and_no_test() -> None:
    generator = np.random.default_rng(6)
    few, many = cells(*patients(8, 700, generator)), cells(*patients(200, 700, generator))
    result = survival_tables(Survival(grouped=True), by_sex(few, many, epsilon=1.0))
    for one in result.tables[:3]:
        assert all(isinstance(row.cells[0], str) for row in one.rows)
        assert all(
            not isinstance(row.cells[1], str) or row.label == "median time" for row in one.rows
        )
    assert all(isinstance(cell, str) for cell in result.tables[-1].rows[0].cells)
