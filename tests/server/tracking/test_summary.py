"""summary.json says what a script needs, is valid JSON, and is never half there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.outcomes.estimates import Estimate
from protocol.privacy.releases import assumption
from server.tracking.summary import write_summary
from tests.server.outcomes import outcome, study


def test_summary_holds_exactly_these_figures(tmp_path: Path) -> None:
    of = study()
    write_summary(outcome(of), tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "study": of.digest,
        "task": "breast_cancer",
        "mode": "local",
        "status": "finished",
        "model": "finished",
        "rounds": 3,
        "metrics": {
            "brier": {"value": 0.1, "low": 0.08, "high": None},
            "auc": {
                "value": pytest.approx(0.93),
                "low": pytest.approx(0.91),
                "high": pytest.approx(0.95),
            },
        },
        "epsilon": 1.875,
        "epsilon_broken": 7.5,
        "uncovered": "Epsilon does not cover the evaluation split.",
        "sites_per_patient": 1,
        "assumption": assumption(of),
        "sites": {"number": 3, "names": ["east", "north", "south"]},
        "seconds": 2.5,
        "seconds_per_round": 0.25,
        "bytes_sent": 6000,
        "bytes_received": 6000,
        "scores": {
            "counts": [30.0, 20.0, 8.0, 2.0, 1.0, 5.0, 14.0, 20.0],
            "variance": 1.5,
        },
    }


def test_a_study_that_reached_no_round_or_diverged_is_still_json(tmp_path: Path) -> None:
    bare = replace(
        outcome(study()),
        status="failed",
        rounds=(),
        metrics={"auc": Estimate(float("nan"), 0.0, float("inf"))},
        epsilon=float("inf"),
        epsilon_broken=None,
    )
    write_summary(bare, tmp_path / "s.json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((tmp_path / "s.json").read_text(), parse_constant=refuse)
    assert found["metrics"]["auc"] == {"value": None, "low": 0.0, "high": None}
    assert (found["epsilon"], found["epsilon_broken"]) == ("inf", None)
    assert (found["rounds"], found["seconds_per_round"]) == (0, None)


def test_a_failed_write_leaves_the_previous_summary(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_summary(outcome(study()), path)
    before = path.read_bytes()
    broken = replace(outcome(study()), seconds=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        write_summary(broken, path)
    assert path.read_bytes() == before
