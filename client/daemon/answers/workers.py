"""Which of the coordinator's questions a daemon answers at the same time.

    of one study        one at a time, in the order in which they came
    that compute        (Prepare) of at most `most` studies at once
    all others          of at most `most` studies at once, whatever is being computed

So a study that trains for an hour holds up no other, unless `most` studies do.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from client.daemon.answers.precedence import Precedence
from client.transport.fleet_connection import IncomingMessage
from protocol.errors import WardroundError
from protocol.wire import messages

_ROOM = 24
"""Questions in hand, waiting ones too, beyond which no other is fetched."""
_TURN = 0.0005
"""Seconds after which a thread that computes lets another have the interpreter, a tenth of Python's
own: an answer needs it tens of times, and would wait that long each time beside a study that trains
(`bench/two_studies.py`)."""


@dataclass(frozen=True, eq=False)
class _Task:
    """A question, and whose turn it needs. study: its digest; None where the question says none."""

    question: IncomingMessage
    study: str | None
    computes: bool

    @staticmethod
    def of(question: IncomingMessage) -> _Task:
        try:
            message = messages.parse(question.frame)
        except WardroundError:  # to be refused
            return _Task(question, None, False)
        return _Task(question, messages.study_of(message), isinstance(message, messages.Prepare))


@dataclass
class _InHand:
    waiting: list[_Task] = field(default_factory=list)
    """Oldest first."""
    answered: list[_Task] = field(default_factory=list)
    """Those that have been given to the threads."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self.answered)

    def startable(self, most: int) -> _Task | None:
        """The oldest question about a study of which no earlier one is in hand; one that computes
        only while fewer than `most` do."""
        earlier = {task.study for task in self.answered}
        full = sum(task.computes for task in self.answered) >= most
        for task in self.waiting:
            if task.study not in earlier and not (task.computes and full):
                return task
            earlier.add(task.study)
        return None


class Workers:
    """The threads that answer questions; they run inside `with`, whose end waits for the answers
    that are being made."""

    def __init__(
        self,
        answer: Callable[[IncomingMessage], None],
        most: int,
        rest: Callable[[], None] = lambda: None,
        precedence: Precedence | None = None,
    ) -> None:
        """answer: makes and sends one. most: studies at once. rest: called after each
        answer; nothing of it is in hand then. precedence: among them, for those that compute."""
        self._answer, self._rest, self._most = answer, rest, most
        self._precedence = precedence or Precedence()
        self._in_hand: _InHand = _InHand()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._quick = ThreadPoolExecutor(most, "answers-quick")
        self._computing: set[threading.Thread] = set()
        """A thread an answer, since one that took long has a lower priority for good."""

    def __enter__(self) -> Self:
        self._turn_before = sys.getswitchinterval()
        sys.setswitchinterval(_TURN)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._in_hand.waiting.clear()
        for thread in tuple(self._computing):
            thread.join()
        self._quick.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._turn_before)

    @property
    def busy(self) -> bool:
        """Whether a question is in hand."""
        return len(self._in_hand) > 0

    def has_room(self, wait: float) -> bool:
        """Whether another question may be taken, within `wait` seconds. Raises what an answer has
        raised."""
        with self._changed:
            room = self._changed.wait_for(lambda: self._failure or len(self._in_hand) < _ROOM, wait)
            if self._failure is not None:
                raise self._failure
            return bool(room)

    def take(self, question: IncomingMessage) -> None:
        """Has a question answered in its turn."""
        with self._changed:
            self._in_hand.waiting.append(_Task.of(question))
            self._start()

    def _start(self) -> None:
        while (task := self._in_hand.startable(self._most)) is not None:
            self._in_hand.waiting.remove(task)
            self._in_hand.answered.append(task)
            if task.computes:
                thread = threading.Thread(
                    target=self._compute, args=(task,), name="answers-compute"
                )
                self._computing.add(thread)
                thread.start()
            else:
                self._quick.submit(self._run, task)

    def _compute(self, task: _Task) -> None:
        self._run(task)
        self._computing.discard(threading.current_thread())

    def _run(self, task: _Task) -> None:
        failure: BaseException | None = None
        try:
            with self._precedence.answering():
                self._answer(task.question)
        except BaseException as error:
            failure = error  # for the thread that takes in questions
        with self._changed:
            self._in_hand.answered.remove(task)
            self._failure = self._failure or failure
            self._start()
            self._changed.notify_all()
        self._rest()
