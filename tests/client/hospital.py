"""A hospital on this disk: real state folder, real keys, real SQLite; only its clock can be set."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from client.config.known_roster import KnownRoster
from client.config.policy import Policy
from client.governance.approvals import Approvals
from client.governance.audit import Audit
from client.governance.database import SiteState
from client.governance.ledger import Ledger
from protocol.identity import Identity
from protocol.study.study import Study

SITES = ("alpha", "beta", "gamma")
SITE = "alpha"
_STUDY: dict[str, Any] = {
    "title": "A study",
    "purpose": "research",
    "contact": "someone@example.org",
    "nonce": "0" * 16,
    "task": {"name": "breast_cancer", "version": 1, "source": "a" * 64, "options": {}},
    "model": {"parameters": 31, "layout": "b" * 64},
    "privacy": {
        "mode": "local",
        "noise_multiplier": 2.0,
        "sampling_rate": 0.2,
        "delta": 1e-5,
        "epsilon": 4.0,
    },
    "optimisation": {"rounds": 20},
    "aggregation": {"attempts": 25, "scale": 65536},
    "evaluation": {"every": 5, "noise_multiplier": 50.0},
    "roster": [{"name": name, "patients": 100} for name in SITES],
}
_RULES: dict[str, Any] = {
    "tasks": ["breast_cancer"],
    "purposes": ["research"],
    "modes": ["local", "distributed"],
    "epsilon_per_study": 3.0,
    "epsilon_lifetime": 5.0,
    "epsilon_broken": 20.0,
}


def study(**changes: Any) -> Study:
    """A valid study; a key such as `privacy__epsilon` reaches into a section."""
    plain = copy.deepcopy(_STUDY)
    for key, value in changes.items():
        section, _, field = key.partition("__")
        if field:
            plain[section][field] = value
        else:
            plain[section] = value
    return Study.model_validate(plain)


def numbered(number: int, **changes: Any) -> Study:
    """The same study as another study: only its nonce and title differ."""
    return study(nonce=f"{number:016x}", title=f"Study {number}", **changes)


def policy(**changes: Any) -> Policy:
    return Policy.model_validate(_RULES | changes)


class Clock:
    """Wall time that tests move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@dataclass
class Hospital:
    """One open state folder with everything on top of it."""

    folder: Path
    identity: Identity
    state: SiteState
    audit: Audit
    ledger: Ledger
    approvals: Approvals
    clock: Clock

    @staticmethod
    def found(folder: Path, rules: Policy | None = None, names: str = "one view") -> Hospital:
        """A new hospital in a new folder. names: by which its patients go, of all tasks."""
        identity = Identity.generate()
        clock = Clock()
        SiteState.create(folder, SITE, identity.public_key.hex(), clock=clock).close()
        return Hospital.enter(folder, identity, rules, clock=clock, names=names)

    @staticmethod
    def enter(
        folder: Path,
        identity: Identity,
        rules: Policy | None = None,
        *,
        daemon: bool = False,
        clock: Clock | None = None,
        names: str = "one view",
    ) -> Hospital:
        """A hospital that is there already."""
        clock = clock or Clock()
        state = SiteState.open(folder, SITE, identity.public_key.hex(), daemon=daemon, clock=clock)
        audit = Audit(state, SITE, identity)
        ledger = Ledger(state, audit, rules or policy(), lambda task: names)
        return Hospital(
            folder,
            identity,
            state,
            audit,
            ledger,
            Approvals(ledger, SITE, KnownRoster(dict.fromkeys(SITES, ""))),
            clock,
        )

    def again(self, rules: Policy | None = None, *, daemon: bool = False) -> Hospital:
        """Closed and opened again, as after a restart; time goes on."""
        self.state.close()
        return Hospital.enter(
            self.folder, self.identity, rules or self.ledger.policy, daemon=daemon, clock=self.clock
        )

    def accept(self, wanted: Study) -> Study:
        assert self.approvals.propose(wanted) == ("waiting", None)
        self.approvals.approve(wanted)
        return wanted

    def debit(self, of: Study, round_: int, attempt: int) -> None:
        """All the sections that the round has."""
        self.ledger.debit(
            of,
            round_,
            attempt,
            train=round_ <= of.optimisation.rounds,
            evaluate=of.evaluates(round_),
        )


def in_child(work: Callable[[int], None]) -> tuple[int, bytes]:
    """Forks, runs `work(descriptor)` in the child, and waits.

    Returns (signal that killed it or 0, what it wrote to the descriptor). A child that raises
    writes the error's text.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            work(write)
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), said


def die() -> None:
    """What a power cut does to a process."""
    os.kill(os.getpid(), signal.SIGKILL)
