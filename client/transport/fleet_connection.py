"""The site's client of Flower's Fleet API. It never fetches a FAB, so it runs no foreign code.

    with FleetConnection(FleetConfig("coordinator:9092", ca_crt, node_key)) as fleet:
        while not stopping:
            if (incoming := fleet.receive(wait=30)) is not None:
                fleet.reply(incoming, site.answer(incoming.frame))

    inactive ── activate-node ──▶ active ── pull-messages ──▶ a question ── push-messages ──▶ active
       ▲                            │
       └─ NODE_KEY or CLOCK refused ┴─ any other fault: back-off, then the same call again

A wardround coordinator holds a pull until there is a question; a stock Flower SuperLink is polled,
often when busy and rarely when idle. `receive` belongs to one thread; `reply` may be called from
several at once, each with connections of its own; a thread sends heartbeats; and `close` may be
called from any thread or signal handler.
"""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import random
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, Self

from client.transport.fleet_calls import CoordinatorBusy, FleetCalls
from client.transport.fleet_config import FleetConfig
from client.transport.http_connection import CallInterrupted, HttpConnection
from client.transport.object_transfer import ObjectTransfer
from protocol.errors import Code, WardroundError
from protocol.wire.flower_version import require_flower
from protocol.wire.messages import Frame
from protocol.wire.progress import WINDOW

require_flower()

from flwr.app import Message, Metadata
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2
from flwr.proto.message_pb2 import ObjectTree

from protocol.wire.flower_encoding import (
    HAVE,
    STORED,
    WAIT,
    PackedMessage,
    WireBody,
    chunk_data,
    frame_of_objects,
    pack,
    read_inline_content,
    read_message,
    tree_ids,
)

_HOLD = 20.0
"""Longest time in seconds for which the coordinator is asked to hold a call."""
_JITTER = random.Random()
"""A stream of its own: what moves the global one looks like a model that draws at random."""
_BACKOFF, _GONE = (0.2, 30.0), 2.0
"""First and longest wait in seconds between attempts to connect; and the longest where nobody
answers, so that studies go on soon after a coordinator is started again."""
_VOID = frozenset({Code.NODE_KEY, Code.CLOCK})
"""Refusals after which the coordinator does not know the node any more."""
_POLL = (0.01, 3.0)
"""Shortest and longest wait in seconds between pulls at a server that does not hold calls."""
_MESSAGE_ID = re.compile(r"[0-9a-f]{64}")
_UNREADABLE = Frame(b"")
"""A question whose content cannot be read: the site refuses it as it does any other malformed
message, so that it is counted, and is not asked again."""


@dataclass(frozen=True)
class IncomingMessage:
    """A question from the coordinator, to be handed to `reply` with its answer."""

    frame: Frame
    message_id: str
    metadata: Metadata
    received: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float:
        """How long the coordinator still waits for an answer, by this machine's monotonic clock."""
        return self.metadata.ttl - (time.monotonic() - self.received)


class NewsListener(Protocol):
    """Who hears of one of the coordinator's signed records: its roster, its decisions."""

    def known(self) -> int | None:
        """How many entries of it are known here; None to hear nothing."""
        ...

    def heard(self, value: str) -> None:
        """Takes in what `to_field` of its news made. Never raises."""
        ...


@dataclass
class _BackOff:
    """When a call that failed is made again, on the monotonic clock."""

    failures: int = 0
    retry_at: float = 0.0

    @property
    def left(self) -> float:
        """Seconds to wait."""
        return max(0.0, self.retry_at - time.monotonic())

    def failed(self, error: WardroundError) -> None:
        self.failures += 1
        longest = _GONE if error.code is Code.UNREACHABLE else _BACKOFF[1]
        pause = min(_BACKOFF[0] * 2 ** min(self.failures - 1, 20), longest)
        self.retry_at = time.monotonic() + pause * _JITTER.uniform(0.5, 1.0)


