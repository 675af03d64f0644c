"""All HTTP routes of a coordinator, as one ASGI application.

Flower's twelve `/v1/fleet/*` routes, served by Flower's own handlers on our LinkState, and the
applications that other modules mount. Flower's Control, Runtime and SuperExec APIs are not served:
a caller that holds only the CA certificate gets 404 or 401.

Added to the handlers: authentication before the body is read, long polling, slots for large
uploads, and detecting at once (instead of a minute later) that a site's connections broke.
"""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from protocol.wire.flower_version import FLOWER_WIRE, require_flower

require_flower()

from flwr.common.constant import SUPERLINK_NODE_ID, Status
from flwr.proto import fleet_pb2
from flwr.proto.message_pb2 import (
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.server.superlink.utils import check_abort
from flwr.supercore.constant import FLWR_PACKAGE_VERSION_METADATA_KEY, NodeStatus
from flwr.supercore.error import FlowerError
from flwr.supercore.error.catalog import API_ERROR_MAP
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.superlink.servicer.fleet import fleet_handlers

from protocol.errors import WardroundError
from protocol.models.decision import DecisionHistory, DecisionNews
from protocol.wire.flower_encoding import (
    BUSY,
    DECISIONS,
    HAVE,
    HELD,
    NOTICE,
    OBJECT_LIMIT,
    PART,
    REFUSED,
    ROSTER,
    STORED,
    WAIT,
    decoded,
    read_message,
    tree_ids,
)
from protocol.wire.progress import SLOWEST, WINDOW
from protocol.wire.roster import EMPTY, RosterHistory, RosterNews
from server.transport.authentication import (
    CallRefusedError,
    authenticate,
    check_named_node,
    check_version,
)
from server.transport.event_log import EventLog
from server.transport.link_state import Exchange, FleetState
from server.transport.upload_slots import UploadSlots

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIX = "/v1/fleet/"
FLEET_ROUTES = {
    path.removeprefix(PREFIX): kind
    for (_, path), kind in PROTOBUF_REQUEST_TYPES.items()
    if path.startswith(PREFIX)
}
_BODY_LIMIT = defaultdict(
    lambda: 64 * 1024, {"push-messages": 2 << 20, "push-object": OBJECT_LIMIT + 4096}
)
"""Bytes of request body, by route."""
_BODY_SECONDS = WINDOW
"""Seconds for a body, beside one for each SLOWEST bytes of it."""
_BODIES = 8
"""Large bodies of one site that are read at once; more than its lines, since one that broke may be
here for a while."""
_IN_A_THREAD = 128 * 1024
"""Bytes of an object from which its hash is worth a thread of its own."""
_NOT_RUNNING = [Status.PENDING, Status.STARTING, Status.FINISHED]
_SLICE = 32 * 1024
"""Bytes of an object handed to the connection at once."""
_OFFSET_AND_SIZE = re.compile(r"([0-9]{1,12})/([0-9]{1,12})")


@dataclass
class HttpCall:
    """One HTTP call: its header fields, its body once read, and the way back."""

    route: str
    headers: Mapping[str, str]
    address: str
    receive: Receive
    send: Send
    node_id: int = 0
    reply_headers: dict[str, str] = field(default_factory=dict)

    @property
    def wait(self) -> float:
        """Seconds for which the caller lets the call be held."""
        try:
            return max(0.0, float(self.headers.get(WAIT, "0")))
        except ValueError:
            return 0.0

    def known(self, record: str) -> int | None:
        """How many entries of a record (ROSTER, DECISIONS) the caller has; None where it does not
        ask."""
        known = self.headers.get(record, "")
        return int(known) if known.isdecimal() and len(known) < 8 else None

    @property
    def part(self) -> tuple[int, int] | None:
        """The two numbers of PART, if it is a part of an object that is moved. Raises
        CallRefusedError."""
        if PART not in self.headers:
            return None
        numbers = _OFFSET_AND_SIZE.fullmatch(self.headers[PART])
        if numbers is None:
            raise CallRefusedError(400, "form")
        return int(numbers[1]), int(numbers[2])

    async def body(self, limit: int, wanted: Callable[[int], bool] | None = None) -> bytes:
        """Reads the body. Raises CallRefusedError: 413 above `limit` bytes, 408 where it comes
        more slowly than SLOWEST bytes a second. `wanted`, where it is given, decides instead: it is
        told how many bytes came, and says whether to go on."""
        try:
            announced = int(self.headers.get("content-length", "0"))
        except ValueError:
            raise CallRefusedError(400, "form") from None
        if announced > limit:
            raise CallRefusedError(413, "form")
        loop = asyncio.get_running_loop()
        began = loop.time()
        parts, size = [], 0
        try:
            async with asyncio.timeout_at(began + _BODY_SECONDS) as patience:
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionResetError
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise CallRefusedError(413, "form")
                    parts.append(part)
                    if wanted is not None and not wanted(len(part)):
                        raise CallRefusedError(409, "form")
                    if not message.get("more_body", False):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
                    begin = began + size / SLOWEST if wanted is None else loop.time()
                    patience.reschedule(begin + _BODY_SECONDS)
        except TimeoutError:
            raise CallRefusedError(408, "form") from None

    async def gone(self) -> None:
        """Returns when the caller has hung up."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, media_type: str, length: int) -> None:
        headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % length)]
        headers += [(key.encode(), value.encode()) for key, value in self.reply_headers.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def reply(self, status: int, media_type: str, body: bytes) -> None:
        await self.begin(status, media_type, len(body))
        await self.send({"type": "http.response.body", "body": body})

    async def reply_json(self, status: int, content: object) -> None:
        await self.reply(status, "application/json", json.dumps(content).encode())


class Gateway:
    """The ASGI application. `start` and `stop` belong to the event loop that serves it."""

    def __init__(
        self, events: EventLog, *, slots: UploadSlots, hold: float, stall: float, max_body: int
    ) -> None:
        self.state = FleetState(self._wake, self._free, max_body)
        self.events = events
        self.notice = ""
        """What every answered site is told (`NOTICE`)."""
        self.roster: RosterHistory = EMPTY
        """What sites that ask for it are told of the roster (`ROSTER`)."""
        self.decisions: DecisionHistory | None = None
        """And of decisions about models (`DECISIONS`); nothing while the record is unreadable."""
        self._mounted: dict[str, Application] = {}
        self._hold_limit, self._stall = hold, stall
        self._slots = slots
        self._bodies: Counter[int] = Counter()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="fleet")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._waiting: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._held: dict[int, int] = defaultdict(int)

    def mount(self, prefix: str, application: Application) -> None:
        """Serves `application`, which authenticates its callers itself, below `prefix`."""
        self._mounted[prefix.rstrip("/") + "/"] = application

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Ends every held call."""
        self._closing.set()
        self._pool.shutdown(wait=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("Only HTTP is served here.")
        path: str = scope["path"]
        for prefix, application in self._mounted.items():
            if path.startswith(prefix):
                await application(scope, receive, send)
                return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        client = scope.get("client") or ("", 0)
        call = HttpCall(path.removeprefix(PREFIX), headers, client[0], receive, send)
        known = path.startswith(PREFIX) and call.route in FLEET_ROUTES
        if not known or scope["method"] != "POST":
            self.events.refused(path[:120], "route", call.address)
            call.reply_headers["connection"] = "close"
            await call.reply_json(404, {"detail": "Not Found"})
            return
        call.reply_headers[FLWR_PACKAGE_VERSION_METADATA_KEY] = FLOWER_WIRE
        try:
            await self._serve(call)
        except (ConnectionResetError, TimeoutError):
            return
        except CallRefusedError as refusal:
            call.reply_headers[REFUSED] = refusal.reason
            if refusal.reason == BUSY:
                call.reply_headers["retry-after"] = "1"
            else:
                name = self._name(call.node_id)
                self.events.refused(call.route, refusal.reason, call.address, name)
                call.reply_headers["connection"] = "close"  # its body may be unread
            detail = "Invalid SuperNode authentication" if refusal.status == 401 else "Refused"
            await call.reply_json(refusal.status, {"detail": detail})
        except FlowerError as error:
            self.events.refused(call.route, f"flower-{error.code}", call.address,
                                self._name(call.node_id))  # fmt: skip
            spec = API_ERROR_MAP[error.code]
            call.reply_headers.update(spec.http_headers or {})
            await call.reply_json(spec.http_status_code, error.to_json(spec.public_message))
        except Exception as error:
            # Flower's handlers raise ValueError, IndexError and such for impossible requests of
            # registered nodes. The type is worth knowing; the text may quote what was sent.
            reason = f"error-{type(error).__name__}"
            self.events.refused(call.route, reason, call.address, self._name(call.node_id))
            call.reply_headers["connection"] = "close"
            await call.reply_json(400, {"detail": "Refused"})

    async def _serve(self, call: HttpCall) -> None:
        call.node_id, public_key = authenticate(call.headers, self.state)
        check_version(call.headers)
        media_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != PROTOBUF_MEDIA_TYPE:
            raise CallRefusedError(415, "form")
        if call.route == "push-object":
            body = await self._large_body(call)
        else:
            body = await call.body(_BODY_LIMIT[call.route])
        try:
            request = decoded(FLEET_ROUTES[call.route], body)
        except WardroundError:
            raise CallRefusedError(400, "form") from None
        del body
        check_named_node(request, call.node_id, public_key)
        response = await self._handle(call, request)
        if response is not None:
            content = cast("bytes", response.SerializeToString())
            del request, response
            if self.notice:
                call.reply_headers[NOTICE] = self.notice
            if (known := call.known(ROSTER)) is not None:
                call.reply_headers[ROSTER] = RosterNews.since(self.roster, known).to_field()
            if (known := call.known(DECISIONS)) is not None and self.decisions is not None:
                news = DecisionNews.since(self.decisions, known)
                call.reply_headers[DECISIONS] = news.to_field()
            await call.reply(200, PROTOBUF_MEDIA_TYPE, content)

    async def _handle(self, call: HttpCall, request: Any) -> Any:
        state = self.state
        match call.route:
            case "pull-messages":
                return await self._pull_messages(call, request)
            case "push-messages":
                return await self._push_messages(call, request)
            case "push-object":
                return await self._push_object(call, request)
            case "pull-object":
                return await self._pull_object(call, request)
            case "send-node-heartbeat":
                return await self._heartbeat(call, request)
            case "activate-node":
                if state.nodes[call.node_id].status == NodeStatus.ONLINE:
                    call.reply_headers[REFUSED] = "active"
                activated = fleet_handlers.activate_node(request, state)
                call.reply_headers.pop(REFUSED, None)
                self.events.write("connected", site=self._name(call.node_id), address=call.address)
                return activated
            case "deactivate-node":
                self.events.write("left", site=self._name(call.node_id))
                if state.nodes[call.node_id].status != NodeStatus.ONLINE:
                    return fleet_pb2.DeactivateNodeResponse()  # its connections broke before this
                return fleet_handlers.deactivate_node(request, state)
            case "confirm-message-received":
                exchange = state.exchange_of_message(request.message_object_id)
                if exchange is not None and exchange.node_id != call.node_id:
                    raise CallRefusedError(403, "node")
                if exchange is not None:
                    exchange.confirmed()
                return fleet_handlers.confirm_message_received(request, state, state.object_store)
            case "get-run":
                return fleet_handlers.get_run(request, state)
            case "get-fab":
                return fleet_handlers.get_fab(request, state)
            case "register-node":
                return fleet_handlers.register_node(request, state, enable_supernode_auth=True)
            case "unregister-node":
                return fleet_handlers.unregister_node(request, state, enable_supernode_auth=True)
        raise CallRefusedError(404, "form")

    # --- large objects ---
    async def _large_body(self, call: HttpCall) -> bytes:
        """Reads an object of an answer for as long as the answer is waited for: its lines share
        what the site's network carries."""
        node_id = call.node_id

        def came_in(size: int) -> bool:
            on = [exchange.came_in(size) for exchange in self._slots.admitted(node_id)]
            return any(on)

        if not came_in(0):
            raise CallRefusedError(409, "form")
        if self._bodies[node_id] >= _BODIES:
            raise CallRefusedError(503, BUSY)
        self._bodies[node_id] += 1
        try:
            return await call.body(_BODY_LIMIT[call.route], came_in)
        finally:
            self._bodies[node_id] -= 1

    async def _pull_object(self, call: HttpCall, request: PullObjectRequest) -> Any:
        """As Flower's handler, but sends large contents in slices of the stored copy, and parts of
        them where the site asks for parts."""
        content = self.state.get_object(request.run_id, request.object_id)
        ended = check_abort(request.run_id, _NOT_RUNNING, self.state)
        part = call.part
        if not content or ended or (part is None and len(content) < _IN_A_THREAD):
            return fleet_handlers.pull_object(request, self.state)
        wanted = self._part(content, part)
        if part is not None:
            call.reply_headers[PART] = str(len(content))
        exchange = self.state.exchange_with(call.node_id, request.run_id, request.object_id)
        head = large_object_head(len(wanted))
        await call.begin(200, PROTOBUF_MEDIA_TYPE, len(head) + len(wanted))
        await call.send({"type": "http.response.body", "body": head, "more_body": bool(wanted)})
        for start in range(0, len(wanted), _SLICE):
            piece = wanted[start : start + _SLICE]
            more = start + _SLICE < len(wanted)
            async with asyncio.timeout(self._stall + _SLICE / SLOWEST):
                await call.send({"type": "http.response.body", "body": piece, "more_body": more})
            if exchange is not None:
                exchange.fetched(request.object_id, len(piece))
        return None

    @staticmethod
    def _part(content: bytes, part: tuple[int, int] | None) -> memoryview:
        """What was asked for of an object: its offset and length, or all."""
        return memoryview(content)[part[0] : sum(part)] if part else memoryview(content)

    async def _push_object(self, call: HttpCall, request: PushObjectRequest) -> Any:
        exchange = self.state.exchange_of_session(request.session_id)
        if exchange is None or exchange.node_id != call.node_id:
            raise CallRefusedError(403, "node")
        loop, part = asyncio.get_running_loop(), call.part
        if part is not None:
            return await loop.run_in_executor(self._pool, self._store_part, call, request, *part)
        if int(call.headers.get("content-length", "0")) < _IN_A_THREAD:
            return fleet_handlers.push_object(request, self.state)
        return await loop.run_in_executor(self._pool, self._store_large, request)

    def _store_part(
        self, call: HttpCall, request: PushObjectRequest, offset: int, size: int
    ) -> PushObjectResponse:
        if check_abort(request.run_id, _NOT_RUNNING, self.state):
            return PushObjectResponse(stored=False)
        stored, held = self.state.store_part(
            request.run_id, request.session_id, request.object_id, offset, size,
            request.object_content,
        )  # fmt: skip
        call.reply_headers[PART] = str(held)
        return PushObjectResponse(stored=stored)

    def _store_large(self, request: PushObjectRequest) -> PushObjectResponse:
        """Does what Flower's handler does without its copies of the content."""
        stored = not check_abort(request.run_id, _NOT_RUNNING, self.state) and (
            self.state.store_object(
                request.run_id, request.session_id, request.object_id, request.object_content
            )
        )
        return PushObjectResponse(stored=stored)

    # --- calls that are held ---
    async def _pull_messages(self, call: HttpCall, request: fleet_pb2.PullMessagesRequest) -> Any:
        state, node_id = self.state, call.node_id
        deadline = asyncio.get_running_loop().time() + min(call.wait, self._hold_limit)
        if HAVE in call.headers:
            state.hand_out_again(node_id, call.headers[HAVE].split(","))
        if call.wait:
            call.reply_headers[WAIT] = "1"
        wake = self._waiting[node_id]
        while True:
            wake.clear()
            response = fleet_handlers.pull_messages(request, state, state.object_store)
            left = deadline - asyncio.get_running_loop().time()
            behind = self._is_behind(call)
            if response.messages_list or behind or left <= 0 or self._closing.is_set():
                return response
            if not await self._hold(call, wake.wait(), left):
                return None

    async def _heartbeat(self, call: HttpCall, request: Any) -> Any:
        response = fleet_handlers.send_node_heartbeat(request, self.state)
        if call.wait:
            call.reply_headers[WAIT] = "1"
            forever = asyncio.Event()
            if not await self._hold(call, forever.wait(), min(call.wait, self._hold_limit)):
                return None
        return response

    async def _push_messages(self, call: HttpCall, request: fleet_pb2.PushMessagesRequest) -> Any:
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            raise CallRefusedError(400, "form")
        metadata = request.messages_list[0].metadata
        exchange = self.state.exchange_of_message(metadata.reply_to_message_id)
        if metadata.src_node_id != call.node_id or metadata.dst_node_id != SUPERLINK_NODE_ID:
            raise CallRefusedError(403, "node")
        if exchange is None:  # its time, or its whole run, has ended: not the site's fault
            call.reply_headers[STORED] = "0"
            return fleet_pb2.PushMessagesResponse()
        try:
            read_message(request.messages_list[0])
            tree_ids(request.message_object_trees[0])
        except WardroundError:
            self.state.settle(exchange, None)  # garbage is no answer, and nobody waits for another
            raise CallRefusedError(400, "form") from None
        response = fleet_handlers.push_messages(request, self.state)
        wanted = exchange.reply_id == metadata.message_id
        call.reply_headers[STORED] = "1" if wanted else "0"
        if not response.objects_to_push:
            return response
        turn = asyncio.ensure_future(self._slots.acquire(exchange))
        if not await self._hold(call, turn, min(call.wait, self._hold_limit)):
            return None
        if not turn.done() or turn.cancelled():
            raise CallRefusedError(503, BUSY)
        if not turn.result():
            call.reply_headers[STORED] = "0"
        exchange.admit()
        call.reply_headers[HELD] = exchange.parts_held
        return response

    async def _hold(self, call: HttpCall, until: Awaitable[Any], limit: float) -> bool:
        """Holds the call until `until`, for `limit` s at most. False: the caller hung up.

        A site whose last held call breaks has gone: killed, or its network is.
        """
        wanted = asyncio.ensure_future(until)
        gone = asyncio.ensure_future(call.gone())
        closing = asyncio.ensure_future(self._closing.wait())
        self._held[call.node_id] += 1
        try:
            await asyncio.wait(
                {wanted, gone, closing}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._held[call.node_id] -= 1
            left = gone.done()
            for task in (wanted, gone, closing):
                task.cancel()
        alone = left and not self._held[call.node_id] and not self._closing.is_set()
        # It has `grace` seconds to come back (FleetRun); a new process may activate at once.
        if alone and self.state.deactivate_node(call.node_id):
            self.events.write("connection-lost", site=self._name(call.node_id))
        return not left

    # --- called from other threads ---
    def _is_behind(self, call: HttpCall) -> bool:
        """Whether there is news of a record for which the caller asks."""
        changes, decided = call.known(ROSTER), call.known(DECISIONS)
        if changes is not None and changes < self.roster.number:
            return True
        return decided is not None and decided < self._decided

    @property
    def _decided(self) -> int:
        return 0 if self.decisions is None else self.decisions.number

    def publish(self, roster: RosterHistory) -> None:
        """The roster from now on; sites whose calls are held are told at once."""
        self.roster = roster
        self._wake_all()

    def publish_decisions(self, decisions: DecisionHistory) -> None:
        """The record of decisions from now on; as `publish`."""
        self.decisions = decisions
        self._wake_all()

    def _wake_all(self) -> None:
        for node_id in list(self.state.nodes):
            self._wake(node_id)

    def _wake(self, node_id: int) -> None:
        self._soon(lambda: self._waiting[node_id].set())

    def _free(self, exchange: Exchange) -> None:
        self._soon(lambda: self._slots.release(exchange))

    def _soon(self, do: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(do)

    def _name(self, node_id: int) -> str | None:
        node = self.state.nodes.get(node_id)
        return node.name if node is not None else None


def large_object_head(size: int) -> bytes:
    """The bytes of a PullObjectResponse before its content, which follows unchanged.

    Protocol Buffers encoding: a length-delimited field is its tag, its length as varint, its bytes.
    """
    head = bytearray(
        PullObjectResponse(object_found=True, object_available=True).SerializeToString()
    )
    head.append(PullObjectResponse.OBJECT_CONTENT_FIELD_NUMBER << 3 | 2)
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)
