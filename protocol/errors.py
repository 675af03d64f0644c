"""The catalogue of what can go wrong: one code each, with the exit status a script sees.

Across the wire go the code and the kind of an error, never its text: a text may quote a value
(invariant 1). The text and the remedy are for the person at this keyboard.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Collection
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Self


class Code(StrEnum):
    """Stable names, each with the exit status that a script sees: they are logged, audited, put on
    the wire and documented."""

    exit_status: int

    def __new__(cls, name: str, exit_status: int = 70) -> Self:
        code = str.__new__(cls, name)
        code._value_, code.exit_status = name, exit_status
        return code

    # The person's input
    USAGE = "usage", 2
    CONFIGURATION = "configuration", 2
    UNKNOWN_TASK = "unknown_task", 2
    EPSILON_UNREACHABLE = "epsilon_unreachable", 2
    # Data at a site
    NO_DATA = "no_data", 3
    MALFORMED_DATA = "malformed_data", 3
    TOO_FEW_PATIENTS = "too_few_patients", 3
    # Connection and identity
    UNREACHABLE = "unreachable", 4
    TLS = "tls", 4
    NODE_KEY = "node_key", 4
    IDENTITY = "identity", 4
    CLOCK = "clock", 4
    PORT_TAKEN = "port_taken", 4
    FLWR_VERSION = "flwr_version", 4
    CREDENTIALS = "credentials", 4
    # A site refuses
    REFUSED_POLICY = "refused_policy", 5
    REFUSED_BUDGET = "refused_budget", 5
    REFUSED_STUDY = "refused_study", 5
    REFUSED_REPLAY = "refused_replay", 5
    TASK_CHANGED = "task_changed", 5
    WAITING_APPROVAL = "waiting_approval", 5
    REVOKED = "revoked", 5
    OUTSIDE_HOURS = "outside_hours", 5
    # The protocol between sites and coordinator
    MESSAGE = "message", 6
    RELEASE = "release", 6
    AGGREGATION = "aggregation", 6
    TOO_FEW_SITES = "too_few_sites", 6
    ATTEMPTS_SPENT = "attempts_spent", 6
    DIVERGED = "diverged", 6
    # This machine
    STATE = "state", 7
    LEDGER = "ledger", 7
    AUDIT = "audit", 7
    TRACKING = "tracking", 7
    WEIGHTS = "weights", 7
    # A fault of wardround itself
    INTERNAL = "internal", 70
    CLAIM = "claim", 70


EXIT_STATUS = {code: code.exit_status for code in Code}


class WardroundError(Exception):
    """An error with a code for machines, a sentence for people and what to do about it.

    `message` and `remedy` name files, keys and rules, never a value of a patient. `rule`: the key
    of a site's policy that forbids the request; like the code, this name may be sent. `detail`:
    more for the person at this terminal alone, such as the traceback of a task's own code; never
    sent, never logged.
    """

    def __init__(
        self, code: Code, message: str, *, remedy: str = "", rule: str = "", detail: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.rule = rule
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles every field, for errors that worker processes raise."""
        restore = partial(WardroundError, remedy=self.remedy, rule=self.rule, detail=self.detail)
        return restore, (self.code, self.message)

    @property
    def exit_status(self) -> int:
        return self.code.exit_status

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


def unknown_name(
    code: Code, message: str, name: str, known: Collection[str], listed: str
) -> WardroundError:
    """The error for a name that is none of `known`: suggests the nearest one and lists all."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return WardroundError(code, message, remedy=f"{hint}{listed}: {', '.join(known)}.")


def raised_at(error: BaseException) -> str:
    """An error's type and the lines that it came through, the last one first; not its text, which
    may quote data."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}" if places else type(error).__name__


def unwritable(path: Path, error: OSError) -> WardroundError:
    """The error for a file that a command cannot write."""
    return WardroundError(
        Code.USAGE,
        f"{path} cannot be written: {error.strerror}.",
        remedy="Name a file in a folder that is there and that you may write to.",
    )
