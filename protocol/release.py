"""The release and protocol of each side, and the error where two releases cannot work together.

A header without a release is one of 0.1.0, which sent none and spoke protocol 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version

from protocol.errors import Code, WardroundError

RELEASE = version("wardround")
PROTOCOL = 2
"""Of the messages. Every protocol from OLDEST_PROTOCOL on is still read and answered in kind."""
OLDEST_PROTOCOL = 1
RELEASE_HEADER = "wardround-release"
"""The HTTP header in which a data scientist's end tells a coordinator its release."""
_SHAPE = re.compile(r"\d{1,4}(\.\d{1,4}){1,3}[a-z0-9.+-]{0,20}")
_NAME = re.compile(r"[a-z_][a-z0-9_.]{0,79}")


@dataclass(frozen=True)
class Sender:
    """Who wrote a document or a header: its release, and the protocol that it speaks."""

    release: str = "0.1.0"
    protocol: int = 1

    @staticmethod
    def said(release: object, protocol: object) -> Sender:
        """As a header says it. Raises WardroundError(MESSAGE) where that is no release."""
        if release is None and protocol is None:
            return Sender()
        if (
            not isinstance(release, str)
            or not _SHAPE.fullmatch(release)
            or not isinstance(protocol, int)
            or not 1 <= protocol < 1000
        ):
            raise WardroundError(Code.MESSAGE, "A header says no release that could be.")
        return Sender(release, protocol)

    @property
    def readable(self) -> bool:
        """Whether its messages have a protocol that is read here."""
        return OLDEST_PROTOCOL <= self.protocol <= PROTOCOL


HERE = Sender(RELEASE, PROTOCOL)


def cannot_work_together(sender: Sender, why: str) -> WardroundError:
    """Names both releases, says which is the older one and what to do."""
    return WardroundError(
        Code.RELEASE,
        f"{why} Its sender runs wardround {sender.release}, this side {RELEASE}.",
        remedy=remedy(sender),
    )


def remedy(sender: Sender) -> str:
    """What to do about a sender whose release does not fit."""
    theirs, ours = _order(sender.release), _order(RELEASE)
    if theirs > ours:
        return f"This side is the older one: install wardround {sender.release} here."
    if theirs < ours:
        return f"The sender is the older one: install wardround {RELEASE} there."
    return "Both say the same release, and one was changed: install the same build on both sides."


def unknown_field(name: str, what: str, sender: Sender | None = None) -> WardroundError:
    """A field that this release does not know stands in `what`. A name that is no plain one, which
    could be anything, is not repeated."""
    shown = f"`{name}`" if _NAME.fullmatch(name) else "with an unusual name"
    why = f"{what} has a field {shown} that wardround {RELEASE} does not know."
    if sender is not None:
        return cannot_work_together(sender, why)
    return WardroundError(
        Code.RELEASE, why, remedy="A newer release wrote it: install that release here."
    )


def _order(release: str) -> tuple[int, ...]:
    """The numbers of a release, to be compared."""
    found = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
