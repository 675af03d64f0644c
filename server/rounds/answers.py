"""Parses sites' answers: garbage is no answer, an unreadable other release is a refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.errors import Code, WardroundError
from protocol.release import RELEASE, Sender, remedy
from protocol.wire import messages
from protocol.wire.messages import Frame


@dataclass(frozen=True)
class SiteStanding:
    """Where a study stands at a site, and which release says so."""

    standing: messages.Standing
    sender: Sender


def answer_of(received: Frame) -> messages.Answer | None:
    """A site's answer; None where it is none (garbage costs the site's attempt only)."""
    try:
        message = messages.parse(received)
    except WardroundError as error:
        if error.code is Code.RELEASE:
            return messages.Refusal(study=None, code=error.code)
        return None
    match message:
        case messages.Refusal(code=Code.MESSAGE) if messages.sender(received).release != RELEASE:
            # What this release wrote, that one could not read.
            return messages.Refusal(study=message.study, code=Code.RELEASE)
        case messages.Standing() | messages.Ready() | messages.Share() | messages.Refusal():
            return message
        case messages.Propose() | messages.Prepare() | messages.Collect() | messages.Close():
            return None


def standing_of(received: Frame) -> SiteStanding | None:
    """A site's answer to a proposal; None where it is none."""
    sender = messages.sender(received)
    match answer_of(received):
        case messages.Refusal(code=code):
            refused = messages.Standing(study="0" * 64, state="refused", code=code)
            return SiteStanding(refused, sender)
        case messages.Standing() as standing:
            return SiteStanding(standing, sender)
        case _:
            return None


def releases_in_words(senders: Iterable[Sender]) -> str:
    """Which other releases are there and what to do, with how many sites; never which site."""
    counted = Counter(senders)
    return " ".join(
        f"{number} site{'s run' if number > 1 else ' runs'} wardround {sender.release} and this "
        f"coordinator {RELEASE}. {remedy(sender)}"
        for sender, number in sorted(counted.items(), key=lambda item: item[0].release)
    )
