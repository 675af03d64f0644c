"""Everything that can fail before the first study, tried: pass, or what to do.

Nothing leaves the site by it: the training step is a dry one, thrown away, and not debited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from protocol.errors import EXIT_STATUS, Code, WardroundError


@dataclass(frozen=True)
class Finding:
    """What one check found. passed: None where it could not be tried, or is only a doubt.

    found and remedy may be shown to the site's own operator.
    """

    name: str
    passed: bool | None
    found: str
    remedy: str = ""
    code: Code | None = None


class Doubt(Exception):
    """What a check may raise: not wrong, but worth a look. (found, remedy)"""

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(found)
        self.found, self.remedy = found, remedy


Check = tuple[str, Callable[[], str]]
"""A name, and what says in words what it found, or raises WardroundError or Doubt."""


def tried(checks: Iterator[Check]) -> Iterator[Finding]:
    """One finding a check, as each is done; a check that breaks is a finding too."""
    for name, check in checks:
        try:
            yield Finding(name, True, check())
        except Doubt as doubt:
            yield Finding(name, None, doubt.found, doubt.remedy)
        except WardroundError as error:
            yield Finding(name, False, error.message, error.remedy, error.code)
        except Exception as error:
            kind = type(error).__name__
            remedy = "Report it with this name; no data is in it."
            yield Finding(name, False, f"An unexpected {kind}.", remedy, Code.INTERNAL)


def verdict(findings: list[Finding]) -> int:
    """Exit status: of the first that failed, else 0."""
    failed = [f.code or Code.INTERNAL for f in findings if f.passed is False]
    return EXIT_STATUS[failed[0]] if failed else 0
