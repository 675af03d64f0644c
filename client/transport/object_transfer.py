"""Moves the objects of a message, which are large, in parts that fit the line."""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from client.transport.fleet_calls import FleetCalls
from client.transport.http_connection import HttpConnection
from client.transport.pace import Pace
from protocol.errors import Code, WardroundError
from protocol.wire.flower_version import require_flower
from protocol.wire.progress import SLOWEST

require_flower()

from flwr.proto import message_pb2

from protocol.wire.flower_encoding import HELD, PART, PackedMessage

T = TypeVar("T")

_PAUSE = (0.01, 0.2)
"""First and longest wait in seconds for an object that is not there yet."""


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


class ObjectTransfer:
    """Both directions of a site's line."""

    def __init__(self, calls: FleetCalls, closing: threading.Event) -> None:
        """closing: ends a download."""
        self._calls, self._closing = calls, closing
        self._up, self._down = Pace(), Pace()
        self._download = _Download()
        self.moved = 0.0
        """When a part last came through, on the monotonic clock."""

    def push(
        self,
        lines: Sequence[HttpConnection],
        parcel: PackedMessage,
        stored: Any,
        headers: Mapping[str, str],
    ) -> bool:
        """Sends what `stored`, a PushMessagesResponse, asks for. False where it no longer
        wants it. Raises WardroundError: MESSAGE for an answer that makes no sense; of a call."""
        wanted = set(stored.objects_to_push)
        if not wanted <= parcel.objects.keys() | parcel.chunks.keys():
            raise WardroundError(Code.MESSAGE, "The coordinator wants objects that nobody has.")
        held = _held(headers[HELD]) if HELD in headers else None

        def send(line: HttpConnection, object_id: str) -> bool:
            content = parcel.objects.get(object_id) or parcel.chunks[object_id].content()
            push = message_pb2.PushObjectRequest(
                node=self._calls.node(),
                run_id=parcel.message.metadata.run_id,
                object_id=object_id,
                session_id=stored.session_id,
            )
            if held is None:
                push.object_content = content
                result, _ = self._transfer(line, self._up, push, len(content))
                return bool(result.stored)
            return self._send_parts(line, push, content, held.get(object_id, 0))

        return all(self._on_lines(lines, self._up, send, sorted(wanted)))

    def fetch(
        self, lines: Sequence[HttpConnection], run_id: int, object_ids: Iterable[str]
    ) -> Mapping[str, bytearray]:
        """The objects of a question, by their ids; those of the one before that it lacks are freed.
        Raises WardroundError: MESSAGE, UNREACHABLE where it was withdrawn; of a call."""
        ids = dict.fromkeys(object_ids)
        download = self._download
        download.keep(ids)

        def take(line: HttpConnection, object_id: str) -> None:
            content = download.objects.setdefault(object_id, bytearray())
            request = message_pb2.PullObjectRequest(
                node=self._calls.node(), run_id=run_id, object_id=object_id
            )
            pause = _PAUSE[0]
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
                    pause = min(2 * pause, _PAUSE[1])
                    continue
                if PART not in headers:
                    content.clear()
                content += answer.object_content
                size = _number(headers.get(PART, str(len(content))))
                if sum(map(len, download.objects.values())) > self._calls.config.max_body:
                    raise WardroundError(Code.MESSAGE, "A question is too long.")
                if len(content) >= size:
                    download.whole.add(object_id)
                elif not answer.object_content:
                    raise WardroundError(Code.MESSAGE, "An object does not go on.")

        self._on_lines(lines, self._down, take, ids)
        return download.objects

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

    def _transfer(
        self, line: HttpConnection, pace: Pace, request: Any, size: int, part: str = ""
    ) -> tuple[Any, Mapping[str, str]]:
        """Moves an object, or a part of it, of `size` bytes, and measures how fast that goes."""
        up = pace is self._up
        route = "push-object" if up else "pull-object"
        kind: Any = message_pb2.PushObjectResponse if up else message_pb2.PullObjectResponse
        limit = pace.limit(size) if part else self._calls.config.call_timeout + size / SLOWEST
        began = time.monotonic()
        try:
            result, headers = self._calls.call(
                line, route, request, kind, {PART: part} if part else {}, limit=limit
            )
        except WardroundError:
            if time.monotonic() - began >= limit:
                pace.was_late()
            raise
        self.moved = time.monotonic()
        pace.took(size if up else len(result.object_content), self.moved - began)
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


def _held(text: str) -> dict[str, int]:
    """What a coordinator holds of objects, by id. Raises WardroundError(MESSAGE)."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    return {object_id: _number(size) for object_id, _, size in pairs}


def _number(text: str) -> int:
    """A number of bytes in a header field. Raises WardroundError(MESSAGE)."""
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise WardroundError(Code.MESSAGE, "A number of bytes is malformed.")
    return int(text)
