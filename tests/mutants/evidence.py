"""A pytest plugin that writes down why the first test failed: as JSON, to the file WHY names.

Only a test that ran and found something wrong is evidence against a mutant: an assertion that does
not hold, an error expected that did not come, or a refusal. A module that cannot be imported, or a
TypeError in the middle of the change, only shows that the change is no code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from protocol import errors
from protocol.errors import WardroundError

WHY = "WARDROUND_MUTANT_WHY"


def found_wrong(error: BaseException) -> bool:
    """Whether a test's error says that what it tests is wrong."""
    if isinstance(error, BaseExceptionGroup):  # Hypothesis: several faults at once, or now and then
        return all(found_wrong(one) for one in error.exceptions)
    return isinstance(error, (AssertionError, WardroundError, pytest.fail.Exception))


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is learned of a mutant where another tree's code runs."""
    if not Path(errors.__file__).is_relative_to(config.rootpath):
        raise pytest.UsageError(f"{errors.__file__} runs, which is not of {config.rootpath}")


def pytest_exception_interact(
    node: pytest.Item | pytest.Collector, call: pytest.CallInfo[object], report: object
) -> None:
    where = Path(os.environ[WHY])
    if call.excinfo is None or where.exists():
        return
    error = call.excinfo.value
    is_evidence = call.when == "call" and found_wrong(error)
    why = {"test": node.nodeid, "when": call.when, "error": type(error).__name__}
    where.write_text(json.dumps(why | {"evidence": is_evidence}))
