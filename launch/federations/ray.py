"""Hundreds of simulated sites in the workers of a Ray cluster, on Flower's simulation engine.

The round loop and the site code are those of a deployment. A frame is a Flower message to a virtual
SuperNode, whose ClientApp is a site. Any idle worker may take any message, so a site's state is in
Flower's Context (site_snapshot.py); study, keys and patients are in Ray's object store, from which
a worker reads them once.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.data.cohort import Cohort
from launch.federations.inprocess import run_rounds
from launch.federations.ray_cluster import connected
from launch.federations.site_snapshot import WorkerContext
from protocol.errors import Code, WardroundError
from protocol.extras import Extra, require
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.vectors import Vector
from protocol.wire.flower_version import require_flower
from protocol.wire.messages import Frame
from server.outcome import Outcome
from server.rounds.listener import Listener
from tasks import registry
from tasks.base import Task

if TYPE_CHECKING:
    from flwr.app import Context, Message, RecordDict
    from flwr.serverapp import Grid

_START = 300.0
"""Seconds for Ray and its workers to start."""
_LOOK = 0.005
_WHO, _FRAME, _STATE = "who", "frame", "site"


@dataclass(frozen=True)
class _SharedInput:
    """Everything that a worker needs to simulate any site; cohorts, or references to them in Ray's
    object store, by site."""

    document: bytes
    task: tuple[str, dict[str, Any]]
    seeds: dict[str, bytes]
    cohorts: dict[str, Any]


class RayFleet:
    """Sites behind Flower's grid. `close` ends the engine."""

    def __init__(self, shared: _SharedInput, workers: int, address: str | None) -> None:
        self._sites, self._shared = sorted(shared.cohorts), shared
        self._workers, self._address = workers, address
        self._grids: queue.Queue[Grid | BaseException] = queue.Queue()
        self._over = threading.Event()
        self._grid: Grid | None = None
        self._nodes: dict[str, int] = {}
        self._thread = threading.Thread(target=self._engine, name="flower", daemon=True)

    def start(self) -> None:
        """Starts Ray, Flower's engine and its workers, and learns which node plays which site.

        Raises WardroundError: CREDENTIALS where the cluster takes anybody, or not us; INTERNAL
        where the engine does not come up.
        """
        self._thread.start()
        try:
            grid = self._grids.get(timeout=_START)
        except queue.Empty:
            grid = TimeoutError("it did not start")
        if isinstance(grid, WardroundError):
            raise grid
        if isinstance(grid, BaseException):
            raise _broken(grid)
        self._grid = grid
        everybody = dict.fromkeys(self._registered(grid), Frame(b""))
        for node, answer in self._exchange(everybody, _START, _WHO):
            if answer is None:
                raise _broken(TimeoutError("a node does not answer"))
            self._nodes[self._sites[int(answer.header)]] = node

    def _registered(self, grid: Grid) -> list[int]:
        """Flower's nodes, once all are there: a ServerApp starts before they are registered."""
        deadline = time.monotonic() + _START
        while len(nodes := list(grid.get_node_ids())) < len(self._sites):
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise _broken(TimeoutError("its nodes did not come up"))
            time.sleep(_LOOK)
        return nodes

    def online(self) -> frozenset[str]:
        return frozenset(self._nodes)

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        sites = {self._nodes[site]: site for site in frames}
        asked = {self._nodes[site]: frame for site, frame in frames.items()}
        for node, answer in self._exchange(asked, timeout, _FRAME):
            yield sites[node], answer

    def close(self) -> None:
        """Ends the engine and, where it was ours, Ray. Harmless twice."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(60.0)

    def _exchange(
        self, frames: Mapping[int, Frame], timeout: float, kind: str
    ) -> Iterator[tuple[int, Frame | None]]:
        from flwr.app import Message

        if self._grid is None:
            raise _broken(RuntimeError("it has not started"))
        waiting, messages = {}, []
        for node, frame in frames.items():
            content, type_ = _content(frame), f"query.{kind}"
            messages.append(Message(content, dst_node_id=node, message_type=type_))
        for node, identifier in zip(frames, self._grid.push_messages(messages), strict=True):
            waiting[identifier] = node
        deadline = time.monotonic() + timeout
        while waiting and time.monotonic() < deadline and self._thread.is_alive():
            for reply in self._grid.pull_messages(list(waiting)):
                yield waiting.pop(reply.metadata.reply_to_message_id), _frame_of(reply)
            time.sleep(_LOOK)
        yield from ((node, None) for node in waiting.values())

    def _engine(self) -> None:
        """Runs Flower's engine until the study is over. It has its own thread, so that Ctrl-C
        reaches the round loop in the main thread."""
        try:
            with connected(self._workers, self._address):
                self._simulate()
        except BaseException as error:
            self._grids.put(error)

    def _simulate(self) -> None:
        import ray
        from flwr.clientapp import ClientApp
        from flwr.serverapp import ServerApp
        from flwr.simulation import run_simulation

        cohorts = {site: ray.put(cohort) for site, cohort in self._shared.cohorts.items()}
        shared = ray.put(replace(self._shared, cohorts=cohorts))
        sites, client, server = self._sites, ClientApp(), ServerApp()

        @client.query(_WHO)
        def who(message: Message, context: Context) -> Message:
            return _reply(message, Frame(str(context.node_config["partition-id"]).encode()))

        @client.query(_FRAME)
        def answer(message: Message, context: Context) -> Message:
            return answer_in_worker(shared, sites, message, context)

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            self._grids.put(grid)
            self._over.wait()

        run_simulation(
            server,
            client,
            num_supernodes=len(sites),
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )


class RayFederation:
    """Simulated sites with these cohorts, in `workers` processes. A context manager."""

    def __init__(
        self,
        cohorts: Mapping[str, Cohort],
        study: Study,
        task: Task,
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        """workers: None for one a core. address: a running Ray cluster's, instead of our own.

        Raises WardroundError: FLWR_VERSION, CONFIGURATION where Ray is not installed.
        """
        require_flower()
        require(Extra.RAY)
        seeds = {site: os.urandom(32) for site in sorted(cohorts)}
        self._roster = {site: _identity(seed).public_key.hex() for site, seed in seeds.items()}
        reference = (task.name, dict(task.options))
        shared = _SharedInput(study.document, reference, seeds, dict(cohorts))
        cores = min(os.cpu_count() or 1, len(cohorts))
        self._fleet = RayFleet(shared, workers or cores, address)

    def __enter__(self) -> Self:
        try:
            self._fleet.start()
        except BaseException:
            self._fleet.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._fleet.close()

    def run(
        self,
        study: Study,
        task: Task,
        listener: Listener,
        *,
        checkpoint: Path | None = None,
        start: Vector | None = None,
    ) -> Outcome:
        """Raises what `RoundLoop.run` raises."""
        return run_rounds(study, task, self._fleet, self._roster, listener, checkpoint, start)


# --- in a worker ---
def answer_in_worker(shared: Any, sites: list[str], message: Message, context: Context) -> Message:
    """One message to one site, whose state comes with the context and goes back in it."""
    from flwr.app import ConfigRecord

    station, name = _station(shared), sites[int(context.node_config["partition-id"])]
    if _STATE in context.state:
        site = station.thaw(name, _bytes(context.state.config_records[_STATE]["frozen"]))
    else:
        site = station.site(name)
    reply = _reply(message, site.answer(_frame_of(message)))
    context.state[_STATE] = ConfigRecord({"frozen": station.freeze(site)})
    return reply


@functools.lru_cache(maxsize=1)
def _station(shared: Any) -> WorkerContext:
    """This worker's study, task and keys; made once. A cohort is read when its site is needed."""
    import ray

    read: _SharedInput = ray.get(shared)
    return WorkerContext(
        Study.parse(read.document),
        registry.load(*read.task),
        {site: _identity(seed) for site, seed in read.seeds.items()},
        lambda site: ray.get(read.cohorts[site]),
    )


