"""Requests to sites that are not yet answered, in a real Flower LinkState.

A request to a site is an `Exchange`: the message that waits for the node in the LinkState, the
chunks of its reply as they come in, and the mailbox of the `ask` that posted it. Flower's own
handlers read and write the LinkState. Two things are overridden: a reply's parts go to the exchange
instead of the object store, so that the caller folds and frees them; and a message that was lost on
the way can be delivered again. Nothing is on disk: a restarted coordinator starts empty.
"""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast, overload

from protocol.errors import WardroundError
from protocol.wire.flower_version import require_flower
from protocol.wire.messages import Buffer, Frame
from protocol.wire.progress import Patience

require_flower()

from flwr.app import Message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, NodeStatus, TaskType
from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.superlink.federation import NoOpFederationManager

from protocol.wire.flower_encoding import (
    OBJECT_LIMIT,
    WIRE_CHUNK,
    InlineContent,
    PackedMessage,
    chunk_data,
    frame_of_objects,
    read_inline_content,
    tree_ids,
)
from server.transport.object_store import ObjectStore

Answer = tuple[str, Frame | None]
Content = bytes | bytearray
_AGAIN = 2
"""Times that the bytes of a question or an answer count as progress: a line may break."""
_LISTED = 64
"""Unfinished objects that a site is told of; it has as many as it has lines."""
_AROUND = 64 * 1024
"""Bytes of a message beside its objects' content."""


class ReadOnceChunks(Sequence[Buffer]):
    """A reply's body in memory, read once: each chunk is freed when the next one is read."""

    def __init__(self, chunks: Sequence[Buffer]) -> None:
        self._chunks: list[Buffer | None] = list(chunks)

    def __len__(self) -> int:
        return len(self._chunks)

    @overload
    def __getitem__(self, index: int) -> Buffer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Buffer]: ...
    def __getitem__(self, index: int | slice) -> Buffer | Sequence[Buffer]:
        chunk = self._chunks[index]
        if chunk is None or (isinstance(chunk, list) and None in chunk):
            raise LookupError("This reply's body has been read and freed already.")
        return cast("Buffer | Sequence[Buffer]", chunk)  # no None in it: see above

    def __iter__(self) -> Iterator[Buffer]:
        for index in range(len(self._chunks)):
            chunk = self[index]
            self._chunks[index] = None
            yield chunk
            del chunk

    def clear(self) -> None:
        """Frees what has not been read."""
        self._chunks = [None] * len(self._chunks)


