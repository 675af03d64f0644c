"""How a hospital answers each message of the coordinator.

    Propose   accept the study, let it wait, or refuse it                      -> Standing
    Prepare   check study and request, load the cohort, debit, compute, then   -> Ready
    Collect   check the other sites' Readys, add noise and masks               -> Share
    Close     note that the study has ended, or rests until it is proposed     -> Standing

The ledger is debited durably before data enter a computation (invariant 3). An error is answered
with its code; its text stays in the site's own log.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, cast
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from client.cohorts.exact_sums import ExactContributor
from client.cohorts.query_counts import QueryContributor
from client.config.known_roster import Roster
from client.daemon.answers.stored_answers import StoredAnswers
from client.data.cohort import Cohort
from client.governance.approvals import DryRunAnswer
from client.training.algorithm_state import AlgorithmState
from client.training.contribution import Contributor
from client.training.devices.choice import Device
from client.training.dp_trainer import DPTrainer, go_on
from client.training.local_steps import SiteContext
from client.training.sampling import Patients
from client.training.self_check import check_task, invented_features
from protocol.document import digest
from protocol.errors import Code, WardroundError, raised_at
from protocol.exact.transcript import Past, context_of, replay, sign_share
from protocol.extras import explained
from protocol.identity import Identity
from protocol.models.starting_model import check_parent, check_weights
from protocol.privacy.possible_sums import check_declared
from protocol.privacy.word_size import check_headroom
from protocol.release import Sender
from protocol.secagg.context import Context, roster_digest, signed_by
from protocol.secagg.fixed_point import to_words
from protocol.secagg.packing import packing_of
from protocol.secagg.party import OpenParty, Party
from protocol.study.states import StudyState
from protocol.study.study import Model, Scalar, Study
from protocol.study.subgroups import check_participants
from protocol.study.vector_layout import Sections
from protocol.terminal.study_texts import check_texts
from protocol.vectors import EMPTY, LARGEST_WEIGHT, Vector, in_range
from protocol.wire import messages
from protocol.wire.exact_shares import from_wire
from protocol.wire.messages import Ending, Frame
from tasks import query_schema, registry
from tasks.base import Task
from tasks.flat_model import FlatModel

StandingState = Literal["accepted", "waiting", "refused", "closed"]


class Governance(Protocol):
    """What a site needs of its policy, approvals, ledger and audit log."""

    def propose(self, study: Study) -> tuple[StandingState, Code | None]:
        """Returns a study's standing here, and records a new study."""
        ...

    def weigh(self, study: Study, *, note: bool) -> DryRunAnswer:
        """Returns how a study would be answered now; with `note`, records that it was asked."""
        ...

    def admit(self, study: Study) -> None:
        """Raises WardroundError unless the study may be worked on at this moment."""
        ...

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        """Charges an attempt, durably when it returns. Raises WardroundError where it refuses."""
        ...

    def last_attempt(self, study: Study) -> int:
        """Returns the number of the last attempt answered here; 0 before the first."""
        ...

    def accepted_by(self, study: Study) -> messages.AcceptedBy:
        """Returns whether a person or the rules accepted an open study; "" where neither did."""
        ...

    def take_part(self, study: Study, round_: int, participants: Collection[str]) -> None:
        """Notes, durably, among whom a sum is that the site is about to add to. Raises
        WardroundError where a round asks for too many different sets of sites."""
        ...

    def fix_rows(self, study: Study, rows: str) -> None:
        """Notes, durably, on which rows (SHA-256) an exact analysis is about to work. Raises
        WardroundError(REFUSED_POLICY) where earlier ones worked on others and nobody permitted
        it."""
        ...

    def end(self, study: Study, why: str) -> None:
        """Records that this site takes no further part in a study, for good."""
        ...

    def answered(
        self, answer: messages.Ready | messages.Share, sent: Frame, *, again: bool = False
    ) -> None:
        """Records in the audit log an answer that is about to leave the site, as it is sent.
        again: it was sent before."""
        ...

    def refused(self, study: str | None, error: WardroundError) -> None:
        """Records a refusal in the audit log and, with its reason, in the site's own log."""
        ...

    def witness(self, ready: messages.Ready) -> None:
        """Checks a Ready that this site signed for an attempt other than the current one.

        Raises WardroundError(LEDGER) where it is not on record: then this is an older copy.
        """
        ...

    def known(self, digest: str) -> Study | None:
        """Returns a study that was proposed here, also before this process began."""
        ...

    def close(self, study: Study, outcome: Ending) -> None:
        """Records that the study has ended, or rests."""
        ...


