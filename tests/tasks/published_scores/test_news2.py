"""NEWS2's points are those of the chart of the Royal College of Physicians (2017)."""

from __future__ import annotations

import numpy as np
import pytest

from tasks import registry
from tasks.published_scores import news2

CHART = [
    ("respiratory_rate", (8, 9, 11, 12, 20, 21, 24, 25), (3, 1, 1, 0, 0, 2, 2, 3)),
    ("spo2", (91, 92, 93, 94, 95, 96, 100), (3, 2, 2, 1, 1, 0, 0)),
    ("systolic_bp", (90, 91, 100, 101, 110, 111, 219, 220), (3, 2, 2, 1, 1, 0, 0, 3)),
    ("heart_rate", (40, 41, 50, 51, 90, 91, 110, 111, 130, 131), (3, 1, 1, 0, 0, 1, 1, 2, 2, 3)),
    ("temperature", (35, 35.1, 36, 36.1, 38, 38.1, 39, 39.1), (3, 1, 1, 0, 0, 1, 1, 2)),
    ("fio2", (21, 24, 100), (0, 2, 2)),
    ("gcs", (15, 14, 3), (0, 3, 3)),
]


@pytest.mark.parametrize(("name", "values", "points"), CHART)
def test_points_of_the_chart(
    name: str, values: tuple[float, ...], points: tuple[float, ...]
) -> None:
    assert tuple(news2.points({name: np.array(values, dtype=float)})) == points
    assert tuple(news2.points({name: np.array([np.nan])})) == (0,)


def test_the_most_and_the_least() -> None:
    worst = {name: np.array([values[np.argmax(points)]]) for name, values, points in CHART}
    best = {name: np.array([values[np.argmin(points)]]) for name, values, points in CHART}
    assert news2.points(worst) == news2.MOST
    assert news2.points(best) == 0
    assert list(news2.log_odds(np.array([0.0, 20.0]))) == [-5, 5]


def test_the_task_scores_its_latest_vital_signs() -> None:
    task = registry.load("deterioration")
    table = {c.name: np.full(2, np.nan) for c in task.schema.columns}
    table |= {"age": np.array([60.0, 60.0]), "sex": np.array(["male", "female"], object)}
    table |= {"heart_rate": np.array([131.0, 70.0]), "respiratory_rate": np.array([25.0, 16.0])}
    table |= {"spo2_lowest": np.array([80.0, 80.0])}
    known = task.public_score(table)
    assert known is not None
    assert np.log(known / (1 - known)) == pytest.approx([-2.0, -5.0])
