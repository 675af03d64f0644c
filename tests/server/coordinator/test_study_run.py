"""What a study's owner hears of an error that the coordinator did not expect."""

from __future__ import annotations

import numpy as np
import pytest

from protocol.errors import Code
from server.coordinator.study_run import unexpected


def test_an_unexpected_error_says_where_and_nothing_of_its_text() -> None:
    with pytest.raises(KeyError) as raised:
        dict[str, int]()["Doe, Jane"]
    said = unexpected(raised.value)
    assert said.code is Code.INTERNAL
    assert "KeyError at test_study_run.py:" in said.message
    assert "Jane" not in str(said)


def test_too_little_memory_is_said_to_be_that() -> None:
    with pytest.raises(MemoryError) as raised:
        np.empty(2**57)
    said = unexpected(raised.value)
    assert said.code is Code.STATE
    assert "memory" in said.message
    assert "resume" in said.remedy
