"""A valid study in one line, for tests that change one thing about it."""

from __future__ import annotations

import copy
from typing import Any

from protocol.study.study import Study

_DOCUMENT: dict[str, Any] = {
    "format": 1,
    "title": "Heart disease in four hospitals",
    "purpose": "research",
    "contact": "someone@example.org",
    "nonce": "0123456789abcdef",
    "task": {"name": "heart_disease", "version": 1, "source": "a" * 64, "options": {}},
    "model": {"parameters": 27, "layout": "b" * 64},
    "privacy": {
        "mode": "distributed",
        "clip_norm": 1.0,
        "noise_multiplier": 6.5,
        "sampling_rate": 0.2,
        "delta": 1e-3,
        "epsilon": 1.0,
    },
    "optimisation": {"rounds": 20},
    "aggregation": {"attempts": 24},
    "evaluation": {"noise_multiplier": 4.0},
    "roster": [
        {"name": "cleveland", "patients": 200},
        {"name": "hungarian", "patients": 190},
        {"name": "va", "patients": 130},
    ],
}


def document(**changes: Any) -> dict[str, Any]:
    """The study as plain data; a key such as `privacy__epsilon` reaches into a section."""
    plain = copy.deepcopy(_DOCUMENT)
    for key, value in changes.items():
        section, _, field = key.partition("__")
        if field:
            plain[section][field] = value
        else:
            plain[section] = value
    return plain


def study(**changes: Any) -> Study:
    return Study.model_validate(document(**changes))
