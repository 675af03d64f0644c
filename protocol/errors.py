"""The catalogue of what can go wrong: one code each, with the exit status a script sees.

Across the wire go the code and the kind of an error, never its text: a text may quote a value
(invariant 1). The text and the remedy are for the person at this keyboard.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any


class Code(StrEnum):
    """Stable names: they are logged, audited, put on the wire and documented."""

    # The person's input (exit 2)
    USAGE = "usage"
    CONFIGURATION = "configuration"
    UNKNOWN_TASK = "unknown_task"
    EPSILON_UNREACHABLE = "epsilon_unreachable"
    # Data at a site (exit 3)
    NO_DATA = "no_data"
    MALFORMED_DATA = "malformed_data"
    TOO_FEW_PATIENTS = "too_few_patients"
    # Connection and identity (exit 4)
    UNREACHABLE = "unreachable"
    TLS = "tls"
    NODE_KEY = "node_key"
    IDENTITY = "identity"
    CLOCK = "clock"
    PORT_TAKEN = "port_taken"
    FLWR_VERSION = "flwr_version"
    CREDENTIALS = "credentials"
    # A site refuses (exit 5)
    REFUSED_POLICY = "refused_policy"
    REFUSED_BUDGET = "refused_budget"
    REFUSED_STUDY = "refused_study"
    REFUSED_REPLAY = "refused_replay"
    TASK_CHANGED = "task_changed"
    WAITING_APPROVAL = "waiting_approval"
    REVOKED = "revoked"
    OUTSIDE_HOURS = "outside_hours"
    # The protocol between sites and coordinator (exit 6)
    MESSAGE = "message"
    RELEASE = "release"
    AGGREGATION = "aggregation"
    TOO_FEW_SITES = "too_few_sites"
    ATTEMPTS_SPENT = "attempts_spent"
    DIVERGED = "diverged"
    # This machine (exit 7)
    STATE = "state"
    LEDGER = "ledger"
    AUDIT = "audit"
    TRACKING = "tracking"
    # Ours (exit 70)
    INTERNAL = "internal"


_EXIT = {
    2: (Code.USAGE, Code.CONFIGURATION, Code.UNKNOWN_TASK, Code.EPSILON_UNREACHABLE),
    3: (Code.NO_DATA, Code.MALFORMED_DATA, Code.TOO_FEW_PATIENTS),
    4: (
        Code.UNREACHABLE,
        Code.TLS,
        Code.NODE_KEY,
        Code.IDENTITY,
        Code.CLOCK,
        Code.PORT_TAKEN,
        Code.FLWR_VERSION,
        Code.CREDENTIALS,
    ),
    5: (
        Code.REFUSED_POLICY,
        Code.REFUSED_BUDGET,
        Code.REFUSED_STUDY,
        Code.REFUSED_REPLAY,
        Code.TASK_CHANGED,
        Code.WAITING_APPROVAL,
        Code.REVOKED,
        Code.OUTSIDE_HOURS,
    ),
    6: (
        Code.MESSAGE,
        Code.RELEASE,
        Code.AGGREGATION,
        Code.TOO_FEW_SITES,
        Code.ATTEMPTS_SPENT,
        Code.DIVERGED,
    ),
    7: (Code.STATE, Code.LEDGER, Code.AUDIT, Code.TRACKING),
    70: (Code.INTERNAL,),
}
EXIT_STATUS: dict[Code, int] = {code: status for status, codes in _EXIT.items() for code in codes}


class WardroundError(Exception):
    """An error with a code for machines, a sentence for people and what to do about it.

    `message` and `remedy` must name files, keys and rules, never a value of a patient. `rule`: the
    key of a site's policy that forbids what was asked; its name, like the code, may be told.
    """

    def __init__(self, code: Code, message: str, *, remedy: str = "", rule: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.rule = rule

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors come back whole from worker processes."""
        return _rebuilt, (self.code, self.message, self.remedy, self.rule)

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.code]

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


def unwritable(path: Path, error: OSError) -> WardroundError:
    """The error for a file that a command was to write."""
    return WardroundError(
        Code.USAGE,
        f"{path} cannot be written: {error.strerror}.",
        remedy="Name a file in a folder that is there and that you may write to.",
    )


def _rebuilt(code: Code, message: str, remedy: str, rule: str) -> WardroundError:
    return WardroundError(code, message, remedy=remedy, rule=rule)