@dataclass
class _PreparedAttempt:
    """An attempt that was answered by a Ready; it is replaced when the next one is prepared."""

    round: int
    attempt: int
    sections: Sections
    party: Party
    words: npt.NDArray[np.unsignedinteger]


@dataclass
class _LoadedStudy:
    """An accepted study in memory: cohort and model, algorithm state, current attempt."""

    contributor: Contributor | QueryContributor
    state: AlgorithmState
    objections: bytes
    attempt: _PreparedAttempt | None = None


class _Turn:
    """Whose lock is held while one message about a study is answered."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def no_successor(key: str) -> Identity:
    """For a site whose key was never replaced. Raises WardroundError(IDENTITY)."""
    raise WardroundError(
        Code.IDENTITY,
        "The roster gives this site an identity key that it does not have.",
        remedy="Ask the coordinator's operator who replaced it.",
    )


class Site:
    """Answers messages, whatever brings them: those about one study one at a time, those about
    different studies at once. Cohorts are loaded one at a time."""

    def __init__(
        self,
        name: str,
        identity: Identity,
        roster: Roster,
        governance: Governance,
        cohort: Callable[[Task, Study], Cohort],
        *,
        respondent: Callable[[Task, Study], QueryContributor] | None = None,
        keep: Callable[[Study], AlgorithmState] = lambda study: AlgorithmState(),
        answers: StoredAnswers | None = None,
        allow_unmasked: bool = False,
        devices: Sequence[Device] = (Device(),),
        successor: Callable[[str], Identity] = no_successor,
        objections: Callable[[], bytes] = bytes,
        threads: Callable[[Study], AbstractContextManager[object]] = nullcontext,
        give_way: Callable[[], None] = go_on,
        party: type[Party] = Party,
    ) -> None:
        """roster: the other sites' identity keys, from this site's own records.

        cohort: loads the site's patients for a study; called once a study,
        and again when others object. respondent: the same for
        a query; without it, queries are refused. keep: opens the study's algorithm state, in memory
        by default. answers: where masked answers outlast a restart. allow_unmasked: the site's
        consent to studies without masks (federations in one process). devices: where to compute, in
        the order in which they are tried for a study. successor: public key in hex -> the identity
        that took the place of `identity` in newer studies. party: masks sums; another than `Party`
        where one machine plays all sites. objections: bytes that stay the same as long as the same
        patients object; raises WardroundError where that is not known. threads: inside what an
        attempt of a study is computed; give_way: called between two steps of it.
        """
        self._successor = successor
        self.name, self._identity, self._roster = name, identity, roster
        self._governance, self._cohort = governance, cohort
        self._respondent, self._keep, self._objections = respondent, keep, objections
        self._answers = answers or StoredAnswers()
        self._allow_unmasked, self._devices = allow_unmasked, devices
        self._threads, self._give_way, self._party_type = threads, give_way, party
        self._loaded: dict[str, _LoadedStudy] = {}
        self._accepted: dict[str, Study] = {}
        self._turns: WeakValueDictionary[str | None, _Turn] = WeakValueDictionary()
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def answer(self, received: Frame) -> Frame:
        """Answers one message. Never raises: an error becomes a Refusal."""
        study: str | None = None
        sender = messages.sender(received)
        try:
            message = messages.parse(received)
            study = getattr(message, "study", None)
            with self._turn(messages.study_of(message)):
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
        except Exception as error:  # the daemon continues; no text crosses the wire
            code = self._refuse(study, error)
            return messages.frame(messages.Refusal(study=study, code=code), to=sender)

    @contextmanager
    def _turn(self, study: str | None) -> Iterator[None]:
        """Waits until nothing else is done for the study with this digest."""
        with self._lock:
            turn = self._turns.setdefault(study, _Turn())
        with turn.lock:
            yield

    def reopen(self, study: Study) -> None:
        """Reopens a study that was accepted before this process began, as if it were proposed
        again. Never raises: a study that is no longer possible is refused."""
        with self._turn(study.digest):
            try:
                self._consider(study)
            except Exception as error:
                self._refuse(study.digest, error)

    def _refuse(self, study: str | None, error: Exception) -> Code:
        """Records a refusal; returns its code."""
        if isinstance(error, OSError) and error.errno is not None:
            error = WardroundError(
                Code.STATE,
                f"A file or connection of this machine fails: {os.strerror(error.errno)}.",
                remedy="Check free space, the mount and the permissions of the state folder, and "
                "that the sources of data can be reached.",
            )
        if isinstance(error, ImportError):
            error = explained(error) or error
        if not isinstance(error, WardroundError):
            unexpected = WardroundError(
                Code.INTERNAL, f"An unexpected error was raised: {raised_at(error)}."
            )
            unexpected.__cause__ = error
            error = unexpected
        self._governance.refused(study, error)
        return error.code

    def _propose(self, message: messages.Propose, sender: Sender) -> Frame:
        study = Study.parse(message.document.encode(), sender)
        state, code, rules = self._consider(study, message.roster, dry=message.dry)
        standing = messages.Standing(
            study=study.digest,
            state=state,
            code=code,
            rules=rules,
            answered=self._governance.last_attempt(study) if state == "accepted" else 0,
            unconfirmed=() if state == "refused" else self._unconfirmed(study),
            accepted_by=self._governance.accepted_by(study) if state == "accepted" else "",
        )
        return messages.frame(standing, to=sender)

    def _unconfirmed(self, study: Study) -> tuple[str, ...]:
        return self._roster.now().unconfirmed(self._keys(study))

    def _consider(
        self, study: Study, roster: str | None = None, *, dry: bool = False
    ) -> tuple[StandingState, Code | None, tuple[str, ...]]:
        """Returns a study's standing, its reason, and the policy's rules that forbid it. A dry run
        records only that it was asked."""
        try:
            self._check(study, roster)
            self._objections()  # who cannot say who objects takes part in nothing
            weighed = self._governance.weigh(study, note=dry)
            if weighed.state != "refused":
                task = registry.load(study.task.name, study.task.options)
                check_task(task, study, self._devices)  # before any privacy is spent
            if dry:
                return weighed.state, weighed.code, weighed.rules
            state, code = self._governance.propose(study)
            if state == "refused":
                return state, code, self._governance.weigh(study, note=False).rules
        except WardroundError as error:
            self._governance.refused(study.digest, error)
            return "refused", error.code, (error.rule,) if error.rule else ()
        if state == "accepted":
            self._accepted[study.digest] = study
            try:
                self._governance.admit(study)
            except WardroundError as error:
                if error.code is not Code.OUTSIDE_HOURS:
                    raise
                return "waiting", error.code, ()
        return state, code, ()

    def _check(self, study: Study, roster: str | None) -> None:
        """Raises WardroundError where a study is impossible here, whatever the policy allows.

        roster: digest of the coordinator's keys for the study's sites, where it sent one.
        """
        if self.name not in study.sites:
            raise WardroundError(Code.REFUSED_STUDY, "The study's roster lacks this site.")
        keys = self._keys(study)
        if roster is not None and roster != roster_digest(keys.items()):
            raise WardroundError(
                Code.IDENTITY,
                "The coordinator has other identity keys for the study's sites than this site.",
                remedy="Compare fingerprints by telephone, then `wardround-site join` again.",
            )
        if self._governance.known(study.digest) is None:
            check_texts(study)  # one from before is read as it was written, and shown as text
        check_headroom(study)
        if not study.aggregation.masked and not self._allow_unmasked:
            raise WardroundError(
                Code.REFUSED_POLICY,
                "The study asks for sums without masks.",
                remedy="Set policy.unmasked to true only if updates may be seen by others.",
                rule="unmasked",
            )
        if study.start is not None:
            parent = self._governance.known(study.start.study)
            if parent is not None:
                check_parent(study, parent)
        task = registry.load_same(study.task)
        if study.query is not None:
            self._check_query(study, task)
            return
        options = tuple(sorted(study.task.options.items()))
        fits = _fits(type(task), options, study.optimisation.seed, study.model)
        if not fits or task.outcome != study.outcome:
            raise WardroundError(
                Code.REFUSED_STUDY,
                "The task's model is not the study's, in its layers, its frozen parameters or its "
                "outcome.",
                remedy="Install the same version of the task as elsewhere, with the same files of "
                "pretrained weights.",
            )

    def _keys(self, study: Study, sites: Iterable[str] | None = None) -> dict[str, str]:
        """Site -> identity key in the study, of all its sites by default."""
        named = tuple(study.sites if sites is None else sites)
        return self._roster.now().keys(named, study.roster_version)

    def _signer(self, study: Study) -> Identity:
        """The key with which this site signs in a study. Raises WardroundError(IDENTITY)."""
        key = self._keys(study, [self.name])[self.name]
        if key == self._identity.public_key.hex():
            return self._identity
        return self._successor(key)

    def _check_query(self, study: Study, task: Task) -> None:
        if self._respondent is None:
            raise WardroundError(
                Code.REFUSED_POLICY, "This site answers no queries.", rule="queries"
            )
        if study.query is None or study.model.layout != EMPTY.digest:
            raise WardroundError(Code.REFUSED_STUDY, "The query comes with a model.")
        schema = query_schema.asked_schema(study.query, task.schema, task.outcome)
        query_schema.check(study.query, schema)

    def _admitted(self, study_digest: str) -> Study:
        if study_digest not in self._accepted:
            raise WardroundError(Code.REFUSED_STUDY, "A message for a study not accepted here.")
        study = self._accepted[study_digest]
        self._governance.admit(study)
        return study

    def _load(self, study: Study) -> _LoadedStudy:
        """The study in memory, without those who object by now. One is loaded at a time: two may
        need the same cache and all the memory.
        """
        objections, loaded = self._objections(), self._loaded.get(study.digest)
        if loaded is not None and loaded.objections == objections:
            return loaded
        with self._loading:
            if loaded is None:
                state = AlgorithmState() if study.query is not None else self._keep(study)
                loaded = _LoadedStudy(self._contributor(study, state), state, objections)
            else:
                loaded.contributor = self._contributor(study, loaded.state)
                loaded.objections = objections
            self._loaded[study.digest] = loaded
        return loaded

    def _contributor(self, study: Study, state: AlgorithmState) -> Contributor | QueryContributor:
        task = registry.load(study.task.name, study.task.options)
        if study.query is not None and self._respondent is not None:
            answering = self._respondent(task, study)
            check_declared(study, self.name, trained=0, scored=answering.records.patients)
            return answering
        device = check_task(task, study, self._devices)
        learner = DPTrainer(
            task, study.optimisation.seed, device.memory, device.device, self._give_way
        )
        patients = Patients.of(task, self._cohort(task, study))
        scored = len(patients.evaluation)
        check_declared(study, self.name, trained=patients.training, scored=scored)
        if study.privacy.epsilon is not None:
            learner.try_out(
                invented_features(task),
                trains=study.privacy.traits.private,
                in_floats=study.sums_in_floats,
            )
        return Contributor(SiteContext(study, self.name, patients, learner), state)

    def _prepare(self, message: messages.Prepare, received: Frame, sender: Sender) -> Frame:
        study = self._admitted(message.study)
        with self._threads(study):
            return self._prepared(study, message, received, sender)

    def _prepared(
        self, study: Study, message: messages.Prepare, received: Frame, sender: Sender
    ) -> Frame:
        sections, past = _sections(study, message), self._past(study, message, received)
        sent = () if past is not None else received.body
        body = cast(Vector, messages.gather(sent, np.float32, sections.body))
        if past is None and digest(body.view(np.uint8).data) != message.model:
            raise WardroundError(Code.MESSAGE, "The model is not the one its digest names.")
        if not in_range(body):
            raise WardroundError(
                Code.DIVERGED,
                f"The coordinator sent weights that are not between -{LARGEST_WEIGHT:g} and "
                f"{LARGEST_WEIGHT:g}.",
                remedy="The study's learning rates are too high, or its coordinator is hostile: "
                "ask who runs it. Nothing was spent.",
            )
        if study.start is not None and message.round == 1:
            check_weights(study.start, body[: study.model.parameters])
        loaded = self._load(study)
        present = study.sites if sections.exact else (self.name,)
        self._roster.now().check_participants(self._keys(study, present))
        if isinstance(loaded.contributor, ExactContributor):
            self._governance.fix_rows(study, loaded.contributor.rows)
        self._governance.debit(study, message.round, message.attempt, sections)
        self._answers.forget(study.digest)
        if loaded.attempt is not None:  # only now: an attempt that the ledger refuses replaces none
            loaded.attempt.party.discard()
            loaded.attempt = None
        party = self._party(study, message, sections, past)
        loaded.state.begin(message.attempt, message.lost)
        contribution = self._contribution(study, loaded, sections, body, message.round, past)
        words = to_words(contribution, study.aggregation.word_bits)
        loaded.attempt = _PreparedAttempt(message.round, message.attempt, sections, party, words)
        ready = messages.Ready(
            study=study.digest,
            round=message.round,
            attempt=message.attempt,
            site=self.name,
            context=party.ready.context,
            public_key=party.ready.public_key,
            signature=party.ready.signature,
        )
        return self._send(ready, messages.frame(ready, to=sender))

    def _past(self, study: Study, message: messages.Prepare, received: Frame) -> Past | None:
        """What follows from the sums of an exact analysis so far, as this site computes it from the
        shares that it was sent; None in any other study. Raises as `replay`."""
        if study.exact is None:
            if message.opened:
                raise WardroundError(Code.MESSAGE, "The study is no exact analysis.")
            return None
        shares = from_wire(study, message.opened, received.body)
        past = replay(study, tuple(self._keys(study).items()), shares)
        if past.rounds + 1 != message.round or past.over:
            raise WardroundError(Code.MESSAGE, "The sums so far are not those before this round.")
        return past

    def _contribution(
        self,
        study: Study,
        loaded: _LoadedStudy,
        sections: Sections,
        body: Vector,
        round_: int,
        past: Past | None,
    ) -> npt.NDArray[np.int64]:
        contributor = loaded.contributor
        if past is None or not (sections.train and isinstance(contributor, ExactContributor)):
            return contributor.contribution(sections, body, round_)
        try:
            return contributor.exact_sums(past)
        except WardroundError as error:
            self._governance.end(study, error.message)
            raise

    def _party(
        self, study: Study, message: messages.Prepare, sections: Sections, past: Past | None
    ) -> Party:
        roster = tuple(self._keys(study).items())
        if past is not None:
            context = context_of(study, roster, past, message.round, message.attempt)
            return self._party_type.begin(context, self.name, self._signer(study))
        context = Context(
            study=study.digest,
            kind=sections.kind,
            round=message.round,
            attempt=message.attempt,
            model=message.model,
            roster=roster,
            exact=sections.exact,
        )
        if study.aggregation.masked:
            return self._party_type.begin(context, self.name, self._signer(study))
        return OpenParty.begin(context, self.name)

    def _collect(self, message: messages.Collect, sender: Sender) -> Frame:
        study = self._admitted(message.study)
        loaded = self._loaded.get(study.digest)
        attempt = loaded.attempt if loaded is not None else None
        signer = self._signer(study).public_key
        for ready, key in zip(message.readys, message.announced, strict=True):
            if key.site != self.name or (attempt is not None and key == attempt.party.ready):
                continue
            if signed_by(key, signer):
                self._governance.witness(ready)
        if (
            loaded is None
            or attempt is None
            or (attempt.round, attempt.attempt) != (message.round, message.attempt)
        ):
            stored = self._answers.answer(message)
            if stored is None:
                raise WardroundError(Code.REFUSED_REPLAY, "This attempt is not the current one.")
            keys = self._keys(study, [key.site for key in message.announced])
            self._roster.now().check_participants(keys)  # one may have been revoked since
            answer = self._share(study, message, stored)
            frame = messages.frame(answer, messages.chunks(stored), to=sender)
            return self._send(answer, frame, again=True)
        contributor, sections = loaded.contributor, attempt.sections
        if sections.evaluate:
            present = [key.site for key in message.announced]
            least = study.aggregation.least_sites
            check_participants(study.evaluation.subgroups, present, least)

        def noise(present: int) -> npt.NDArray[np.int64]:
            """Asked for once in an attempt, of participants that are who they say they are."""
            participants = [key.site for key in message.announced]
            self._roster.now().check_participants(self._keys(study, participants))
            self._governance.take_part(study, message.round, participants)
            return contributor.noise(sections, present)

        share = attempt.party.share(
            attempt.words, message.announced, study.aggregation.least_sites, noise
        )
        loaded.state.share()
        words = packing_of(sections).packed(share)
        self._answers.keep(message, words)
        answer = self._share(study, message, words)
        return self._send(answer, messages.frame(answer, messages.chunks(words), to=sender))

    def _share(
        self, study: Study, message: messages.Collect, words: npt.NDArray[np.unsignedinteger]
    ) -> messages.Share:
        """The header of a share; signed where other sites will see it."""
        signature = ""
        if study.exact is not None:
            signature = sign_share(self.name, message.announced, words, self._signer(study))
        return messages.Share(
            study=study.digest, round=message.round, attempt=message.attempt, signature=signature
        )

    def _close(self, message: messages.Close, sender: Sender) -> Frame:
        loaded = self._loaded.pop(message.study, None)
        if loaded is not None and loaded.attempt is not None:
            loaded.attempt.party.discard()
        study = self._accepted.pop(message.study, None) or self._governance.known(message.study)
        if study is not None:
            self._answers.forget(study.digest)
            self._governance.close(study, message.outcome)
            if StudyState(message.outcome).over:
                state = loaded.state if loaded is not None else self._keep(study)
                state.close(study.document, finished=message.outcome == "finished")
        closed = messages.Standing(study=message.study, state="closed")
        return messages.frame(closed, to=sender)

    def _send(
        self, answer: messages.Ready | messages.Share, frame: Frame, *, again: bool = False
    ) -> Frame:
        self._governance.answered(answer, frame, again=again)
        return frame


@functools.cache
def _fits(
    task: type[Task], options: tuple[tuple[str, Scalar], ...], seed: int, model: Model
) -> bool:
    """Whether an installed task's model is the study's. Cached, since studies are proposed
    repeatedly and a large model takes long to build."""
    return FlatModel(task(**dict(options)), seed).fits(model)


def _sections(study: Study, message: messages.Prepare) -> Sections:
    """Returns what the attempt sums.

    Raises WardroundError(REFUSED_STUDY) for a round, attempt or evaluation not in the study.
    """
    last = study.optimisation.rounds
    if (
        message.round > last + 1
        or message.attempt > study.aggregation.attempts
        or (message.train and not study.trains(message.round))
        or (message.evaluate and not study.evaluates(message.round))
        or not (message.train or message.evaluate)
    ):
        raise WardroundError(
            Code.REFUSED_STUDY, "The study has no such round, attempt or evaluation."
        )
    return Sections(study, train=message.train, evaluate=message.evaluate)
