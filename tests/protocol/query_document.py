"""A valid query as a study in one line, for tests that change one thing about it."""

from __future__ import annotations

from typing import Any

from protocol.study.study import Study
from protocol.vectors import EMPTY
from tests.protocol.study_document import document


def query(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "statistics": [
            {"name": "patients"},
            {
                "name": "age by sex",
                "axes": [
                    {"kind": "bins", "column": "age", "edges": [30, 50, 70]},
                    {"kind": "categories", "column": "sex", "categories": ["0", "1"]},
                ],
            },
        ]
    }
    for statistic in plain["statistics"]:
        statistic["kind"] = "cells"
    return plain | changes


def asked(changes: dict[str, Any] | None = None, **study: Any) -> Study:
    """changes: of the query. study: of the study, as in `study_document`."""
    usual: dict[str, Any] = {
        "model": {"parameters": 0, "layout": EMPTY.digest},
        "optimisation": {"rounds": 0},
        "aggregation": {"attempts": 1},
        "privacy": {
            "mode": "distributed",
            "noise_multiplier": 4.0,
            "delta": 1e-5,
            "epsilon": 0.5,
        },
        "evaluation": {"noise_multiplier": 4.0, "scale": 1},
    }
    plain = document(**usual)
    plain["query"] = query(**(changes or {}))
    for key, value in study.items():
        section, _, field = key.partition("__")
        if field:
            plain[section][field] = value
        else:
            plain[section] = value
    return Study.model_validate(plain)
