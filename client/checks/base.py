"""Runs checks of everything that can fail before the first study; each failure has a remedy.

Nothing leaves the site: the training step is a dry one, whose result is discarded and not debited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from protocol.errors import EXIT_STATUS, Code, WardroundError


@dataclass(frozen=True)
class CheckResult:
    """The result of one check. passed: None where it could not run, or only warns.

    found and remedy may be shown to the site's own operator.
    """

    name: str
    passed: bool | None
    found: str
    remedy: str = ""
    code: Code | None = None


class CheckWarning(Exception):
    """Raised by a check for what is no fault, but should be looked at."""

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(found)
        self.found, self.remedy = found, remedy


Check = tuple[str, Callable[[], str]]
"""A name, and a function that returns its result in words or raises WardroundError or
CheckWarning."""


def tried(checks: Iterator[Check]) -> Iterator[CheckResult]:
    """Runs the checks, one after the other; an exception in a check is a finding as well."""
    for name, check in checks:
        try:
            yield CheckResult(name, True, check())
        except CheckWarning as doubt:
            yield CheckResult(name, None, doubt.found, doubt.remedy)
        except WardroundError as error:
            yield CheckResult(name, False, error.message, error.remedy, error.code)
        except Exception as error:
            kind = type(error).__name__
            remedy = "Report it with this name; no data is in it."
            yield CheckResult(name, False, f"An unexpected {kind}.", remedy, Code.INTERNAL)


def verdict(findings: list[CheckResult]) -> int:
    """Returns the exit status of the first check that failed, else 0."""
    failed = [f.code or Code.INTERNAL for f in findings if f.passed is False]
    return EXIT_STATUS[failed[0]] if failed else 0
