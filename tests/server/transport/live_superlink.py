"""A coordinator with its PKI, and sites as processes, for the tests of the federation."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from client.transport.node_key import create_node_key
from protocol.wire.messages import Frame
from server.enrolment.certificates import Pki
from server.transport.superlink import SuperLink, SuperLinkConfig
from tests.waiting import until

Answers = list[tuple[str, Frame | None]]
"""What `SuperLink.ask` yields."""
ECHO = Path(__file__).with_name("echo_site.py")
SELDOM = 1800.0
"""Seconds of the longest heartbeat: no site counts as gone because it was slow to beat."""


@dataclass
class Door:
    """A running coordinator, and what its sites need to reach it."""

    link: SuperLink
    pki: Pki
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def event_log(self) -> Path:
        return self.folder / "events.jsonl"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def register(self, *names: str) -> None:
        for name in names:
            self.link.register(name, create_node_key(self.key(name)))

    def connection(self, name: str) -> FleetConnection:
        """A site in this process, registered before."""
        return FleetConnection(
            FleetConfig(
                self.link.address, self.pki.ca_certificate, self.key(name), heartbeat=SELDOM
            )
        )

    def launch(self, names: Sequence[str], work: float = 0.0) -> subprocess.Popen[bytes]:
        """One process for `names`, registered before, that works so many seconds on an answer."""
        process = subprocess.Popen(
            [sys.executable, str(ECHO), self.link.address, str(self.pki.ca_certificate), str(work)]
            + [str(self.key(name)) for name in names]
        )
        self.processes.append(process)
        return process

    def wait_online(self, *names: str) -> None:
        until(lambda: set(names) <= self.link.online(), f"{names} are online")

    def is_waiting(self, *names: str) -> bool:
        """Both calls of an idle site are held here: for a question, and as its heartbeat."""
        nodes = [self.link._nodes[name] for name in names]
        return all(self.link._gateway._held.get(node) == 2 for node in nodes)

    def has_question(self, name: str) -> bool:
        """A question has been handed out to the site."""
        messages = [
            message.metadata for message in list(self.link._state.message_ins_store.values())
        ]
        node = self.link._nodes[name]
        return any(found.dst_node_id == node and found.delivered_at for found in messages)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.event_log.read_text().splitlines()]

    def objects_held(self) -> int:
        """Objects and messages in Flower's stores."""
        state = self.link._state
        return (
            len(state.object_store) + len(state.message_ins_store) + len(state.message_res_store)
            + len(state._object_push_sessions) + len(state._exchanges)
        )  # fmt: skip


@contextmanager
def open_door(folder: Path, **settings: Any) -> Iterator[Door]:
    pki = Pki(folder / "pki")
    if not pki.ca_certificate.exists():
        pki.create("Test", ["localhost", "127.0.0.1"])
    config = SuperLinkConfig(
        pki.certificate,
        pki.private_key,
        event_log=folder / "events.jsonl",
        **settings,
    )
    with SuperLink(config) as link:
        door = Door(link, pki, folder)
        try:
            yield door
        finally:
            for process in door.processes:
                process.kill()
                process.wait()
