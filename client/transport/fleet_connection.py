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
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from client.config.site_config import SiteConfig
from client.transport.http_connection import CallInterrupted, HttpConnection, Response, tls
from client.transport.node_key import load_node_key, public_pem, successor_of
from client.transport.pace import Pace
from client.transport.proxy import Proxy
from client.transport.route import Route
from protocol import durable_files
from protocol.document import read_json
from protocol.errors import Code, WardroundError
from protocol.untrusted import parsing
from protocol.wire.flower_version import FLOWER_WIRE, require_flower
from protocol.wire.messages import Frame
from protocol.wire.progress import SLOWEST, WINDOW
from protocol.wire.sizes import BODY_LIMIT

require_flower()

from flwr.app import Message, Metadata
from flwr.common.constant import SUPERLINK_NODE_ID, TIMESTAMP_HEADER
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata

from protocol.wire.flower_encoding import (
    BUSY,
    DISK_FULL,
    HAVE,
    HELD,
    NOTICE,
    OBJECT_LIMIT,
    PART,
    REFUSED,
    STORED,
    WAIT,
    PackedMessage,
    WireBody,
    chunk_data,
    decoded,
    frame_of_objects,
    pack,
    read_inline_content,
    read_message,
    tree_ids,
)

T = TypeVar("T")

_HOLD = 20.0
"""Longest time in seconds for which the coordinator is asked to hold a call."""
_SIGNATURE_AGE = 30.0
"""Seconds for which a signed timestamp is used; Flower takes it for 300."""
_CLOCK_LIMIT = 280.0
"""Seconds of clock difference from which a refusal is put down to the clock."""
_JITTER = random.Random()
"""A stream of its own: what moves the global one looks like a model that draws at random."""
_BACKOFF, _GONE = (0.2, 30.0), 2.0
"""First and longest wait in seconds between attempts to connect; and the longest where nobody
answers, so that studies go on soon after a coordinator is started again."""
_VOID = frozenset({Code.NODE_KEY, Code.CLOCK})
"""Refusals after which the coordinator does not know the node any more."""
_POLL = (0.01, 3.0)
"""Shortest and longest wait in seconds between pulls at a server that does not hold calls."""
_ANSWER_LIMIT = 4 << 20
"""Bytes of an answer without an object: a header of 1 MiB, a small body, a tree."""
_MESSAGE_ID = re.compile(r"[0-9a-f]{64}")
_UNREADABLE = Frame(b"")
"""A question whose content cannot be read: the site refuses it as it does any other malformed
message, so that it is counted, and is not asked again."""


@dataclass(frozen=True)
class FleetConfig:
    """How a site reaches its coordinator.

    address: host:port. root_certificate: the CA certificate, PEM. node_key: see node_key.py.
    heartbeat: seconds between heartbeats (Flower allows 10 to 1800); after twice as long without
    one, a site counts as offline. lines: connections used at once for a large body, at most.
    max_body: bytes that the objects of one question may have. proxy: the way out of the site's
    network. private_ca: the certificate of a CA beside the coordinator's own, PEM (see site.yaml).
    """

    address: str
    root_certificate: Path
    node_key: Path
    heartbeat: float = 10.0
    connect_timeout: float = 20.0
    call_timeout: float = WINDOW
    lines: int = 3
    max_body: int = BODY_LIMIT
    proxy: Proxy | None = None
    private_ca: Path | None = None

    @staticmethod
    def of(site: SiteConfig) -> FleetConfig:
        """As site.yaml and the environment say. Raises WardroundError(CONFIGURATION)."""
        coordinator = site.coordinator
        proxy = Route.from_here(coordinator.address, site.proxy).proxy
        return FleetConfig(
            coordinator.address,
            coordinator.root_certificate,
            site.node_key,
            proxy=proxy,
            private_ca=coordinator.private_ca,
        )

    @property
    def route(self) -> Route:
        """Raises WardroundError(CONFIGURATION) for an address of another form."""
        return Route.to(self.address, self.proxy, self.connect_timeout)


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
class _Download:
    """The objects of the last large question, as far as they came. A break of the line costs no
    more than the parts that were under way, and a model that is sent once more (for another attempt
    at its round) is here already."""

    objects: dict[str, bytearray] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def keep(self, ids: Iterable[str]) -> None:
        """Frees all but these."""
        kept = self.objects.keys() & set(ids)
        self.objects = {object_id: self.objects[object_id] for object_id in kept}
        self.whole &= kept


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


