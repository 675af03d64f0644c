"""Which intervals are joined, by noised counts alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from launch.queries.exact_analyses import exact_survival
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.errors import WardroundError
from protocol.exact.least_counts import joined_intervals
from protocol.study.study import Study

EDGES = "mean_radius:6/10/14/18/22"
STUDY = build_query(
    exact_survival(Question.about("breast_cancer"), EDGES, "malignant = 1", "mean_texture > 19"),
    dict.fromkeys(("a", "b", "c"), 500),
    Price(epsilon=2.0),
)
counted = st.lists(st.integers(-3, 30), min_size=24, max_size=24)


def opened(study: Study, cells: np.ndarray) -> list[int]:
    """(2, 2, 6) counts of groups, events and intervals, those outside too -> opened integers."""
    counts = np.zeros((3, 3, 7), dtype=np.int64)
    counts[:2, :2, :6] = cells
    return [int(value) * study.evaluation.scale for value in (500, *counts.ravel())]


@given(counted)
def test_each_joined_interval_of_each_group_holds_the_least_count(cells: list[int]) -> None:
    counts = np.array(cells).reshape(2, 2, 6)
    try:
        joined = joined_intervals(STUDY, opened(STUDY, counts))
    except WardroundError:
        assume(False)
        return
    assert STUDY.query is not None
    assert list(joined) == sorted(joined)
    assert set(joined) == set(range(max(joined) + 1))
    inner = counts[..., 1:5].copy()
    inner[:, 1, -1] += counts[..., 5].sum(axis=-1)  # followed to the end, whatever happened then
    for interval in range(max(joined)):
        here = inner[..., np.array(joined) == interval].sum(axis=-1)
        assert here.min() >= STUDY.query.least_count


def test_a_group_without_events_is_named() -> None:
    counts = np.full((2, 2, 6), 20)
    counts[1, 0] = 1
    with pytest.raises(WardroundError, match="mean_texture > 19: no have the event"):
        joined_intervals(STUDY, opened(STUDY, counts))
