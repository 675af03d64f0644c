"""Hospitals with their own keys and everybody's trust whose masked shares are lies, in process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.config.known_roster import KnownRoster
from client.daemon.site import Site
from client.data.cohort import Cohort
from launch.federations.inprocess import InProcessFleet
from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.secagg.aggregate import GUARDS
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.messages import Collect, Frame, Share
from server.rounds.listener import Listener
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from tasks import registry
from tests.attack.hostile import Words
from tests.attack.simulated import TASK, Paying, lending

Lies = Callable[[frozenset[str]], bool]
"""Whether the liar lies, by the sites that take part in the attempt."""


def garbage(share: Words) -> Words:
    """Random words before honest guards: only what the sum can be tells."""
    most = np.iinfo(share.dtype).max
    words = np.random.default_rng().integers(0, most, len(share), share.dtype.type, endpoint=True)
    words[-GUARDS:] = share[-GUARDS:]
    return words


class Liar(Site):
    """Sends garbage in the attempts in which `lies` says so."""

    lies: Lies
    lie: Callable[[Words], Words] = staticmethod(garbage)

    def answer(self, received: Frame) -> Frame:
        honest = super().answer(received)
        asked, answer = messages.parse(received), messages.parse(honest)
        if not (isinstance(asked, Collect) and isinstance(answer, Share)):
            return honest
        if not type(self).lies(frozenset(ready.site for ready in asked.readys)):
            return honest
        bits = self._accepted[asked.study].aggregation.word_bits
        body = b"".join(bytes(chunk) for chunk in honest.body)
        words: Words = np.frombuffer(body, np.uint32 if bits == 32 else np.uint64)
        return messages.frame(answer, messages.chunks(type(self).lie(words)))


@dataclass
class Heard(Listener):
    """What a study says of its lost attempts and of its suspects."""

    losses: list[str]
    suspects: list[tuple[str, ...]]

    def lost(self, round_: int, attempt: int, why: str) -> None:
        self.losses.append(why)

    def waiting(self, why: str, sites: tuple[str, ...]) -> None:
        if why == "suspects":
            self.suspects.append(sites)


@dataclass(frozen=True)
class Ended:
    """How a study ended: its status or its error, who was left out, and what was heard."""

    status: str
    left_out: frozenset[str]
    heard: Heard
    participants: tuple[int, ...]


@dataclass(frozen=True)
class Federation:
    """Real sites with real masks, some of which lie."""

    sites: dict[str, Site]
    roster: dict[str, str]

    @staticmethod
    def of(
        patients: Mapping[str, Cohort],
        lies: Mapping[str, Lies],
        lie: Callable[[Words], Words] = garbage,
    ) -> Federation:
        """lies: site -> when it lies, of those that do."""
        keys = {site: Identity.generate() for site in patients}
        roster = {site: key.public_key.hex() for site, key in keys.items()}
        kinds: dict[str, type[Site]] = {
            site: type("Liar", (Liar,), {"lies": staticmethod(when), "lie": staticmethod(lie)})
            for site, when in lies.items()
        }
        sites = {
            site: kinds.get(site, Site)(
                site, keys[site], KnownRoster(roster), Paying(), lending(cohort)
            )
            for site, cohort in patients.items()
        }
        return Federation(sites, roster)

    def propose(self, study: Study) -> None:
        """Has every site accept the study."""
        frame = messages.frame(messages.Propose(document=study.document.decode()))
        for site in self.sites.values():
            site.answer(frame)

    def run(self, study: Study, *, checkpoint: Path | None = None, failures: int = 5) -> Ended:
        """failures: losses in a row after which the coordinator gives up."""
        heard = Heard([], [])
        rounds = RoundLoop(
            study, registry.load(TASK), InProcessFleet(self.sites), self.roster, heard,
            patience=Patience(answer=5.0, join=0.0, poll=0.0, failures=failures),
            checkpoint=checkpoint,
        )  # fmt: skip
        try:
            outcome = rounds.run()
        except WardroundError as error:
            return Ended(f"{error.code}: {error.message}", rounds.suspects.left_out, heard, ())
        participants = tuple(report.participants for report in outcome.rounds)
        return Ended(outcome.status, rounds.suspects.left_out, heard, participants)


def run(
    study: Study,
    patients: Mapping[str, Cohort],
    lies: Mapping[str, Lies],
    lie: Callable[[Words], Words] = garbage,
) -> Ended:
    return Federation.of(patients, lies, lie).run(study)
