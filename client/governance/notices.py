"""What a site's governance tells whoever watches it: one value for each thing that has happened.

Notices inform; they decide nothing. Each is given once what it tells of is durable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protocol.errors import Code, WardroundError
from protocol.study.study import Study


@dataclass(frozen=True)
class Proposed:
    """A study was proposed, for the first time or again, and this is its standing."""

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
