"""One attempt of secure aggregation, seen from the coordinator: Prepare, Collect, open.

Once sites have masked for one another, the sum needs all of them. So a site whose answer is lost on
the way is asked again, once it is back: it sends the same bytes to the same question, also after a
restart (`client.daemon.answers.stored_answers`), so that asking again spends nothing.

Replies are folded into one vector as they come. Two sites' answers are in memory at once only where
a robust rule needs them (`server.model.robust_aggregation`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.exact.transcript import SignedShares, context_of
from protocol.privacy.possible_sums import impossible
from protocol.secagg.aggregate import ShareSum
from protocol.secagg.context import Context, check_ready
from protocol.secagg.packing import packing_of
from protocol.study.study import Study
from protocol.study.vector_layout import Integers, Sections
from protocol.vectors import Vector
from protocol.wire import messages
from protocol.wire.exact_shares import to_wire
from protocol.wire.messages import Frame
from server.model.robust_aggregation import UnmaskedOpening
from server.rounds.answers import answer_of
from server.rounds.exact_run import ExactRun
from server.rounds.signed_opening import SignedOpening
from server.rounds.transport import Fleet


@dataclass
class Traffic:
    """Bytes between the coordinator and all sites together, transport overhead not counted."""

    sent: int = 0
    received: int = 0


@dataclass(frozen=True)
class OpenedSum:
    """The sum over the participants. `refusals`: site -> code, of those that refused. `updates`:
    site -> (P,) integers, only where the study has a robust rule."""

    total: Integers
    participants: frozenset[str]
    refusals: dict[str, Code] = field(default_factory=dict)
    updates: Mapping[str, Integers] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Participant -> its time: from the questions to its Ready and to its share, together."""
    shares: SignedShares | None = None
    """Of an exact analysis."""


