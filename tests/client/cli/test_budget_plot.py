"""The picture of the budget: a real file, and points that compose all that came before."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.cli.budget_plot import MAX_POINTS, plot_budget, spending
from client.governance.budget import budget, history
from tests.client.hospital import Hospital, numbered


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital.found(tmp_path / "state")


def test_points_rise_to_what_was_spent(hospital: Hospital) -> None:
    first, second = (hospital.accept(numbered(number)) for number in (1, 2))
    for round_ in range(1, 8):
        hospital.debit(first, round_, round_)
        hospital.debit(second, round_, round_)
    debits = history(hospital.state)
    told: list[tuple[int, int]] = []
    points = spending(debits, 1e-5, lambda done, total: told.append((done, total)))
    assert [time for time, _ in points] == sorted(time for time, _ in points)
    values = [epsilon for _, epsilon in points]
    assert values == sorted(values)
    assert 0 < values[0] < values[-1]
    assert values[-1] == budget(hospital.state, hospital.ledger.policy).spent
    assert len(debits) == len(points) == 16
    assert told[-1] == (16, 16)


def test_a_long_history_is_drawn_at_a_bounded_number_of_points(hospital: Hospital) -> None:
    study = hospital.accept(
        numbered(
            1,
            optimisation__rounds=120,
            aggregation__attempts=121,
            privacy__noise_multiplier=8.0,
            evaluation__every=0,
        )
    )
    for round_ in range(1, 111):
        hospital.debit(study, round_, round_)
    debits = history(hospital.state)
    points = spending(debits, 1e-5)
    assert len(points) <= MAX_POINTS + 1
    assert points[0][0].isoformat(timespec="milliseconds") == debits[0].time
    assert points[-1][0].isoformat(timespec="milliseconds") == debits[-1].time


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_is_written_even_of_nothing(
    hospital: Hospital, tmp_path: Path, ending: str, magic: bytes
) -> None:
    rules = hospital.ledger.policy

    def plot(name: str) -> None:
        account, debits = budget(hospital.state, rules), history(hospital.state)
        plot_budget(account, debits, rules, tmp_path / f"{name}.{ending}")

    plot("empty")
    hospital.debit(hospital.accept(numbered(1)), 1, 1)
    plot("one")
    for name in ("empty", "one"):
        assert (tmp_path / f"{name}.{ending}").read_bytes().startswith(magic)
