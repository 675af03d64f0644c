"""Curves by risk group, read off an opened histogram, are those of the patients in it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from protocol.outcomes.time_to_event import TimeToEvent
from server.outcome import OpenedScores
from server.report.figures import figures
from server.report.risk_groups import risk_groups, table
from tests.client.hospital import study
from tests.server.outcomes import outcome

KIND, BINS = TimeToEvent(ends=(10.0, 20.0, 50.0)), 32


def scored(n: int, variance: float = 0.0) -> tuple[OpenedScores, np.ndarray, np.ndarray]:
    """As a site counts them, their risks and their labels."""
    generator = np.random.default_rng(3)
    hazard = np.clip(generator.beta(1.5, 6, (n, 1)) + np.array([0.0, 0.02, 0.04]), 0, 1)
    came = generator.random((n, 3)) < hazard
    first = np.where(came.any(axis=1), came.argmax(axis=1), 3)
    left = np.where(generator.random(n) < 0.4, generator.integers(0, 4, n), 3)
    event = (first < left) & (first < 3)
    labels = 2.0 * np.where(event, first, left) + event
    scores = np.cumprod(1 - hazard, axis=1)
    counts = KIND.counts(scores, labels, BINS).astype(np.float64)
    counts += generator.normal(size=counts.shape) * np.sqrt(variance)
    return OpenedScores(tuple(counts.tolist()), variance), 1 - scores[:, -1], labels


def kaplan_meier(labels: np.ndarray) -> list[float]:
    share, found = 1.0, []
    for k in range(3):
        at_risk = float((labels >= 2 * k + 1).sum())
        share *= 1 - float((labels == 2 * k + 1).sum()) / at_risk
        found.append(share)
    return found


def test_each_third_has_the_curve_of_its_patients() -> None:
    opened, risk, labels = scored(3000)
    groups = risk_groups(KIND, opened, BINS, 20)
    assert [groups[0].low, groups[-1].high] == [0.0, 1.0]
    assert len(groups) == 3
    for one in groups:
        inside = (np.sqrt(risk) * BINS >= np.sqrt(one.low) * BINS - 1e-9) & (
            np.sqrt(risk) * BINS < np.sqrt(one.high) * BINS - 1e-9
        )
        assert 700 < inside.sum() < 1300
        assert one.curve.survival == pytest.approx(kaplan_meier(labels[inside]), abs=1e-9)
    last = [float(one.curve.survival[-1]) for one in groups]
    assert last[0] > last[1] > last[2]


def test_bands_hold_the_curve_through_the_noise() -> None:
    exact, _, _ = scored(3000)
    noised, _, _ = scored(3000, variance=float((3 * KIND.weight) ** 2))
    plain, seen = (risk_groups(KIND, of, BINS, 20) for of in (exact, noised))
    widths = [float(np.mean(one.curve.high - one.curve.low)) for one in (plain[0], seen[0])]
    assert widths[1] > widths[0]
    assert (seen[0].curve.low <= plain[0].curve.survival + 0.02).all()
    assert (seen[0].curve.high >= plain[0].curve.survival - 0.02).all()


def test_groups_that_noise_could_make_up_are_not_drawn() -> None:
    opened, _, _ = scored(30, variance=float((8 * KIND.weight) ** 2))
    assert risk_groups(KIND, opened, BINS, 20) == []


def test_a_run_has_the_curves_as_picture_and_table() -> None:
    opened, _, _ = scored(3000)
    of = study()
    asked = of.model_copy(
        update={"outcome": KIND, "evaluation": of.evaluation.model_copy(update={"bins": BINS})}
    )
    found = figures(replace(outcome(asked), scores=opened))
    assert found["risk_groups.png"].startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO(found["risk_groups.csv"].decode())))
    assert len(rows) == 9
    assert found["risk_groups.csv"] == table(KIND, risk_groups(KIND, opened, BINS, 20))
    assert {row["time"] for row in rows} == {"10", "20", "50"}