class FleetConnection:
    """A Fleet API client that reconnects by itself.

    Raises WardroundError(NODE_KEY) or (TLS) at once for unusable files.
    """

    def __init__(self, config: FleetConfig, news: Mapping[str, NewsListener] | None = None) -> None:
        """news: who hears of a record, by its header field (ROSTER, DECISIONS)."""
        self.config, self._news = config, news or {}
        self._calls = FleetCalls(config)
        self._closing = threading.Event()
        self._activated = threading.Event()
        self._objects = ObjectTransfer(self._calls, self._closing)
        self._lines = self._new_lines()
        """Those of `receive`."""
        self._reply_lines: list[Sequence[HttpConnection]] = []
        self._unused: list[Sequence[HttpConnection]] = []
        """Of `_reply_lines`, those with which no answer is being sent."""
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        """Held by whoever connects."""
        self._beat_line = self._calls.line()
        self._heartbeats: threading.Thread | None = None
        self._error: WardroundError | None = None
        self._back_off = _BackOff()
        self._poll_pause = _POLL[0]
        self._in_hand: set[str] = set()
        """Questions that are to be answered still."""
        self._have: deque[str] = deque(maxlen=16)
        """The latest questions that are not."""

    @property
    def connected(self) -> bool:
        """Whether the coordinator knows this site and answered its last call."""
        return self._calls.node_id is not None and self._error is None

    @property
    def last_error(self) -> WardroundError | None:
        """Why the site is not connected; None when it is, or has not tried yet."""
        return self._error

    @property
    def coordinator_paused(self) -> bool:
        """Whether the coordinator said that its disk is full, with its last answer."""
        return self._calls.coordinator_paused

    @property
    def certificate_ends(self) -> float | None:
        """When the coordinator's certificate ends, in seconds since 1970; None before it was seen.
        An expired one is refused by TLS: the last that was good counts."""
        return max((line.certificate_ends for line in self._all_lines), default=0.0) or None

    def connect(self) -> None:
        """Activates the node now. Raises WardroundError:

        UNREACHABLE (no answer, or the coordinator still counts an earlier process as connected),
        TLS (wrong CA or not TLS), NODE_KEY (not on the allow-list, or not the key's signature),
        CLOCK (this machine's clock is off by minutes), FLWR_VERSION (another release there).
        """
        with self._connecting:
            self._connect(self._lines[0])

    def _connect(self, line: HttpConnection) -> None:
        request = fleet_pb2.ActivateNodeRequest(
            public_key=self._calls.public_key, heartbeat_interval=self.config.heartbeat
        )
        try:
            response, _ = self._calls.call(
                line, "activate-node", request, fleet_pb2.ActivateNodeResponse
            )
        except WardroundError as error:
            self._failed(error)
            raise
        self._calls.node_id = response.node_id
        self._calls.keep_key()
        self._succeeded()
        self._activated.set()
        if self._heartbeats is None:
            self._heartbeats = threading.Thread(
                target=self._send_heartbeats, name="heartbeat", daemon=True
            )
            self._heartbeats.start()

    def close(self) -> None:
        """Ends `receive` at once and for good; from any thread or signal handler.

        An answer has been paid for, so that `reply` still tries once to send it.
        """
        self._closing.set()
        self._activated.set()
        for line in (*self._lines, self._beat_line):
            line.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for line in self._all_lines:
            line.interrupt()
        if self._heartbeats is not None:
            self._heartbeats.join(timeout=5)
        if self._calls.node_id is not None:
            farewell = self._calls.line()
            request = fleet_pb2.DeactivateNodeRequest(node_id=self._calls.node_id)
            reply_type = fleet_pb2.DeactivateNodeResponse
            try:
                self._calls.call(farewell, "deactivate-node", request, reply_type, limit=3)
            except (WardroundError, CallInterrupted):
                self._calls.node_id = None  # the coordinator will miss the heartbeat
            farewell.close()
        for line in self._all_lines:
            line.close()

    def receive(self, wait: float) -> IncomingMessage | None:
        """Returns the next question, or None where none came within `wait` seconds or before
        `close`. Faults of the network or the coordinator are not raised: see `last_error`."""
        deadline = time.monotonic() + wait
        while not self._closing.is_set():
            try:
                if not self._activate_by(deadline):
                    return None
                incoming, held = self._pull(max(0.0, deadline - time.monotonic()))
            except CallInterrupted:
                return None
            except WardroundError as error:
                self._failed(error)
                continue
            self._succeeded()
            if incoming is not None:
                self._poll_pause = _POLL[0]
                return incoming
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if not held:
                self._closing.wait(min(left, self._poll_pause))
                self._poll_pause = min(self._poll_pause * 1.2, _POLL[1])
        return None

    def reply(self, incoming: IncomingMessage, frame: Frame) -> bool:
        """Sends an answer, reconnecting as often as the question's time allows, and beyond it for
        as long as the answer's parts get through.

        Returns True where the coordinator took it, False where it no longer wants it. Raises
        WardroundError with the last fault's code where the time ran out.
        """
        try:
            with self._lines_for_a_reply() as lines:
                return self._reply(lines, incoming, self._parcel(incoming, frame))
        finally:
            self.drop(incoming)

    def drop(self, incoming: IncomingMessage) -> None:
        """Notes that the question is not answered any more, or was."""
        with self._lock:
            self._in_hand.discard(incoming.message_id)
            self._have.append(incoming.message_id)

    def _reply(
        self, lines: Sequence[HttpConnection], incoming: IncomingMessage, parcel: PackedMessage
    ) -> bool:
        began, back_off = time.monotonic(), _BackOff()
        while True:
            try:
                return self._push(lines, parcel)
            except CallInterrupted:
                raise WardroundError(
                    Code.UNREACHABLE, "The connection was closed before the answer was sent."
                ) from None
            except CoordinatorBusy:
                back_off = _BackOff()  # others are sending large answers; ours is sent later
                if incoming.seconds_left <= 0:
                    raise
                time.sleep(_POLL[0])  # it is the coordinator that holds the call
            except WardroundError as error:
                left = incoming.seconds_left
                if self._objects.moved > began:
                    left = max(left, self._objects.moved + WINDOW - time.monotonic())
                if left <= 0 or self._closing.is_set():
                    raise
                back_off.failed(error)
                self._closing.wait(min(left, back_off.left))
                self._connect_again(lines[0], parcel, error)

    def _activate_by(self, deadline: float) -> bool:
        """Activates the node if need be, once the back-off has passed.

        Returns False where that is after `deadline`.
        """
        if (pause := self._back_off.left) > 0:
            self._closing.wait(min(pause, max(0.0, deadline - time.monotonic())))
            if self._back_off.left > 0:
                return False
        with self._connecting:
            if self._calls.node_id is None:
                self._connect(self._lines[0])
        return True

    def _connect_again(
        self, line: HttpConnection, parcel: PackedMessage, error: WardroundError
    ) -> None:
        """After a fault on the way of an answer: connects, where that is what is missing and the
        back-off has passed. `receive` may be waiting for room, which the answer will make."""
        with self._connecting, suppress(WardroundError, CallInterrupted):
            known = self._calls.node_id == parcel.message.metadata.src_node_id
            if known and error.code in _VOID:
                self._failed(error)
            if self._calls.node_id is None and self._back_off.left <= 0:
                self._connect(line)

    def _pull(self, wait: float) -> tuple[IncomingMessage | None, bool]:
        """Returns a question, if there is one, and whether the coordinator held the call."""
        request = fleet_pb2.PullMessagesRequest(node=self._calls.node())
        with self._lock:
            seen = (*self._in_hand, *self._have)
        hold, have = min(wait, _HOLD), {HAVE: ",".join(seen)}
        for record, listener in self._news.items():
            if (known := listener.known()) is not None:
                have[record] = str(known)
        reply_type, asked = fleet_pb2.PullMessagesResponse, time.monotonic()
        response, headers = self._calls.call(
            self._lines[0], "pull-messages", request, reply_type, have, hold=hold
        )
        held = _was_held(headers, asked, hold)
        for record, listener in self._news.items():
            if record in headers:
                listener.heard(headers[record])
        if not response.messages_list:
            return None, held
        if not response.message_object_trees:
            raise WardroundError(Code.MESSAGE, "A question comes without its tree of objects.")
        tree = response.message_object_trees[0]
        if not _MESSAGE_ID.fullmatch(tree.object_id):
            raise WardroundError(Code.MESSAGE, "A question comes without an identity.")
        if tree.object_id in seen:
            return None, held
        try:
            message = read_message(response.messages_list[0])
        except WardroundError:
            self._have.append(tree.object_id)  # it would stand before all later questions
            raise
        try:
            frame = self._frame(message, tree)
        except WardroundError as error:
            if error.code is not Code.MESSAGE:
                raise
            frame = _UNREADABLE
        with self._lock:
            self._in_hand.add(tree.object_id)
        return IncomingMessage(frame, tree.object_id, message.metadata), held

    def _frame(self, message: Message, tree: ObjectTree) -> Frame:
        """What a question carries, its objects fetched. Raises WardroundError: MESSAGE where it is
        malformed, and what `_call` raises."""
        run_id = message.metadata.run_id
        inline = read_inline_content(message.content) if message.has_content() else None
        if inline is not None and not inline.chunk_ids:
            return Frame(inline.header, (inline.body,) if inline.body else ())
        ids = tree_ids(tree) if inline is None else inline.chunk_ids
        objects = self._objects.fetch(self._lines, run_id, ids)
        if inline is None:
            contents = {key: bytes(content) for key, content in objects.items()}
            frame = frame_of_objects(tree.object_id, contents)
        else:
            frame = Frame(inline.header, [chunk_data(objects[key]) for key in ids])
        self._confirm(run_id, tree.object_id)
        return frame

    def _confirm(self, run_id: int, message_id: str) -> None:
        """Lets the coordinator discard the objects of a message."""
        request = message_pb2.ConfirmMessageReceivedRequest(
            node=self._calls.node(), run_id=run_id, message_object_id=message_id
        )
        reply_type = message_pb2.ConfirmMessageReceivedResponse
        self._calls.call(self._lines[0], "confirm-message-received", request, reply_type)

    def _parcel(self, incoming: IncomingMessage, frame: Frame) -> PackedMessage:
        # Times are counted from the question's own, so that the two clocks need not agree.
        elapsed, question = time.monotonic() - incoming.received, incoming.metadata
        metadata = Metadata(
            run_id=question.run_id,
            message_id="",
            src_node_id=question.dst_node_id,
            dst_node_id=SUPERLINK_NODE_ID,
            reply_to_message_id=incoming.message_id,
            group_id=question.group_id,
            created_at=question.created_at + elapsed,
            ttl=max(1.0, question.ttl - elapsed),
            message_type=question.message_type,
        )
        return pack(metadata, frame.header, WireBody.cut(frame.body))

    def _push(self, lines: Sequence[HttpConnection], parcel: PackedMessage) -> bool:
        node = self._calls.node()
        if node.node_id != parcel.message.metadata.src_node_id:
            return False  # it was started again since it asked: it knows this site by another id
        request = fleet_pb2.PushMessagesRequest(
            node=node,
            messages_list=[message_to_proto(parcel.message)],
            message_object_trees=[parcel.tree],
            clientapp_runtime_list=[0.0],
        )
        reply_type = fleet_pb2.PushMessagesResponse
        response, headers = self._calls.call(
            lines[0], "push-messages", request, reply_type, hold=_HOLD
        )
        if headers.get(STORED) == "0":
            return False
        return self._objects.push(lines, parcel, response, headers)

    def _succeeded(self) -> None:
        self._error, self._back_off = None, _BackOff()

    def _failed(self, error: WardroundError) -> None:
        if error.code in _VOID:
            # The coordinator was restarted or has removed the site: the node id is void. It is
            # there again, so that the waits begin anew.
            if self._calls.node_id is not None:
                self._back_off = _BackOff()
            self._calls.forget(error)
            self._activated.clear()
        self._error = error
        self._back_off.failed(error)

    def _send_heartbeats(self) -> None:
        """Sends heartbeats until `close`. Each call is held, to notice a lost site at once."""
        while not self._closing.is_set():
            self._activated.wait()
            pause = 0.0
            try:
                request = heartbeat_pb2.SendNodeHeartbeatRequest(
                    node=self._calls.node(), heartbeat_interval=self.config.heartbeat
                )
                hold = min(_HOLD, 0.8 * self.config.heartbeat)
                reply_type = heartbeat_pb2.SendNodeHeartbeatResponse
                asked = time.monotonic()
                _, headers = self._calls.call(
                    self._beat_line, "send-node-heartbeat", request, reply_type, hold=hold, limit=20
                )
                if not _was_held(headers, asked, hold):
                    pause = 0.7 * self.config.heartbeat
            except CallInterrupted:
                return
            except WardroundError:
                pause = 1.0  # `receive` meets the same fault, and handles it
            self._closing.wait(pause)

    @property
    def _all_lines(self) -> tuple[HttpConnection, ...]:
        with self._lock:
            return (*self._lines, *chain(*self._reply_lines), self._beat_line)

    @contextmanager
    def _lines_for_a_reply(self) -> Iterator[Sequence[HttpConnection]]:
        with self._lock:
            if not self._unused:
                self._reply_lines.append(self._new_lines())
                self._unused.append(self._reply_lines[-1])
            lines = self._unused.pop()
        try:
            yield lines
        finally:
            with self._lock:
                self._unused.append(lines)

    def _new_lines(self) -> Sequence[HttpConnection]:
        """For one message; a connection is made when it is used."""
        return [self._calls.line() for _ in range(max(1, self.config.lines))]


def _was_held(headers: Mapping[str, str], asked: float, hold: float) -> bool:
    """Whether a call of `asked` on the monotonic clock was held, and not just said to be: a site
    calls again at once after one that was."""
    return WAIT in headers and time.monotonic() - asked > hold / 2
