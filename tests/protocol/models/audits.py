"""An audit's report, as `wardround audit --study` writes it, for tests."""

from __future__ import annotations

import json
from typing import Any

from protocol.models.audit_effort import CANARIES, RUNS
from protocol.release import RELEASE
from protocol.study.study import Study

PARTS = (("many runs", "training"), ("many runs", "evaluation"), ("one run", "training"))


def report(of: Study, bound: float | str = 0.5, **changed: Any) -> str:
    """Of a study: every finding shows epsilon to be at least `bound`. changed: other fields."""
    findings = [
        {
            "audit": audit,
            "part": part,
            "weights": "honest",
            "epsilon": 2.0,
            "bound": bound,
            "estimate": 1.0,
            "runs": RUNS if audit == "many runs" else CANARIES,
            "confidence": 0.9999,
            "holds": True,
        }
        for audit, part in PARTS
    ]
    plain = {
        "study": of.digest,
        "task": of.task.name,
        "source": of.task.source,
        "release": RELEASE,
        "mode": of.privacy.mode,
        "epsilon": of.privacy.epsilon,
        "delta": of.privacy.delta,
        "confidence": 0.9999,
        "holds": True,
        "findings": findings,
        "membership": None,
    }
    return json.dumps(plain | changed, indent=2) + "\n"
