"""Tasks of a user's own, installed for one test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cases.tasks import plugged


@pytest.fixture
def wounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tasks of `wound_tasks` are installed, and torch computes in one thread."""
    plugged.install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    yield

    torch.set_num_threads(threads)
