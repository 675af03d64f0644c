"""Trackers that give an MLflow server on a busy machine all the time it takes."""

from __future__ import annotations

import pytest

from server.tracking import study_tracking
from server.tracking.tracker import MlflowTracker, require_answer
from tests.narrowing import present
from tests.waiting import HUNG


def be_patient(patch: pytest.MonkeyPatch) -> None:
    """For a server that is there: it has answered long before."""
    patch.setattr(require_answer, "__defaults__", (HUNG,))
    patch.setitem(present(MlflowTracker.__init__.__kwdefaults__), "patience", HUNG)
    *_, write_out = present(MlflowTracker.settle.__defaults__)
    patch.setattr(MlflowTracker.settle, "__defaults__", (HUNG, write_out))
    patch.setattr(study_tracking, "_SETTLE", HUNG)