@dataclass(eq=False)
class Exchange:
    """One request to one site, until its answer has been folded.

    It is waited for until its deadline while nothing moves, and for as long as its objects move
    while they do. Times are of the monotonic clock.
    """

    name: str
    node_id: int
    run_id: int
    message_id: str
    mailbox: queue.SimpleQueue[Exchange]
    time_limit: float
    """Seconds for the answer to begin, once the question is there."""
    deadline: float
    stall: float
    """Seconds that a transfer is waited for without a byte."""
    question: Mapping[str, int]
    """The bytes of the question's objects, by their ids."""
    reply_id: str = ""
    session_id: str = ""
    inline: InlineContent | None = None
    expected: frozenset[str] = frozenset()
    received: dict[str, Content] = field(default_factory=dict)
    parts: dict[str, bytearray] = field(default_factory=dict)
    """Objects of which the first bytes are here."""
    answer: Frame | None = None
    settled: bool = False
    transfer: Patience | None = None
    """While objects of the question or the answer are on their way."""
    called: float = 0.0
    """When the site last announced its answer."""

    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def largest(self) -> int:
        """Bytes that the announced answer may have."""
        each = OBJECT_LIMIT if self.inline is None else WIRE_CHUNK
        return len(self.expected) * each + _AROUND

    @property
    def held(self) -> int:
        """Bytes of the answer that are here."""
        return sum(map(len, self.received.values())) + sum(map(len, self.parts.values()))

    @property
    def parts_held(self) -> str:
        """The content of HELD."""
        with self.lock:
            held = sorted((key, len(part)) for key, part in self.parts.items())
        return ",".join(f"{key}={size}" for key, size in held[:_LISTED])

    def fetched(self, object_id: str, size: int) -> None:
        """So many bytes of the question's object were handed to the line."""
        if self.reply_id or object_id not in self.question:
            return
        now = time.monotonic()
        if self.transfer is None:
            most = _AGAIN * sum(self.question.values()) + _AROUND
            self.transfer = Patience.beginning(now, self.stall, most)
        self.transfer.moved(size, now)

    def confirmed(self) -> None:
        """The site has the whole question, and its time to answer begins."""
        if not self.reply_id and self.transfer is not None:
            self.transfer = None
            self.deadline = max(self.deadline, time.monotonic() + self.time_limit)

    def admit(self) -> None:
        """The site may send the objects of its answer."""
        if self.transfer is None:
            most = _AGAIN * self.largest
            self.transfer = Patience.beginning(time.monotonic(), self.stall, most)

    def came_in(self, size: int) -> bool:
        """So many bytes of the answer came in. False where it is not waited for any longer."""
        if self.settled or self.transfer is None:
            return False
        self.transfer.moved(size, time.monotonic())
        return True

    def given_up(self, now: float, absent: bool) -> bool:
        """Whether it is not worth waiting any longer. absent: the site is not connected."""
        if self.transfer is not None:
            return self.transfer.spent(now)
        if self.reply_id and not absent:  # it waits for other sites' answers, and asks again
            return now > self.called + self.stall
        return absent or now > self.deadline

    def settle(self, answer: Frame | None) -> bool:
        """Ends the exchange and wakes the `ask` that waits for it. False if it had ended."""
        with self.lock:
            if self.settled:
                return False
            self.settled, self.answer = True, answer
            self.received, self.parts = {}, {}
            self.mailbox.put(self)
            return True

    def drop(self) -> None:
        """Frees what was received; a body that is still being read ends there."""
        with self.lock:
            if self.answer is not None and isinstance(self.answer.body, ReadOnceChunks):
                self.answer.body.clear()
            self.settled, self.answer, self.received, self.parts = True, None, {}, {}

    def complete(self) -> bool:
        """Assembles the answer once all of it was received; True when the exchange has ended."""
        with self.lock:
            if self.settled or self.expected - self.received.keys():
                return self.settled
            try:
                answer = self._assemble()
            except WardroundError:
                answer = None
            return self.settle(answer)

    def _assemble(self) -> Frame:
        if self.inline is None:
            contents = {key: bytes(content) for key, content in self.received.items()}
            return frame_of_objects(self.reply_id, contents)
        if not self.inline.chunk_ids:
            return Frame(self.inline.header, (self.inline.body,) if self.inline.body else ())
        parts = {key: chunk_data(content) for key, content in self.received.items()}
        return Frame(
            self.inline.header, ReadOnceChunks([parts[key] for key in self.inline.chunk_ids])
        )


