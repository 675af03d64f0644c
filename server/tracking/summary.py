"""`summary.json` or `unfinished.json`: a study that has ended, in one small file for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from protocol import durable_files
from protocol.document import finite
from protocol.privacy.releases import assumption
from server.answers import analysis_report
from server.answers.query_report import plain
from server.outcome import Outcome
from server.report import subgroups


def summary(
    outcome: Outcome, baselines: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, Any]:
    """What the file says. Bytes and seconds are the whole study's. A metric that is not finite (a
    model that diverged) is null; an epsilon that is not is "inf", for null means none claimed.

    baselines: what else was trained -> its figures, where the study was compared.
    """
    study = outcome.study
    return {
        "study": study.digest,
        "task": study.task.name,
        "mode": study.privacy.mode,
        "status": outcome.status,
        "model": outcome.released,
        "rounds": len(outcome.rounds),
        "metrics": {name: finite(asdict(of)) for name, of in sorted(outcome.metrics.items())},
        "epsilon": _spent(outcome.epsilon),
        "epsilon_broken": _spent(outcome.epsilon_broken),
        "uncovered": outcome.uncovered,
        "sites_per_patient": study.privacy.sites_per_patient,
        "assumption": assumption(study),
        "sites": {"number": len(study.roster), "names": list(study.sites)},
        "seconds": outcome.seconds,
        "seconds_per_round": fmean(r.seconds for r in outcome.rounds) if outcome.rounds else None,
        "bytes_sent": outcome.bytes_sent,
        "bytes_received": outcome.bytes_received,
        **({"scores": asdict(outcome.scores)} if outcome.scores is not None else {}),
        **({"answers": plain(outcome)} if study.query is not None else {}),
        **({"subgroups": subgroups.plain(study, outcome.subgroups)} if outcome.subgroups else {}),
        **({"analysis": analysis_report.plain(outcome.analysis)} if outcome.analysis else {}),
    } | ({"baselines": {name: dict(of) for name, of in baselines.items()}} if baselines else {})


def write_summary(
    outcome: Outcome, path: Path, baselines: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    """Durable on return: a reader finds the old file or the whole new one. Raises OSError."""
    text = json.dumps(summary(outcome, baselines), indent=2, allow_nan=False) + "\n"
    durable_files.write(path, text.encode(), mode=durable_files.PUBLIC)


def _spent(epsilon: float | None) -> float | str | None:
    return epsilon if epsilon is None or math.isfinite(epsilon) else "inf"