def _identity(seed: bytes) -> Identity:
    """A simulated site's identity, the same in every worker."""
    return Identity(Ed25519PrivateKey.from_private_bytes(seed))


def _reply(message: Message, frame: Frame) -> Message:
    from flwr.app import Message

    return Message(_content(frame), reply_to=message)


def _content(frame: Frame) -> RecordDict:
    from flwr.app import ConfigRecord, RecordDict

    record = ConfigRecord({"header": frame.header, "body": b"".join(frame.body)})
    return RecordDict({"frame": record})


def _frame_of(message: Message) -> Frame:
    """Raises WardroundError(INTERNAL) where a worker failed instead of answering."""
    if message.has_error():
        reason = [line for line in str(message.error.reason).splitlines() if line.strip(" '>")]
        raise WardroundError(
            Code.INTERNAL,
            f"A worker of Flower's engine failed: {reason[-1][:300] if reason else 'unknown'}",
            remedy="Workers import from the same places as this process: run from a folder without "
            "packages called protocol, tasks, client, server or launch of its own.",
        )
    record = message.content.config_records["frame"]
    body = _bytes(record["body"])
    return Frame(_bytes(record["header"]), [body] if body else [])


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise WardroundError(Code.MESSAGE, "A Flower record is not what was put into it.")
    return value


def _broken(error: BaseException) -> WardroundError:
    return WardroundError(
        Code.INTERNAL,
        f"Flower's simulation engine did not start ({type(error).__name__}).",
        remedy="Ray's own log is under /tmp/ray/session_latest/logs; federation=inprocess needs no "
        "Ray.",
    )
