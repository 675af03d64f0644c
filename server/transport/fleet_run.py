"""One study's exchanges with its sites: the `Fleet` of a deployment."""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Mapping
from typing import Self

from protocol.errors import Code, WardroundError
from protocol.wire.flower_version import require_flower
from protocol.wire.messages import Frame

require_flower()

from flwr.app import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID

from protocol.wire.flower_encoding import MESSAGE_TYPE, WireBody, pack
from server.transport.event_log import EventLog
from server.transport.link_state import Exchange, FleetState

_CHECK_INTERVAL = 0.5
"""Seconds between two checks for lost sites, while nothing comes in."""


class FleetRun:
    """A Flower run; a `server.rounds.transport.Fleet`. Several threads may `ask` at once."""

    def __init__(
        self,
        state: FleetState,
        events: EventLog,
        nodes: Mapping[str, int],
        *,
        label: str,
        grace: float,
        stall: float,
    ) -> None:
        self._state = state
        self._events = events
        self._nodes = nodes
        self._grace, self._stall = grace, stall
        self.label = label
        self.run_id = state.open_run()

    def online(self) -> frozenset[str]:
        """Names of the sites that are connected."""
        alive = self._state.online_nodes()
        return frozenset(name for name, node_id in list(self._nodes.items()) if node_id in alive)

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        """Sends each site its frame and yields each answer as it comes; every site once.

        None stands for a site that is not connected, has gone, or did not begin to answer within
        `timeout` seconds of having its question. Large bodies that are on their way are waited for
        as long as they move, also while the site is away (protocol/wire/progress.py). An answer's
        body is read once, and only until the next answer is asked for: then its memory is given to
        the next site's. Equal chunk objects in several frames are stored once.
        Raises WardroundError(CONFIGURATION) for a site that is not registered.
        """
        unknown = sorted(set(frames) - set(self._nodes))
        if unknown:
            raise WardroundError(
                Code.CONFIGURATION,
                f"Not registered at this coordinator: {', '.join(unknown)}.",
                remedy="Register the sites' node keys first.",
            )
        return self._exchanges(frames, timeout)

    def close(self) -> None:
        """Ends the run; whatever is still open in it is answered None."""
        self._state.close_run(self.run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchanges(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        mailbox: queue.SimpleQueue[Exchange] = queue.SimpleQueue()
        pending: set[Exchange] = set()
        try:
            # One whose connection has just broken may be on its way back.
            absent = [n for n in frames if self._state.absent_for(self._nodes[n]) > self._grace]
            self._events.write("asked", run=self.label, sites=len(frames) - len(absent))
            bodies: dict[tuple[int, ...], WireBody] = {}
            for name in frames:
                if name not in absent:
                    pending.add(self._post(name, frames[name], bodies, timeout, mailbox))
            bodies.clear()
            for name in absent:
                yield name, None
            while pending:
                exchange = self._next(mailbox, pending)
                event = "no-answer" if exchange.answer is None else "answered"
                self._events.write(event, site=exchange.name, run=self.label)
                yield exchange.name, exchange.answer
                pending.discard(exchange)
                self._state.forget(exchange)
        finally:
            for exchange in pending:
                self._state.forget(exchange)

    def _post(
        self,
        name: str,
        frame: Frame,
        bodies: dict[tuple[int, ...], WireBody],
        timeout: float,
        mailbox: queue.SimpleQueue[Exchange],
    ) -> Exchange:
        key = tuple(id(chunk) for chunk in frame.body)
        if key not in bodies:
            bodies[key] = WireBody.cut(frame.body)
        metadata = Metadata(
            run_id=self.run_id,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=self._nodes[name],
            reply_to_message_id="",
            group_id=self.label,
            created_at=time.time(),
            ttl=max(1.0, timeout) + 60.0,
            message_type=MESSAGE_TYPE,
        )
        parcel = pack(metadata, frame.header, bodies[key])
        return self._state.post(name, parcel, mailbox, time_limit=timeout, stall=self._stall)

    def _next(self, mailbox: queue.SimpleQueue[Exchange], pending: set[Exchange]) -> Exchange:
        """The next exchange that has ended; ends those that are given up."""
        while True:
            now = time.monotonic()
            ahead = [ex.deadline - now for ex in pending if ex.deadline > now]
            try:
                return mailbox.get(timeout=min([_CHECK_INTERVAL, *ahead]))
            except queue.Empty:
                for exchange in pending:
                    absent = self._state.absent_for(exchange.node_id) > self._grace
                    if exchange.given_up(time.monotonic(), absent):
                        self._state.settle(exchange, None)
