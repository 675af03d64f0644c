"""A coordinator that sends any site any frame: the adversary of secure aggregation, over TLS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.document import digest
from protocol.errors import Code
from protocol.secagg.aggregate import GUARDS, ShareSum
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.messages import Answer, Collect, Frame, Ready, Refusal, Share
from tests.attack.sites import SITES, Ring
from tests.waiting import NEVER

Words = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Reply:
    """One site's answer, as bytes and as what they say."""

    message: Answer
    header: bytes
    body: bytes

    @property
    def code(self) -> Code | None:
        """Why it was refused; None where it was not."""
        return self.message.code if isinstance(self.message, Refusal) else None


class Hostile:
    """One study's conversation, with every frame in the hand of the attacker."""

    def __init__(self, ring: Ring, study: Study) -> None:
        self.ring, self.study = ring, study
        self._attempts = count(1)

    def next_attempt(self) -> int:
        return next(self._attempts)

    def ask(self, frames: Mapping[str, Frame]) -> dict[str, Reply]:
        """Who is away has no reply."""
        found = {}
        for site, received in self.ring.link.ask(frames, NEVER):
            if received is not None:
                body = b"".join(bytes(chunk) for chunk in received.body)
                message = messages.parse(received)
                assert isinstance(message, Answer)
                found[site] = Reply(message, received.header, body)
        return found

    def propose(self, sites: Iterable[str] = SITES) -> dict[str, Reply]:
        frame = messages.frame(messages.Propose(document=self.study.document.decode()))
        return self.ask(dict.fromkeys(sites, frame))

    def preparing(
        self,
        attempt: int,
        *,
        round_: int = 1,
        train: bool = True,
        evaluate: bool = False,
        weights: npt.NDArray[np.float32] | None = None,
        **changes: Any,
    ) -> Frame:
        """A Prepare; `changes` to it make it a wrong one."""
        model = np.zeros(self.study.model.parameters, np.float32) if weights is None else weights
        prepare = messages.Prepare(
            study=self.study.digest,
            round=round_,
            attempt=attempt,
            train=train,
            evaluate=evaluate,
            model=digest(model.tobytes()),
        )
        return messages.frame(prepare.model_copy(update=changes), [model.tobytes()])

    def prepare(self, attempt: int, sites: Iterable[str] = SITES, **how: Any) -> dict[str, Ready]:
        """The Readys of sites that all agree to the attempt."""
        frame = self.preparing(attempt, **how)
        replies = self.ask(dict.fromkeys(sites, frame))
        readys = {}
        for site, reply in replies.items():
            assert isinstance(reply.message, Ready), f"{site}: {reply.message}"
            readys[site] = reply.message
        return readys

    def collecting(self, readys: Iterable[Ready], attempt: int, round_: int = 1) -> Frame:
        study = self.study.digest
        return messages.frame(
            Collect(study=study, round=round_, attempt=attempt, readys=tuple(readys))
        )

    def collect(
        self, readys: Iterable[Ready], attempt: int, sites: Iterable[str] = SITES, round_: int = 1
    ) -> dict[str, Reply]:
        return self.ask(dict.fromkeys(sites, self.collecting(readys, attempt, round_)))

    def words(self, reply: Reply) -> Words:
        """A share's words, guards included."""
        assert isinstance(reply.message, Share), reply.message
        kind = "<u4" if self.study.aggregation.word_bits == 32 else "<u8"
        return np.frombuffer(reply.body, kind)

    def open(self, replies: Mapping[str, Reply]) -> npt.NDArray[np.int64]:
        """The sum over these sites. Raises WardroundError where it does not open."""
        shares = {site: self.words(reply) for site, reply in replies.items()}
        length = len(next(iter(shares.values()))) - GUARDS
        opening = ShareSum(sorted(shares), length, self.study.aggregation.word_bits)
        for site, words in shares.items():
            opening.fold(site, [words])
        return opening.open().astype(np.int64)

    def truth(self, attempt: int, sites: Sequence[str] = SITES) -> npt.NDArray[np.int64]:
        """The same sum by the sites' own diaries."""
        diaries = [self.ring.diary(site, self.study, attempt) for site in sites]
        total: npt.NDArray[np.int64] = np.sum([d["x"] + d["e"] for d in diaries], axis=0)
        return total
