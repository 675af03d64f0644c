"""Table one: without noise the patients' own figures, with noise intervals that hold them."""

from __future__ import annotations

import numpy as np
import pytest

from protocol.statistics.noised_table import TOO_FEW
from protocol.statistics.results import Figure, ResultTable
from protocol.statistics.table_one import table_one
from protocol.study.analysis import TableOne
from tests.protocol.statistics.tables import SEX, Floats, bins, noised, table

EDGES = np.arange(30.0, 81.0, 2.5)
ANSWER = {"kind": "categories", "column": "smokes", "categories": ["no", "yes", "once"]}


def cohort(generator: np.random.Generator, n: int = 600) -> tuple[Floats, Floats, Floats]:
    """(n,) sex, age in whole years, smoking as a place among its categories."""
    sex = generator.integers(0, 2, n)
    age = np.clip(np.round(generator.normal(52 + 4 * sex, 9)), 30, 79)
    smokes = generator.choice(3, size=n, p=(0.5, 0.3, 0.2)).astype(float)
    return sex.astype(float), age, smokes


def counts(sex: Floats, place: Floats, cells: int) -> Floats:
    found = np.zeros((3, cells))
    np.add.at(found, (sex.astype(int), place.astype(int)), 1)
    return found


def read(
    of: tuple[Floats, Floats, Floats],
    epsilon: float | None = None,
    generator: np.random.Generator | None = None,
) -> ResultTable:
    sex, age, smokes = of
    place = np.searchsorted(EDGES, age, side="right").astype(np.float64) - 1
    tables = [
        table([SEX], np.bincount(sex.astype(int), minlength=3).astype(float), epsilon),
        table([SEX, bins("age", *EDGES)], counts(sex, place, len(EDGES)), epsilon),
        table([SEX, ANSWER], counts(sex, smokes, 4), epsilon),
    ]
    if generator is not None:
        tables = [noised(one, generator) for one in tables]
    (found,) = table_one(TableOne(grouped=True), tables).tables
    return found


def figures(found: ResultTable, label: str) -> list[Figure]:
    (row,) = (row for row in found.rows if row.label == label)
    return [cell for cell in row.cells if isinstance(cell, Figure)]


def truth(of: tuple[Floats, Floats, Floats]) -> dict[str, list[float]]:
    sex, age, smokes = of
    groups = [sex >= 0, sex == 0, sex == 1]
    a, b = age[groups[1]], age[groups[2]]
    return {
        "patients": [float(group.sum()) for group in groups],
        "age, mean": [age[group].mean() for group in groups],
        "age, SD": [age[group].std() for group in groups],
        "age, median": [float(np.median(age[group])) for group in groups],
        "smokes = yes, %": [100 * (smokes[group] == 1).mean() for group in groups],
        "age": [abs(a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2)],
    }


def test_without_noise_figures_are_the_patients_own() -> None:
    of = cohort(np.random.default_rng(0))
    found, wanted = read(of), truth(of)
    for label, tolerance in (("patients", 0), ("smokes = yes, %", 1e-9), ("age", 0.03)):
        assert [one.value for one in figures(found, label)] == pytest.approx(
            wanted[label], abs=tolerance
        )
    for label in ("age, mean", "age, SD", "age, median"):
        for one, true in zip(figures(found, label), wanted[label], strict=True):
            assert one.low is not None
            assert one.high is not None
            assert one.low <= true <= one.high
            assert one.high - one.low <= 2.5 + 1e-9, "a bin, no more"


def test_standardised_differences_of_categories_are_yang_and_daltons() -> None:
    """By hand, for two categories of .5 and .7: |p - q| / sqrt of the mean variance."""
    sex = np.repeat([0.0, 1.0], 100)
    smokes = np.concatenate([np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], [30, 70])])
    found = read((sex, np.full(200, 50.0), smokes))
    (one,) = figures(found, "smokes")
    assert one.value == pytest.approx(0.2 / np.sqrt((0.25 + 0.21) / 2))


def test_intervals_of_noised_tables_hold_the_patients_own_figures() -> None:
    generator, runs = np.random.default_rng(1), 60
    held: dict[str, list[bool]] = {}
    for _ in range(runs):
        of = cohort(generator)
        found = read(of, 0.5, generator)
        for label, values in truth(of).items():
            for one, true in zip(figures(found, label), values, strict=True):
                assert one.low is not None
                assert one.high is not None
                held.setdefault(label, []).append(bool(one.low <= true <= one.high))
    shares = {label: float(np.mean(of)) for label, of in held.items()}
    assert min(shares.values()) >= 0.92, shares


def test_a_group_of_few_has_no_figures() -> None:
    sex, age, smokes = cohort(np.random.default_rng(2))
    few = (sex == 0) | (np.cumsum(sex) <= 8)
    found = read((sex[few], age[few], smokes[few]), epsilon=1.0)
    for row in found.rows:
        assert "8" not in row.label
        if row.label in ("patients", "age", "smokes"):
            assert not isinstance(row.cells[2], Figure)
        else:
            assert row.cells[2] == TOO_FEW
    assert found.rows[0].cells[2] == "fewer than 10"
    (difference,) = {row.cells[3] for row in found.rows if row.label == "age"}
    assert difference == TOO_FEW
