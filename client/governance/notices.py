"""The notices that a site's governance gives to an observer, each once its event is durable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protocol.errors import Code, WardroundError
from protocol.study.study import Study


@dataclass(frozen=True)
class Proposed:
    """A study was proposed, for the first time or again, and has this standing."""

    study: Study
    standing: Literal["accepted", "waiting", "refused"]
    code: Code | None


@dataclass(frozen=True)
class Debited:
    """An attempt was charged."""

    study: Study
    round: int
    attempt: int


@dataclass(frozen=True)
class Answered:
    """An answer (kind: ready or share) is about to leave the site. study: its digest."""

    study: str
    kind: str
    round: int
    attempt: int
    bytes: int


@dataclass(frozen=True)
class Refused:
    """A message was refused. study: the digest that it named, if any."""

    study: str | None
    error: WardroundError


@dataclass(frozen=True)
class Closed:
    """The coordinator has ended a study."""

    study: Study
    outcome: str


Notice = Proposed | Debited | Answered | Refused | Closed
