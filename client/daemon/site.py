"""The site: what a hospital answers to each message, and in which order it does things.

One rule above all: the ledger is debited durably before data is touched (invariant 3). The order
inside `_prepare` is therefore: known and accepted study, well-formed request, debit, compute.
What goes wrong is answered with a code; the text stays in the site's own log.
"""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from client.cohorts.query_counts import QueryContributor
from client.data.cohort import Cohort
from client.governance.approvals import DryRunAnswer
from client.training.algorithm_state import AlgorithmState
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.local_steps import SiteContext
from client.training.sampling import Patients
from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.privacy.word_size import check_headroom
from protocol.release import Sender
from protocol.secagg.context import Context, roster_digest, signed_by
from protocol.secagg.fixed_point import to_words
from protocol.secagg.party import OpenParty, Party
from protocol.study.study import Scalar, Study
from protocol.study.vector_layout import Sections
from protocol.vectors import EMPTY, Vector
from protocol.wire import messages
from protocol.wire.messages import Frame
from tasks import query_schema, registry
from tasks.base import Task
from tasks.flat_model import FlatModel

StandingState = Literal["accepted", "waiting", "refused", "closed"]


class Governance(Protocol):
    """What decides at the site: policy, approvals, ledger, audit log."""

    def propose(self, study: Study) -> tuple[StandingState, Code | None]:
        """Where a study stands here, recording it when it is new."""
        ...

    def weigh(self, study: Study, *, note: bool) -> DryRunAnswer:
        """How a study would be answered now, recording nothing; `note`: but that it was asked."""
        ...

    def admit(self, study: Study) -> None:
        """Raises WardroundError unless the study may be worked on at this moment."""
        ...

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        """Charges an attempt, durably when it returns. Raises WardroundError where it refuses."""
        ...

    def answered(
        self,
        study: str,
        kind: str,
        round_: int,
        attempt: int,
        sent: Frame,
        signature: str | None = None,
    ) -> None:
        """Notes in the audit log what leaves the site; `signature`: of a Ready."""
        ...

    def refused(self, study: str | None, error: WardroundError) -> None:
        """Notes in the audit log and the site's own log what was refused, and why."""
        ...

    def witness(self, ready: messages.Ready) -> None:
        """Takes note of a Ready that this site signed and that is not of the attempt in hand.
        Raises WardroundError(LEDGER) where nothing here knows of it: then this is an older copy."""
        ...

    def close(self, study: Study, outcome: str) -> None:
        """The study has ended."""
        ...


@dataclass
class _Pending:
    """The attempt that has been prepared, until the next one begins."""

    round: int
    attempt: int
    sections: Sections
    party: Party
    words: npt.NDArray[np.unsignedinteger]


@dataclass
class _Work:
    """An accepted study, warm: task, cohort, model, and its attempt in hand."""

    study: Study
    contributor: Contributor | QueryContributor
    kept: AlgorithmState
    pending: _Pending | None = None


