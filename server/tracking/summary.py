"""`summary.json`: a finished study in one small file, for scripts and benchmarks."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from protocol.metrics.score_histogram import Estimate
from server.outcome import Outcome
from server.tracking.query_report import plain


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
        "rounds": len(outcome.rounds),
        "metrics": {name: _interval(of) for name, of in sorted(outcome.metrics.items())},
        "epsilon": _spent(outcome.epsilon),
        "epsilon_broken": _spent(outcome.epsilon_broken),
        "uncovered": outcome.uncovered,
        "sites": {"number": len(study.roster), "names": list(study.sites)},
        "seconds": outcome.seconds,
        "seconds_per_round": fmean(r.seconds for r in outcome.rounds) if outcome.rounds else None,
        "bytes_sent": outcome.bytes_sent,
        "bytes_received": outcome.bytes_received,
        **({"answers": plain(outcome)} if study.query is not None else {}),
    } | ({"baselines": {name: dict(of) for name, of in baselines.items()}} if baselines else {})


def write_summary(
    outcome: Outcome, path: Path, baselines: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    """Writes, syncs and renames: a reader finds the old file or the whole new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(summary(outcome, baselines), file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _interval(estimate: Estimate) -> dict[str, float | None]:
    return {
        "value": _finite(estimate.value),
        "low": _finite(estimate.low),
        "high": _finite(estimate.high),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _spent(epsilon: float | None) -> float | str | None:
    return epsilon if epsilon is None or math.isfinite(epsilon) else "inf"
