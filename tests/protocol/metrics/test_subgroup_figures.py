"""What a reviewer is told of subgroups: nobody is left out in silence, and little is not certain.

Reported of other libraries: patients without a value vanish from every group but not from the total
(fairlearn issues 1155 and 1725), a group too small to be judged disappears, or passes with an
interval of no width (fairness_pipeline_dev_toolkit issue 29), one observation of a class gives NaN
(pROC issue 27).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from protocol.metrics.subgroup_figures import SubgroupFigures, holm, subgroup_figures
from protocol.outcomes.binary import histogram
from protocol.study.study import Study
from tests.protocol.study_document import study

SEX = {"kind": "categories", "column": "sex", "values": ["f", "m", "x"]}
BINS = 64


def planned(*, exact: bool = False, **changes: Any) -> Study:
    section: dict[str, Any] = {"subgroups": [SEX], "bins": BINS, **changes}
    if exact:
        privacy = {"mode": "none"}
        return study(privacy=privacy, evaluation=section | {"release": "exact"})
    return study(evaluation=section | {"noise_multiplier": 4.0})


def counted(*levels: tuple[int, int, float]) -> npt.NDArray[np.float64]:
    """(patients with label 0, with label 1, how far apart) of each level -> the section."""
    generator, rows = np.random.default_rng(3), []
    for negative, positive, apart in levels:
        labels = np.repeat([0, 1], [negative, positive])
        odds = generator.normal(size=len(labels)) + apart * labels
        rows.append(histogram(1 / (1 + np.exp(-odds)), labels, BINS).ravel())
    everyone = np.sum(rows, axis=0)
    return np.concatenate([everyone, *rows]).astype(np.float64)


def figures(of: Study, section: npt.NDArray[np.float64], variance: float = 0.0) -> SubgroupFigures:
    (only,) = subgroup_figures(of, section, variance)
    return only


def shown(of: SubgroupFigures) -> dict[str, float | None]:
    return {one.level: None if one.patients is None else one.patients.value for one in of.levels}


def test_every_level_is_told_missing_too_and_their_patients_add_up() -> None:
    section = counted((100, 50, 1.0), (60, 40, 1.0), (30, 20, 1.0), (25, 25, 1.0))
    found = shown(figures(planned(exact=True), section))
    assert found == {"f": 150, "m": 100, "x": 50, "missing": 50}


def test_a_level_below_the_least_count_is_named_and_has_no_figure() -> None:
    section = counted((100, 50, 1.0), (60, 40, 1.0), (19, 0, 1.0), (0, 0, 1.0))
    of = figures(planned(least_count=20), section, 0.01)
    assert shown(of)["x"] is None
    assert [one.level for one in of.levels if not one.metrics] == ["x", "missing"]
    assert {one.level for one in of.differences} == {"m"}


def test_the_least_count_tests_what_was_counted_with_noise() -> None:
    """Whether a level is shown must be post-processing: nobody knows the true count."""
    section = counted((100, 50, 1.0), (60, 40, 1.0), (30, 0, 1.0), (2, 0, 1.0))
    cells = 2 * BINS
    section[3 * cells : 4 * cells] -= 11 / cells  # noise took 30 below 20 ...
    section[4 * cells :] += 20 / cells  # ... and lifted 2 above
    found = shown(figures(planned(least_count=20), section, 0.04))
    assert found["x"] is None
    assert found["missing"] == pytest.approx(22)


def test_of_exact_counts_the_next_smallest_is_hidden_too() -> None:
    """Otherwise all less the shown levels would be the hidden one."""
    section = counted((100, 50, 1.0), (60, 40, 1.0), (20, 30, 1.0), (3, 2, 1.0))
    assert shown(figures(planned(exact=True), section)) == {
        "f": 150, "m": 100, "x": None, "missing": None,
    }  # fmt: skip
    empty = counted((100, 50, 1.0), (60, 40, 1.0), (20, 30, 1.0), (0, 0, 1.0))
    assert shown(figures(planned(exact=True), empty))["x"] == 50


def test_a_level_of_one_label_has_no_area_and_none_that_is_certain() -> None:
    """All of thirty right says less than an interval of no width would."""
    all_right = np.concatenate([np.zeros(BINS), np.zeros(BINS)])
    all_right[0] = 30
    section = counted((100, 50, 1.0), (60, 40, 1.0), (0, 0, 1.0), (0, 0, 1.0))
    section[6 * BINS : 8 * BINS] = all_right
    (level,) = [one for one in figures(planned(exact=True), section).levels if one.level == "x"]
    assert level.patients is not None
    assert "auc" not in level.metrics
    assert "accuracy" not in level.metrics
    assert all(one.low < one.high for one in level.metrics.values())


def test_a_difference_is_of_the_largest_level_and_holds_the_truth() -> None:
    section = counted((400, 400, 2.0), (200, 200, 0.2), (100, 100, 2.0), (0, 0, 1.0))
    of = figures(planned(exact=True), section)
    found = {(one.metric, one.level): one for one in of.differences}
    assert {one.reference for one in of.differences} == {"f"}
    worse, same = found["auc", "m"], found["auc", "x"]
    assert worse.difference.high < 0
    assert worse.p < 0.001
    assert same.difference.low < 0 < same.difference.high
    assert same.p > 0.05


def test_interval_and_p_value_of_a_difference_say_the_same() -> None:
    """Before correction an interval leaves 0 out just where p is below 5%."""
    for apart in (0.6, 0.8, 1.0, 1.2):
        section = counted((400, 400, 1.2), (150, 150, apart), (0, 0, 1.0), (0, 0, 1.0))
        of = figures(planned(exact=True), section)
        for one in of.differences:
            if one.p == min(other.p for other in of.differences):
                outside = not one.difference.low <= 0 <= one.difference.high
                assert outside == (one.p / len(of.differences) < 0.05)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_what_the_textbook_says(p: list[float]) -> None:
    adjusted = holm(p)
    order = np.argsort(p, kind="stable")
    wanted = np.maximum.accumulate([(len(p) - k) * p[i] for k, i in enumerate(order)])
    assert [adjusted[i] for i in order] == pytest.approx(np.minimum(wanted, 1))
    assert all(new >= old for new, old in zip(adjusted, p, strict=True))


def test_holm_of_a_published_example() -> None:
    """Wright 1992, table 1: p-values .01, .04, .03, .005 of four tests."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_patients_have_an_interval_of_the_noise_of_all_cells() -> None:
    section = counted((100, 50, 1.0), (60, 40, 1.0), (30, 20, 1.0), (25, 25, 1.0))
    level = figures(planned(), section, 4.0).levels[0]
    assert level.patients is not None
    half = stats.norm.ppf(0.975) * math.sqrt(2 * BINS * 4.0)
    assert level.patients.high - level.patients.value == pytest.approx(half)