class Site:
    """Answers messages, one at a time. Knows no network."""

    def __init__(
        self,
        name: str,
        identity: Identity,
        roster: Mapping[str, str],
        governance: Governance,
        cohort: Callable[[Task, Study], Cohort],
        *,
        respondent: Callable[[Task, Study], QueryContributor] | None = None,
        keep: Callable[[Study], AlgorithmState] = lambda study: AlgorithmState(),
        allow_unmasked: bool = False,
        memory: int = 1 << 30,
    ) -> None:
        """roster: site -> public identity key in hex, this site's own records.

        cohort: loads the site's patients for a study; called once a study. respondent: the same for
        a query; without, this site answers none. keep: where a study's algorithm keeps what is the
        site's own; in memory, unless told otherwise.
        allow_unmasked: the site's consent to studies without masks (federations in one process).
        memory: bytes that per-patient gradients may take.
        """
        self.name, self._identity, self._roster = name, identity, dict(roster)
        self._governance, self._cohort = governance, cohort
        self._respondent, self._keep = respondent, keep
        self._allow_unmasked, self._memory = allow_unmasked, memory
        self._work: dict[str, _Work] = {}
        self._known: dict[str, Study] = {}
        self._lock = threading.Lock()

    def answer(self, received: Frame) -> Frame:
        """One message in, one out. Never raises: what goes wrong becomes a Refusal."""
        study: str | None = None
        sender = messages.sender(received)
        with self._lock:
            try:
                message = messages.parse(received)
                study = getattr(message, "study", None)
                match message:
                    case messages.Propose():
                        return self._propose(message, sender)
                    case messages.Prepare():
                        return self._prepare(message, received, sender)
                    case messages.Collect():
                        return self._collect(message, sender)
                    case messages.Close():
                        return self._close(message, sender)
                raise WardroundError(Code.MESSAGE, "A site does not take this kind of message.")
            except Exception as error:  # the daemon lives on; no text crosses the wire
                code = self._refuse(study, error)
                return messages.frame(messages.Refusal(study=study, code=code), to=sender)

    def take_up(self, study: Study) -> None:
        """A study accepted before this process began, as if it had been proposed again. Never
        raises: one that cannot be worked on is refused."""
        with self._lock:
            try:
                self._consider(study)
            except Exception as error:
                self._refuse(study.digest, error)

    def _refuse(self, study: str | None, error: Exception) -> Code:
        """Notes a refusal; its code."""
        if not isinstance(error, WardroundError):
            error = WardroundError(Code.INTERNAL, _whereabouts(error))
        self._governance.refused(study, error)
        return error.code

    def _propose(self, message: messages.Propose, sender: Sender) -> Frame:
        study = Study.parse(message.document.encode(), sender)
        state, code, rules = self._consider(study, message.roster, dry=message.dry)
        return messages.frame(
            messages.Standing(study=study.digest, state=state, code=code, rules=rules), to=sender
        )

    def _consider(
        self, study: Study, roster: str | None = None, *, dry: bool = False
    ) -> tuple[StandingState, Code | None, tuple[str, ...]]:
        """A study's standing, why, and which rules of the policy forbid it. dry: records nothing
        but that it was asked."""
        rules: tuple[str, ...] = ()
        state: StandingState
        code: Code | None
        try:
            self._check(study, roster)
            if dry:
                weighed = self._governance.weigh(study, note=True)
                state, code, rules = weighed.state, weighed.code, weighed.rules
            else:
                state, code = self._governance.propose(study)
                if state == "refused":
                    rules = self._governance.weigh(study, note=False).rules
        except WardroundError as error:
            self._governance.refused(study.digest, error)
            state, code, rules = "refused", error.code, (error.rule,) if error.rule else ()
        if state == "accepted" and not dry:
            self._known[study.digest] = study
            state, code = self._now(study)
        return state, code, rules

    def _now(self, study: Study) -> tuple[StandingState, Code | None]:
        """An accepted study waits outside this site's hours of work."""
        try:
            self._governance.admit(study)
        except WardroundError as error:
            if error.code is not Code.OUTSIDE_HOURS:
                raise
            return "waiting", error.code
        return "accepted", None

    def _check(self, study: Study, roster: str | None) -> None:
        """What makes a study impossible here, whatever the policy says. roster: its sites' keys as
        the coordinator has them, where it says so."""
        if self.name not in study.sites:
            raise WardroundError(Code.REFUSED_STUDY, "The study's roster lacks this site.")
        unknown = sorted(set(study.sites) - set(self._roster))
        if unknown:
            raise WardroundError(
                Code.REFUSED_STUDY,
                f"The study's roster names sites that ours lacks: {', '.join(unknown)}.",
                remedy="Add their identity keys to `roster` in site.yaml, or ask who they are.",
            )
        if roster is not None and roster != roster_digest(
            (site, self._roster[site]) for site in study.sites
        ):
            raise WardroundError(
                Code.IDENTITY,
                "The coordinator has other identity keys for the study's sites than this site.",
                remedy="Compare fingerprints by telephone, then `wardround-site join` anew.",
            )
        check_headroom(study)
        if not study.aggregation.masked and not self._allow_unmasked:
            raise WardroundError(
                Code.REFUSED_POLICY,
                "The study asks for sums without masks.",
                remedy="Set policy.unmasked to true only if updates may be seen by others.",
                rule="unmasked",
            )
        task = registry.load_same(study.task)
        if study.query is not None:
            self._check_query(study, task)
            return
        options = tuple(sorted(study.task.options.items()))
        if _layout(task.name, options) != (study.model.parameters, study.model.layout):
            raise WardroundError(Code.REFUSED_STUDY, "The task's model is not the study's.")

    def _check_query(self, study: Study, task: Task) -> None:
        if self._respondent is None:
            raise WardroundError(
                Code.REFUSED_POLICY, "This site answers no queries.", rule="queries"
            )
        if study.query is None or study.model.layout != EMPTY.digest:
            raise WardroundError(Code.REFUSED_STUDY, "The query comes with a model.")
        query_schema.check(study.query, task.schema)

    def _accepted(self, digest_: str) -> Study:
        if digest_ not in self._known:
            raise WardroundError(Code.REFUSED_STUDY, "A message for a study not accepted here.")
        study = self._known[digest_]
        self._governance.admit(study)
        return study

    def _warm(self, study: Study) -> _Work:
        if study.digest not in self._work:
            task = registry.load(study.task.name, study.task.options)
            if study.query is not None and self._respondent is not None:
                self._work[study.digest] = _Work(
                    study, self._respondent(task, study), AlgorithmState()
                )
                return self._work[study.digest]
            learner = DPTrainer(task, study.optimisation.seed, self._memory)
            patients, kept = Patients(self._cohort(task, study), task.varied), self._keep(study)
            if study.privacy.traits.private:
                learner.try_out(patients.evaluation.features, study.aggregation.rounding)
            context = SiteContext(study, self.name, patients, learner)
            self._work[study.digest] = _Work(study, Contributor(context, kept), kept)
        return self._work[study.digest]

    def _prepare(self, message: messages.Prepare, received: Frame, sender: Sender) -> Frame:
        study = self._accepted(message.study)
        sections = _sections(study, message)
        body = cast(Vector, messages.gather(received.body, np.float32, sections.body))
        if digest(body.view(np.uint8).data) != message.model:
            raise WardroundError(Code.MESSAGE, "The model is not the one its digest names.")
        work = self._warm(study)
        self._governance.debit(study, message.round, message.attempt, sections)
        if work.pending is not None:  # what the ledger refuses leaves the attempt in hand alone
            work.pending.party.discard()
            work.pending = None
        party = self._party(study, message, sections)
        work.kept.begin(message.attempt, message.lost)
        contribution = work.contributor.contribution(sections, body, message.round)
        words = to_words(contribution, study.aggregation.word_bits)
        work.pending = _Pending(message.round, message.attempt, sections, party, words)
        ready = messages.Ready(
            study=study.digest,
            round=message.round,
            attempt=message.attempt,
            site=self.name,
            context=party.ready.context,
            public_key=party.ready.public_key,
            signature=party.ready.signature,
        )
        return self._sent("ready", messages.frame(ready, to=sender), ready)

    def _party(self, study: Study, message: messages.Prepare, sections: Sections) -> Party:
        context = Context(
            study=study.digest,
            kind=sections.kind,
            round=message.round,
            attempt=message.attempt,
            model=message.model,
            roster=tuple((site, self._roster[site]) for site in study.sites),
            exact=sections.exact,
        )
        if study.aggregation.masked:
            return Party.begin(context, self.name, self._identity)
        return OpenParty.begin(context, self.name)

    def _collect(self, message: messages.Collect, sender: Sender) -> Frame:
        study = self._accepted(message.study)
        work = self._work.get(study.digest)
        pending = work.pending if work is not None else None
        readys = message.announced
        for said, ready in zip(message.readys, readys, strict=True):
            if ready.site != self.name or (pending is not None and ready == pending.party.ready):
                continue
            if signed_by(ready, self._identity.public_key):
                self._governance.witness(said)
        if (
            work is None
            or pending is None
            or (pending.round, pending.attempt) != (message.round, message.attempt)
        ):
            raise WardroundError(Code.REFUSED_REPLAY, "This attempt is not the one in hand.")
        contributor, sections = work.contributor, pending.sections
        share = pending.party.share(
            pending.words,
            readys,
            study.aggregation.least_sites,
            lambda present: contributor.noise(sections, present),
        )
        work.kept.share()
        answer = messages.Share(study=study.digest, round=message.round, attempt=message.attempt)
        sent = messages.frame(answer, messages.chunks(share), to=sender)
        return self._sent("share", sent, answer)

    def _close(self, message: messages.Close, sender: Sender) -> Frame:
        work = self._work.pop(message.study, None)
        if work is not None and work.pending is not None:
            work.pending.party.discard()
        study = self._known.pop(message.study, None)
        if study is not None:
            self._governance.close(study, message.outcome)
            kept = work.kept if work is not None else self._keep(study)
            kept.close(study.document, finished=message.outcome == "finished")
        closed = messages.Standing(study=message.study, state="closed")
        return messages.frame(closed, to=sender)

    def _sent(self, kind: str, sent: Frame, answer: messages.Ready | messages.Share) -> Frame:
        signature = answer.signature if isinstance(answer, messages.Ready) else None
        self._governance.answered(answer.study, kind, answer.round, answer.attempt, sent, signature)
        return sent


def _whereabouts(error: Exception) -> str:
    """What was raised and where, for the site's own log; never its text, which may quote data."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))
    return f"An unexpected {type(error).__name__} was raised at {places}."


@functools.cache
def _layout(task: str, options: tuple[tuple[str, Scalar], ...]) -> tuple[int, str]:
    """(parameters, digest of their layout) of an installed task's model; the seed changes neither.
    Proposals come again and again, and a large model takes a while to build."""
    layout = FlatModel(registry.load(task, dict(options)), 0).layout
    return layout.size, layout.digest


def _sections(study: Study, message: messages.Prepare) -> Sections:
    """Raises WardroundError(REFUSED_STUDY) for a round that the study does not have."""
    last = study.optimisation.rounds
    if (
        message.round > last + 1
        or message.attempt > study.aggregation.attempts
        or (message.train and message.round > last)
        or (message.evaluate and not study.evaluates(message.round))
        or not (message.train or message.evaluate)
    ):
        raise WardroundError(
            Code.REFUSED_STUDY, "The study has no such round, attempt or evaluation."
        )
    return Sections(study, train=message.train, evaluate=message.evaluate)