@dataclass
class AttemptLostError(Exception):
    """The attempt gave no sum. `refusals`: site -> code, of those that refused. `suspects`: sites
    of which at least one sent what no honest site sends; none where messages were missing."""

    why: str
    refusals: dict[str, Code] = field(default_factory=dict)
    suspects: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Attempt:
    """The coordinator's side of one attempt; `run` carries it out.

    timeout: seconds for one answer. comeback: seconds for a site that was lost between its Ready
    and its share to come back. check_cancelled: is called while one is waited for, and where what
    was received is gone; raises what ends the study.
    """

    study: Study
    identities: Mapping[str, str]
    fleet: Fleet
    traffic: Traffic
    timeout: float
    comeback: float = 0.0
    poll: float = 0.0
    check_cancelled: Callable[[], None] = lambda: None

    def run(
        self,
        sites: frozenset[str],
        number: int,
        round_: int,
        sections: Sections,
        model_body: Vector,
        lost: Sequence[int] = (),
        exact: ExactRun | None = None,
    ) -> OpenedSum:
        """Asks `sites` and opens the sum over those that are ready.

        model_body: (sections.body,) float32, the model that the round starts from. lost: attempts
        that gave no sum, where sites have to know. exact: the sums of an exact analysis so far,
        which are sent in the place of a model. Raises AttemptLostError.
        """
        headers, shares = to_wire(() if exact is None else exact.shares)
        sent = model_body if exact is None else shares
        body = messages.chunks(sent)
        model = digest(np.ascontiguousarray(sent).view(np.uint8).data)
        prepare = messages.Prepare(
            study=self.study.digest,
            round=round_,
            attempt=number,
            train=sections.train,
            evaluate=sections.evaluate,
            model=model,
            lost=tuple(lost[-messages.LATEST_LOST :]),
            opened=headers,
        )
        roster = tuple((site, self.identities[site]) for site in self.study.sites)
        context = (
            Context(
                study=self.study.digest,
                kind=sections.kind,
                round=round_,
                attempt=number,
                model=model,
                roster=roster,
                exact=sections.exact,
            )
            if exact is None
            else context_of(self.study, roster, exact.past, round_, number)
        )
        refusals: dict[str, Code] = {}
        seconds = dict[str, float]()
        needed = sections.least_sites
        readys = self._prepare(sites, prepare, body, context, needed, refusals, seconds)
        opened = self._collect(prepare, readys, sections, refusals, seconds)
        reason = impossible(self.study, sections, opened.total, opened.participants, model_body)
        if reason:
            raise AttemptLostError(
                f"No honest sites add up to this sum: {reason}", refusals, opened.participants
            )
        if exact is not None and opened.shares is not None:
            try:
                exact.check(opened.shares)
            except WardroundError as error:
                raise AttemptLostError(error.message, refusals) from None
        return opened

    def _ask(
        self, seconds: dict[str, float], frames: Mapping[str, Frame]
    ) -> list[tuple[str, messages.Answer | None, Frame]]:
        """(site, its answer or None, the frame received), in the order in which they came."""
        answers: list[tuple[str, messages.Answer | None, Frame]] = []
        started = time.monotonic()
        for site, received in self.fleet.ask(frames, self.timeout):
            seconds[site] = time.monotonic() - started
            if received is None:
                answers.append((site, None, Frame(b"")))
                continue
            self.traffic.received += len(received.header)
            answers.append((site, answer_of(received), received))
        return answers

    def _prepare(
        self,
        sites: frozenset[str],
        prepare: messages.Prepare,
        body: list[memoryview],
        context: Context,
        needed: int,
        refusals: dict[str, Code],
        seconds: dict[str, float],
    ) -> list[messages.Ready]:
        frame = messages.frame(prepare, body)
        self.traffic.sent += frame.size * len(sites)
        readys: list[messages.Ready] = []
        for site, answer, _ in self._ask(seconds, dict.fromkeys(sorted(sites), frame)):
            if isinstance(answer, messages.Refusal):
                refusals[site] = answer.code
            elif isinstance(answer, messages.Ready) and answer.site == site:
                try:
                    check_ready(context, answer.announced, masked=self.study.aggregation.masked)
                    readys.append(answer)
                except WardroundError as error:
                    refusals[site] = error.code
            elif answer is not None:
                refusals[site] = Code.MESSAGE
        if len(readys) < needed:
            raise AttemptLostError(f"{len(readys)} sites were ready, {needed} are needed", refusals)
        return sorted(readys, key=lambda ready: ready.site)

    def _collect(
        self,
        prepare: messages.Prepare,
        readys: list[messages.Ready],
        sections: Sections,
        refusals: dict[str, Code],
        seconds: dict[str, float],
    ) -> OpenedSum:
        collect = messages.Collect(
            study=prepare.study,
            round=prepare.round,
            attempt=prepare.attempt,
            readys=tuple(readys),
        )
        frame = messages.frame(collect)
        participants = [ready.site for ready in readys]
        self.traffic.sent += frame.size * len(participants)
        opening = self._opening(participants, sections)
        share = messages.Share(study=collect.study, round=collect.round, attempt=collect.attempt)
        garbled = set[str]()
        asked = self._shares(participants, frame, lambda: bool(refusals.keys() & set(participants)))
        started = time.monotonic()
        for site, received in asked:
            seconds[site] += time.monotonic() - started
            answer = answer_of(received)
            if isinstance(answer, messages.Refusal):
                refusals[site] = answer.code
                if answer.code is Code.DIVERGED:  # it trained before it was ready
                    garbled.add(site)
            elif (
                not isinstance(answer, messages.Share)
                or answer.model_copy(update={"signature": ""}) != share
                or not self._fold(opening, site, received)
            ):
                refusals[site] = Code.MESSAGE
                garbled.add(site)
            elif isinstance(opening, SignedOpening):
                opening.signatures[site] = answer.signature
        try:
            updates = opening.updates if isinstance(opening, UnmaskedOpening) else {}
            return OpenedSum(
                opening.open(),
                frozenset(participants),
                refusals,
                updates,
                {site: seconds[site] for site in participants},
                opening.shares(collect) if isinstance(opening, SignedOpening) else None,
            )
        except WardroundError as error:
            # All shares are there and whole, and still the guards are wrong: it was one of them.
            unseen = not isinstance(opening, UnmaskedOpening) and not opening.missing
            suspects = frozenset(garbled) or frozenset(participants if unseen else ())
            raise AttemptLostError(error.message, refusals, suspects) from None

    def _shares(
        self, participants: Sequence[str], frame: Frame, spoiled: Callable[[], bool]
    ) -> Iterator[tuple[str, Frame]]:
        """The participants' answers as they come. Whose answer is lost is asked once more when it
        is back, unless the attempt is spoiled anyway."""
        lost = set[str]()
        for site, received in self.fleet.ask(dict.fromkeys(participants, frame), self.timeout):
            if received is None:
                lost.add(site)
            else:
                yield site, received
        deadline = time.monotonic() + self.comeback
        while lost and not spoiled():
            if back := lost & self.fleet.online():
                lost -= back
                self.traffic.sent += frame.size * len(back)
                again = dict.fromkeys(sorted(back), frame)
                for site, received in self.fleet.ask(again, self.timeout):
                    if received is None:
                        return
                    yield site, received
            elif time.monotonic() >= deadline:
                return
            else:
                self.check_cancelled()
                time.sleep(self.poll)

    def _opening(
        self, participants: list[str], sections: Sections
    ) -> ShareSum | UnmaskedOpening | SignedOpening:
        if self.study.exact is not None:
            return SignedOpening(participants, sections.length)
        if sections.train and self.study.aggregation.robust is not None:
            return UnmaskedOpening(participants, sections)
        bits, packing = self.study.aggregation.word_bits, packing_of(sections)
        return ShareSum(participants, sections.length, bits, packing)

    def _fold(
        self, opening: ShareSum | UnmaskedOpening | SignedOpening, site: str, received: Frame
    ) -> bool:
        """Whether a share could be folded; one that cannot spoils the attempt, and the others are
        still taken in."""
        try:
            opening.fold(site, received.body)
        except WardroundError:
            return False
        except LookupError:  # freed while it was read: another thread has ended the exchange
            self.check_cancelled()
            raise
        self.traffic.received += len(received.header) + opening.size
        return True