class _CoordinatorBusy(WardroundError):
    """The coordinator asks for the same call again, later."""

    def __init__(self) -> None:
        super().__init__(Code.UNREACHABLE, "The coordinator takes in other sites' answers first.")


class FleetConnection:
    """A Fleet API client that reconnects by itself.

    Raises WardroundError(NODE_KEY) or (TLS) at once for unusable files.
    """

    def __init__(self, config: FleetConfig, news: Mapping[str, NewsListener] | None = None) -> None:
        """news: who hears of a record, by its header field (ROSTER, DECISIONS)."""
        self.config, self._news = config, news or {}
        self._use_key(config.node_key)
        self._successor = False
        self._context = tls(config.root_certificate, config.private_ca)
        version = RuntimeVersionMetadata.from_local_component(
            "SuperNode", package_version_value=FLOWER_WIRE
        )
        self._version = dict(version.as_metadata())
        self._signed: tuple[float, dict[str, str]] = (0.0, {})
        self._closing = threading.Event()
        self._activated = threading.Event()
        self._lines = self._new_lines()
        """Those of `receive`."""
        self._reply_lines: list[Sequence[HttpConnection]] = []
        self._unused: list[Sequence[HttpConnection]] = []
        """Of `_reply_lines`, those with which no answer is being sent."""
        self._lock = threading.Lock()
        self._beat_line = self._line()
        self._heartbeats: threading.Thread | None = None
        self._node_id: int | None = None
        self._error: WardroundError | None = None
        self._notice = ""
        self._back_off = _BackOff()
        self._poll_pause = _POLL[0]
        self._in_hand: set[str] = set()
        """Questions that are to be answered still."""
        self._have: deque[str] = deque(maxlen=16)
        """The latest questions that are not."""
        self._up, self._down = Pace(), Pace()
        self._download = _Download()
        self._moved = 0.0
        """When a part last came through, on the monotonic clock."""

    @property
    def connected(self) -> bool:
        """Whether the coordinator knows this site and answered its last call."""
        return self._node_id is not None and self._error is None

    @property
    def last_error(self) -> WardroundError | None:
        """Why the site is not connected; None when it is, or has not tried yet."""
        return self._error

    @property
    def coordinator_paused(self) -> bool:
        """Whether the coordinator said that its disk is full, with its last answer."""
        return self._notice == DISK_FULL

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
        request = fleet_pb2.ActivateNodeRequest(
            public_key=self._public, heartbeat_interval=self.config.heartbeat
        )
        try:
            response, _ = self._call(
                self._lines[0], "activate-node", request, fleet_pb2.ActivateNodeResponse
            )
        except WardroundError as error:
            self._failed(error)
            raise
        self._node_id = response.node_id
        self._keep_key()
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
        if self._node_id is not None:
            farewell = self._line()
            request = fleet_pb2.DeactivateNodeRequest(node_id=self._node_id)
            reply_type = fleet_pb2.DeactivateNodeResponse
            try:
                self._call(farewell, "deactivate-node", request, reply_type, limit=3)
            except (WardroundError, CallInterrupted):
                self._node_id = None  # the coordinator will miss the heartbeat
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
            except _CoordinatorBusy:
                back_off = _BackOff()  # others are sending large answers; ours is sent later
                if incoming.seconds_left <= 0:
                    raise
                time.sleep(_POLL[0])  # it is the coordinator that holds the call
            except WardroundError as error:
                left = incoming.seconds_left
                if self._moved > began:
                    left = max(left, self._moved + WINDOW - time.monotonic())
                gone = error.code in _VOID or self._node_id is None  # `receive` meets it too
                if left <= 0 or gone or self._closing.is_set():
                    raise
                back_off.failed(error)
                self._closing.wait(min(left, back_off.left))

    def _activate_by(self, deadline: float) -> bool:
        """Activates the node if need be, once the back-off has passed.

        Returns False where that is after `deadline`.
        """
        if (pause := self._back_off.left) > 0:
            self._closing.wait(min(pause, max(0.0, deadline - time.monotonic())))
            if self._back_off.left > 0:
                return False
        if self._node_id is None:
            self.connect()
        return True

    def _pull(self, wait: float) -> tuple[IncomingMessage | None, bool]:
        """Returns a question, if there is one, and whether the coordinator held the call."""
        request = fleet_pb2.PullMessagesRequest(node=self._node())
        with self._lock:
            seen = (*self._in_hand, *self._have)
        hold, have = min(wait, _HOLD), {HAVE: ",".join(seen)}
        for record, listener in self._news.items():
            if (known := listener.known()) is not None:
                have[record] = str(known)
        reply_type, asked = fleet_pb2.PullMessagesResponse, time.monotonic()
        response, headers = self._call(
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
        self._download.keep(ids)
        objects = self._fetch(run_id, ids)
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
            node=self._node(), run_id=run_id, message_object_id=message_id
        )
        reply_type = message_pb2.ConfirmMessageReceivedResponse
        self._call(self._lines[0], "confirm-message-received", request, reply_type)

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
        node = self._node()
        if node.node_id != parcel.message.metadata.src_node_id:
            return False  # it was started again since it asked: it knows this site by another id
        request = fleet_pb2.PushMessagesRequest(
            node=node,
            messages_list=[message_to_proto(parcel.message)],
            message_object_trees=[parcel.tree],
            clientapp_runtime_list=[0.0],
        )
        reply_type = fleet_pb2.PushMessagesResponse
        response, headers = self._call(lines[0], "push-messages", request, reply_type, hold=_HOLD)
        if headers.get(STORED) == "0":
            return False

        wanted = set(response.objects_to_push)
        if not wanted <= parcel.objects.keys() | parcel.chunks.keys():
            raise WardroundError(Code.MESSAGE, "The coordinator wants objects that nobody has.")
        held = _held(headers[HELD]) if HELD in headers else None

        def send(line: HttpConnection, object_id: str) -> bool:
            content = parcel.objects.get(object_id) or parcel.chunks[object_id].content()
            push = message_pb2.PushObjectRequest(
                node=self._node(),
                run_id=parcel.message.metadata.run_id,
                object_id=object_id,
                session_id=response.session_id,
            )
            if held is None:
                push.object_content = content
                result, _ = self._transfer(line, self._up, push, len(content))
                return bool(result.stored)
            return self._send_parts(line, push, content, held.get(object_id, 0))

        return all(self._on_lines(lines, self._up, send, sorted(wanted)))

    def _send_parts(self, line: HttpConnection, push: Any, content: bytes, held: int) -> bool:
        """Sends an object from its byte `held` on. False where the coordinator no longer wants it:
        it holds no more than before."""
        while True:
            push.object_content = content[held : held + self._up.part]
            part = f"{held}/{len(content)}"
            result, headers = self._transfer(line, self._up, push, len(push.object_content), part)
            if result.stored:
                return True
            before, held = held, _number(headers.get(PART, ""))
            if held <= before:
                return False

    def _fetch(self, run_id: int, object_ids: Iterable[str]) -> Mapping[str, bytearray]:
        """The objects of the question that is being downloaded, by their ids."""
        download = self._download

        def take(line: HttpConnection, object_id: str) -> None:
            content = download.objects.setdefault(object_id, bytearray())
            request = message_pb2.PullObjectRequest(
                node=self._node(), run_id=run_id, object_id=object_id
            )
            pause = _POLL[0]
            while object_id not in download.whole:
                wanted = self._down.part
                answer, headers = self._transfer(
                    line, self._down, request, wanted, f"{len(content)}/{wanted}"
                )
                if not answer.object_found or self._closing.is_set():
                    raise WardroundError(
                        Code.UNREACHABLE, "A question was withdrawn while it was fetched."
                    )
                if not answer.object_available:
                    self._closing.wait(pause)  # a stock server shows a message before its objects
                    pause = min(2 * pause, 0.2)
                    continue
                if PART not in headers:
                    content.clear()
                content += answer.object_content
                size = _number(headers.get(PART, str(len(content))))
                if sum(map(len, download.objects.values())) > self.config.max_body:
                    raise WardroundError(Code.MESSAGE, "A question is too long.")
                if len(content) >= size:
                    download.whole.add(object_id)
                elif not answer.object_content:
                    raise WardroundError(Code.MESSAGE, "An object does not go on.")

        ids = dict.fromkeys(object_ids)
        self._on_lines(self._lines, self._down, take, ids)
        return download.objects

    def _transfer(
        self, line: HttpConnection, pace: Pace, request: Any, size: int, part: str = ""
    ) -> tuple[Any, Mapping[str, str]]:
        """Moves an object, or a part of it, of `size` bytes, and measures how fast that goes."""
        up = pace is self._up
        route = "push-object" if up else "pull-object"
        kind: Any = message_pb2.PushObjectResponse if up else message_pb2.PullObjectResponse
        limit = pace.limit(size) if part else self.config.call_timeout + size / SLOWEST
        began = time.monotonic()
        try:
            result, headers = self._call(
                line, route, request, kind, {PART: part} if part else {}, limit=limit
            )
        except WardroundError:
            if time.monotonic() - began >= limit:
                pace.was_late()
            raise
        self._moved = time.monotonic()
        pace.took(size if up else len(result.object_content), self._moved - began)
        return result, headers

    def _on_lines(
        self,
        lines: Sequence[HttpConnection],
        pace: Pace,
        work: Callable[[HttpConnection, str], T],
        items: Iterable[str],
    ) -> list[T]:
        """Returns `work(line, item)` for each item. The first one goes alone, which tells how many
        lines the rest should share."""
        items = list(items)
        if not items:
            return []
        first, *rest = items
        results = [work(lines[0], first)]
        idle = deque(lines[: pace.lines(len(lines))])
        if len(rest) <= 1 or len(idle) == 1:
            return results + [work(lines[0], item) for item in rest]

        def run(item: str) -> T:
            line = idle.pop()
            try:
                return work(line, item)
            finally:
                idle.append(line)

        # After a fault `map` drops what has not begun, and leaving `with` awaits what has.
        with ThreadPoolExecutor(len(idle), thread_name_prefix="fleet") as threads:
            return results + list(threads.map(run, rest))

    def _call(
        self,
        line: HttpConnection,
        route: str,
        request: Any,
        response_type: type[T],
        extra: Mapping[str, str] | None = None,
        *,
        hold: float | None = None,
        limit: float | None = None,
    ) -> tuple[T, Mapping[str, str]]:
        """POSTs a request of the Fleet API; returns the response and its HTTP headers.

        hold: seconds for which the coordinator may hold the call. limit: seconds in which its
        answer must begin, beyond `hold`; the configuration's call_timeout where it is not given.
        """
        headers = {"content-type": PROTOBUF_MEDIA_TYPE, **self._version, **self._signature()}
        headers |= extra or {}
        if hold is not None:
            headers[WAIT] = f"{hold:.3f}"
        timeout = (hold or 0.0) + (self.config.call_timeout if limit is None else limit)
        longest = OBJECT_LIMIT + 4096 if route == "pull-object" else _ANSWER_LIMIT
        answer = line.call(
            f"/v1/fleet/{route}", request.SerializeToString(), headers, timeout, longest
        )
        if answer.headers.get(REFUSED) == BUSY:
            raise _CoordinatorBusy
        if answer.status != 200:
            raise _refusal(answer)
        self._notice = answer.headers.get(NOTICE, "")
        return decoded(response_type, answer.body), answer.headers

    def _signature(self) -> dict[str, str]:
        made, headers = self._signed
        if time.monotonic() - made > _SIGNATURE_AGE or not headers:
            timestamp = datetime.now(UTC).isoformat()
            signature = sign_message(self._key, timestamp.encode("ascii"))
            headers = {
                FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self._public).decode("ascii"),
                TIMESTAMP_HEADER: timestamp,
                FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode("ascii"),
            }
            self._signed = (time.monotonic(), headers)
        return headers

    def _node(self) -> Node:
        if self._node_id is None:
            raise WardroundError(Code.UNREACHABLE, "This site is not connected.")
        return Node(node_id=self._node_id)

    def _succeeded(self) -> None:
        self._error, self._back_off = None, _BackOff()

    def _failed(self, error: WardroundError) -> None:
        if error.code in _VOID:
            # The coordinator was restarted or has removed the site: the node id is void. It is
            # there again, so that the waits begin anew.
            if self._node_id is not None:
                self._back_off = _BackOff()
            self._node_id = None
            self._activated.clear()
            self._signed = (0.0, {})
        if error.code is Code.NODE_KEY:
            self._try_other_key()
        self._error = error
        self._back_off.failed(error)

    def _try_other_key(self) -> None:
        """Signs in with the key that takes the place of this one, or with this one again."""
        old, new = self.config.node_key, successor_of(self.config.node_key)
        self._successor = new.exists() and not self._successor
        self._use_key(new if self._successor else old)

    def _keep_key(self) -> None:
        """Makes a successor that the coordinator took this site's node key."""
        if self._successor:
            durable_files.move(successor_of(self.config.node_key), self.config.node_key)
            self._successor = False

    def _use_key(self, path: Path) -> None:
        self._key = load_node_key(path)
        self._public = public_pem(self._key)

    def _send_heartbeats(self) -> None:
        """Sends heartbeats until `close`. Each call is held, to notice a lost site at once."""
        while not self._closing.is_set():
            self._activated.wait()
            pause = 0.0
            try:
                request = heartbeat_pb2.SendNodeHeartbeatRequest(
                    node=self._node(), heartbeat_interval=self.config.heartbeat
                )
                hold = min(_HOLD, 0.8 * self.config.heartbeat)
                reply_type = heartbeat_pb2.SendNodeHeartbeatResponse
                asked = time.monotonic()
                _, headers = self._call(
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
        return [self._line() for _ in range(max(1, self.config.lines))]

    def _line(self) -> HttpConnection:
        return HttpConnection(self.config.route, self._context)


def _refusal(answer: Response) -> WardroundError:
    """The error for an answer of the coordinator other than 200."""
    reason = answer.headers.get(REFUSED, "")
    release = answer.headers.get("flwr-package-version", "")
    if answer.status == 401:
        skew = _clock_difference(answer.headers.get("date"))
        if reason == "clock" or (not reason and skew is not None and skew > _CLOCK_LIMIT):
            off = "" if skew is None else f" by {skew:.0f} s"
            return WardroundError(
                Code.CLOCK,
                f"This machine's clock differs from the coordinator's{off}.",
                remedy="Set the clock (NTP); more than five minutes are refused.",
            )
        return WardroundError(
            Code.NODE_KEY,
            "The coordinator does not know this site's node key.",
            remedy="Have the public key that `wardround-site init` printed registered there.",
        )
    code = _flower_code(answer.body)
    if reason == "version" or code == 1001 or (release and release != FLOWER_WIRE):
        return WardroundError(
            Code.FLWR_VERSION,
            f"The coordinator runs Flower {release or 'of another release'}, this site "
            f"{FLOWER_WIRE}.",
            remedy="Install the same wardround release on both sides.",
        )
    if reason == "active" or code == 2004:
        return WardroundError(
            Code.UNREACHABLE,
            "The coordinator still counts this site as connected.",
            remedy="It is tried again. If it lasts, another process uses the same node key.",
        )
    return WardroundError(
        Code.UNREACHABLE,
        f"The coordinator answered with HTTP status {answer.status}.",
        remedy="It is tried again; see the coordinator's event log.",
    )


def _held(text: str) -> dict[str, int]:
    """What a coordinator holds of objects, by id. Raises WardroundError(MESSAGE)."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    return {object_id: _number(size) for object_id, _, size in pairs}


def _number(text: str) -> int:
    """A number of bytes in a header field. Raises WardroundError(MESSAGE)."""
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise WardroundError(Code.MESSAGE, "A number of bytes is malformed.")
    return int(text)


def _was_held(headers: Mapping[str, str], asked: float, hold: float) -> bool:
    """Whether a call of `asked` on the monotonic clock was held, and not just said to be: a site
    calls again at once after one that was."""
    return WAIT in headers and time.monotonic() - asked > hold / 2


def _clock_difference(date: str | None) -> float | None:
    """Seconds between this clock and the Date header field of an answer."""
    try:
        with parsing("A date is malformed."):
            return abs(time.time() - parsedate_to_datetime(date or "").timestamp())
    except WardroundError:
        return None


def _flower_code(body: bytes) -> int | None:
    """The error number of Flower's API in an answer's body, if there is one."""
    try:
        with parsing("An error of Flower is malformed."):
            value = read_json(body)
            value = read_json(value.encode()) if isinstance(value, str) else value
            return int(value["code"])
    except WardroundError:
        return None
