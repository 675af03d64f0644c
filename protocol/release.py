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
"""The HTTP header with which a data scientist's machine sends a coordinator its release."""
_SHAPE = re.compile(r"\d{1,4}(\.\d{1,4}){1,3}[a-z0-9.+-]{0,20}")
_NAME = re.compile(r"[a-z_][a-z0-9_.]{0,79}")


@dataclass(frozen=True)
class Sender:
    """Who wrote a document or a header: its release, and the protocol that it speaks."""

    release: str = "0.1.0"
    protocol: int = 1

    @staticmethod
    def parse(release: object, protocol: object) -> Sender:
        """Reads the two header fields. Raises WardroundError(MESSAGE) for an impossible release."""
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


THIS_RELEASE = Sender(RELEASE, PROTOCOL)


def cannot_work_together(sender: Sender | None, why: str) -> WardroundError:
    """RELEASE, naming both releases, which of them is older and what to do. sender: None for a
    file, which says no release: a newer one wrote it."""
    if sender is None:
        remedy_here = "A newer release wrote it: install that release here."
        return WardroundError(Code.RELEASE, why, remedy=remedy_here)
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
    """The error for a field of `what` that this release does not know. An unusual name is not
    repeated: it could be anything."""
    shown = f"`{name}`" if _NAME.fullmatch(name) else "with an unusual name"
    why = f"{what} has a field {shown} that wardround {RELEASE} does not know."
    return cannot_work_together(sender, why)


def _order(release: str) -> tuple[int, ...]:
    """The numbers of a release, as a tuple that compares."""
    numbers = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()