class FleetState(InMemoryLinkState):
    """Flower's in-memory LinkState with our exchanges. All methods may be called by any thread."""

    def __init__(
        self, wake: Callable[[int], None], free: Callable[[Exchange], None], max_body: int
    ) -> None:
        """`wake(node_id)`: a message waits for the node. `free(exchange)`: it holds nothing now.

        `max_body`: bytes that one reply may have.
        """
        super().__init__(NoOpFederationManager(), ObjectStore())
        # Our own objects are hashed when they are cut; what sites push goes through store_object.
        self._wake = wake
        self._free = free
        self._max_body = max_body
        self._exchanges: dict[str, Exchange] = {}
        self._session: dict[str, Exchange] = {}

    # --- runs ---
    def open_run(self) -> int:
        """A running Flower run whose task nobody else can take: its token exists nowhere."""
        run_id = self.create_run(
            "wardround/wardround", None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID,
            TaskType.SERVER_APP,
        )  # fmt: skip
        task_id = self.run_ids[run_id].run.primary_task_id
        if task_id is None or self.claim_task(task_id) is None or not self.activate_task(task_id):
            raise RuntimeError("Flower did not start the run.")
        with self.lock_task_store:
            # Without a token the run does not lapse for want of a ServerApp's heartbeat either.
            record = self.task_token_store.pop(task_id)
            self.task_token_to_task_id.pop(record.token)
        return run_id

    def close_run(self, run_id: int) -> None:
        """Ends the run, answers what is still open in it with None, and deletes its objects."""
        with self.lock:
            still_open = [ex for ex in self._exchanges.values() if ex.run_id == run_id]
        for exchange in still_open:
            self.settle(exchange, None)
            self.forget(exchange)
        self.stop_run(run_id)

    def register(self, name: str, public_key: bytes) -> int:
        """Puts a node on the allow-list. Raises ValueError for a key already on it."""
        return self.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key, 0, name=name)

    def unregister(self, node_id: int) -> None:
        """Takes a node off the allow-list and ends what is open with it."""
        node = self.nodes[node_id]
        node.online_until = node.online_until or 0.0  # Flower trips over a node never activated
        self.delete_node(NOOP_FLWR_AID, node_id)
        with self.lock:
            self.node_public_key_to_node_id.pop(node.public_key, None)
        for exchange in self.open_exchanges(node_id):
            self.settle(exchange, None)

    def online_nodes(self) -> set[int]:
        return {node.node_id for node in self.get_node_info(statuses=[NodeStatus.ONLINE])}

    def absent_for(self, node_id: int) -> float:
        """Seconds since a node was last there: 0 for one that is, inf for one that never was."""
        nodes = self.get_node_info(node_ids=[node_id])
        if nodes and nodes[0].status == NodeStatus.ONLINE:
            return 0.0
        if nodes and nodes[0].status == NodeStatus.OFFLINE:
            return time.time() - nodes[0].online_until
        return float("inf")

    # --- exchanges ---
    def post(
        self,
        name: str,
        parcel: PackedMessage,
        mailbox: queue.SimpleQueue[Exchange],
        *,
        time_limit: float,
        stall: float,
    ) -> Exchange:
        """Stores a message for its node and wakes the node's pull.

        The objects are stored first: a message that can be seen can be fetched.
        """
        metadata = parcel.message.metadata
        session = self.start_session(metadata.run_id)
        for object_id in self.preregister_object_tree(parcel.tree, session):
            content = parcel.objects.get(object_id)
            if content is None:
                content = parcel.chunks[object_id].content()
            super().store_object(metadata.run_id, session, object_id, content)
        question = {key: len(content) for key, content in parcel.objects.items()}
        question |= {key: chunk.size for key, chunk in parcel.chunks.items()}
        exchange = Exchange(
            name,
            metadata.dst_node_id,
            metadata.run_id,
            metadata.message_id,
            mailbox,
            time_limit,
            time.monotonic() + time_limit,
            stall,
            question,
        )
        with self.lock:
            self._exchanges[exchange.message_id] = exchange
            stored = self.store_message_ins(parcel.message)
        if stored is None:
            self.settle(exchange, None)
        self._wake(exchange.node_id)
        return exchange

    def settle(self, exchange: Exchange, answer: Frame | None) -> None:
        if exchange.settle(answer) and answer is None:
            self._free(exchange)

    def forget(self, exchange: Exchange) -> None:
        """Deletes every trace of an exchange from the stores."""
        with self.lock:
            self._exchanges.pop(exchange.message_id, None)
            self.delete_messages({exchange.message_id})
        if exchange.session_id:
            self._session.pop(exchange.session_id, None)
            self._cleanup_push_session(exchange.session_id, cleanup_messages=False)
        for object_id in (exchange.message_id, exchange.reply_id):
            if object_id:
                self.object_store.delete(object_id)
        exchange.drop()
        self._free(exchange)

    def open_exchanges(self, node_id: int) -> list[Exchange]:
        with self.lock:
            return [ex for ex in self._exchanges.values() if ex.node_id == node_id]

    def exchange_of_message(self, message_id: str) -> Exchange | None:
        return self._exchanges.get(message_id)

    def exchange_with(self, node_id: int, run_id: int, object_id: str) -> Exchange | None:
        """The open exchange with the node whose question has this object."""
        for exchange in self.open_exchanges(node_id):
            if exchange.run_id == run_id and object_id in exchange.question:
                return exchange
        return None

    def exchange_of_session(self, session_id: str) -> Exchange | None:
        return self._session.get(session_id)

    def hand_out_again(self, node_id: int, have: Collection[str]) -> None:
        """Makes visible again what was delivered to a node and is not among what it `have`s."""
        for exchange in self.open_exchanges(node_id):
            message = self.message_ins_store.get(exchange.message_id)
            if message is None or exchange.settled or exchange.message_id in have:
                continue
            if message.metadata.delivered_at == "":
                continue
            if exchange.message_id in self.object_store:
                message.metadata.delivered_at = ""
            else:  # confirmed by a process that has died since, and its objects are gone
                self.settle(exchange, None)

    # --- what Flower's handlers call for replies ---
    def store_message_and_object_tree(
        self, message: Message, object_tree: ObjectTree, session_id: str
    ) -> tuple[bool, list[str]]:
        """As in Flower, for replies to open exchanges only; names just the objects we want."""
        exchange = self._exchanges.get(message.metadata.reply_to_message_id)
        if exchange is None or exchange.settled:
            self._cleanup_push_session(session_id, cleanup_messages=False)
            return False, []
        try:
            inline = read_inline_content(message.content) if message.has_content() else None
        except WardroundError:
            self.settle(exchange, None)
            return False, []
        self._withdraw_reply(exchange)
        self._prolong(exchange)
        stored, _ = super().store_message_and_object_tree(message, object_tree, session_id)
        if not stored:
            self._cleanup_push_session(session_id, cleanup_messages=False)
            return False, []
        if inline is None:
            expected = frozenset(tree_ids(object_tree))
        else:
            expected = frozenset(inline.chunk_ids)
        with exchange.lock:
            if not exchange.reply_id:
                exchange.transfer = None  # of the question
            exchange.inline, exchange.expected = inline, expected
            exchange.reply_id, exchange.session_id = message.metadata.message_id, session_id
            exchange.called = time.monotonic()
            for kept in (exchange.received, exchange.parts):
                for other in kept.keys() - expected:
                    del kept[other]
        self._session[session_id] = exchange
        if exchange.complete():
            return True, []
        return True, sorted(expected - exchange.received.keys())

    def _withdraw_reply(self, exchange: Exchange) -> None:
        """Makes room in Flower's stores for an answer that is announced once more: after a break,
        or by a new process of the site. What came of its objects is kept."""
        if exchange.session_id:
            self._session.pop(exchange.session_id, None)
            self._cleanup_push_session(exchange.session_id, cleanup_messages=False)
        if exchange.reply_id:
            with self.lock:
                self.message_res_store.pop(exchange.reply_id, None)
                self.message_ins_id_to_message_res_id.pop(exchange.message_id, None)
            self.object_store.delete(exchange.reply_id)

    def _prolong(self, exchange: Exchange) -> None:
        """Keeps a question open in Flower's store for as long as its exchange is waited for."""
        with self.lock:
            message = self.message_ins_store.get(exchange.message_id)
            if message is not None:
                age = time.time() - message.metadata.created_at
                message.metadata.ttl = max(message.metadata.ttl, age + exchange.time_limit)

    def store_part(
        self, run_id: int, session_id: str, object_id: str, offset: int, size: int, part: bytes
    ) -> tuple[bool, int]:
        """Takes the bytes from `offset` on of an object of `size` bytes.

        Returns whether the object is whole and taken, and how many of its bytes are held.
        """
        exchange = self._wants(run_id, session_id, object_id)
        if exchange is None or size > OBJECT_LIMIT:
            return False, 0
        with exchange.lock:
            if object_id in exchange.received:
                return True, size
            held = exchange.parts.setdefault(object_id, bytearray())
            if offset == len(held) and offset + len(part) <= size:
                held += part
            if exchange.held > self._max_body:
                self.settle(exchange, None)
                return False, 0
            if len(held) < size:
                return False, len(held)
            del exchange.parts[object_id]
        return self.store_object(run_id, session_id, object_id, held), len(held)

    def _wants(self, run_id: int, session_id: str, object_id: str) -> Exchange | None:
        """The exchange of which the object is an expected part."""
        exchange = self._session.get(session_id)
        if exchange is None or exchange.settled or exchange.run_id != run_id:
            return None
        return exchange if object_id in exchange.expected else None

    def store_object(
        self, run_id: int, session_id: str, object_id: str, object_content: Content
    ) -> bool:
        """Takes a part of a reply, whose hash must be its id, straight to its exchange."""
        exchange = self._wants(run_id, session_id, object_id)
        if (
            exchange is None
            or len(object_content) > OBJECT_LIMIT
            or get_object_id(cast("bytes", object_content)) != object_id
        ):
            return False
        with exchange.lock:
            exchange.received[object_id] = object_content
            exchange.parts.pop(object_id, None)
            held = exchange.held
        if held > self._max_body:
            self.settle(exchange, None)
            return False
        exchange.complete()
        return True
