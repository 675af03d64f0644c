"""A study in mode distributed without masks reports what the shares cost as the coordinator sees
them, or is refused.

Kind of fault: the claim is checked against what was planned under masks, not against what leaves
the building. Without them, only a site's own part of the noise protects its share.
"""

from __future__ import annotations

import json
from pathlib import Path

from launch.config import compose
from launch.studies.run import run_inprocess
from protocol.errors import WardroundError
from protocol.privacy.releases import planned_broken_epsilon
from tasks.shipped.breast_cancer import BreastCancer

_WORDS = (
    "privacy=distributed",
    "privacy.epsilon=3",
    "rounds=5",
    "federation.masked=false",
    "tracking=off",
)


def reported_and_exposed(folder: Path) -> tuple[float, float] | None:
    """Epsilon of the summary, and of the shares as they were seen; None for a study refused."""
    task = BreastCancer()
    try:
        config = compose.load([*_WORDS, f"output={folder}"])
        finished = run_inprocess(config, task, task.public_sites(None))
    except WardroundError:
        return None
    study = finished.outcome.study
    told = json.loads((finished.folder / "summary.json").read_text())["epsilon"]
    values = told.values() if isinstance(told, dict) else [told]
    reported = max(value for value in values if isinstance(value, int | float))
    masked = study.aggregation.model_copy(update={"masked": True})
    under_masks = study.model_copy(update={"aggregation": masked})
    return reported, planned_broken_epsilon(under_masks, study.privacy.delta)


def test_the_summary_reports_what_the_coordinator_saw(tmp_path: Path) -> None:
    figures = reported_and_exposed(tmp_path)
    if figures is not None:
        reported, exposed = figures
        assert reported >= exposed * 0.97
