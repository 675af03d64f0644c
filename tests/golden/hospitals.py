"""The hospitals beside the one whose folder is kept: their keys, real site code, the real client.

They keep no ledger, like the simulated sites of a federation in one process. Their records are
those of the plug-in's task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from client.cohorts.query_counts import QueryContributor
from client.config.known_roster import KnownRoster
from client.daemon.site import Site
from client.data.cohort import Cohort
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from launch.federations.inprocess import SimulatedGovernance, split_of
from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.wire.messages import Frame
from tasks.query_schema import records_schema
from tasks.schema import Table
from tests.waiting import HUNG

IDENTITY, NODE_KEY = "identity.pem", "node.pem"
Heard = Callable[[str, Frame, bool], None]
"""Told (site, frame, whether the site sent it) of every frame, before it goes on its way."""


class OtherHospitals:
    """Each has a folder of its own under `folder`, with its two keys, and a thread."""

    def __init__(
        self,
        folder: Path,
        roster: Mapping[str, str],
        tables: Mapping[str, Table],
        heard: Heard = lambda site, frame, sent: None,
    ) -> None:
        """roster: site -> public identity key in hex, of all sites."""
        self.names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.governance = {name: SimulatedGovernance() for name in self.names}
        self._folder, self._heard = folder, heard
        self._sites = {name: self._site(name, roster, tables[name]) for name in self.names}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: list[FleetConnection] = []

    def connect(self, address: str, ca: Path) -> None:
        """Each to the coordinator at `address` (host:port)."""
        for name in self.names:
            config = FleetConfig(address, ca, self._folder / name / NODE_KEY)
            connection = FleetConnection(config)
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(name, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def disconnect(self) -> None:
        self._stopping.set()
        for connection in self._connections:
            connection.close()
        for thread in self._threads:
            thread.join(HUNG)

    def _site(self, name: str, roster: Mapping[str, str], table: Table) -> Site:
        return Site(
            name,
            Identity.load(self._folder / name / IDENTITY),
            KnownRoster(roster),
            self.governance[name],
            lambda task, study: Cohort.build(task, table, split_of(name), study.evaluation),
            respondent=lambda task, study: QueryContributor.of(
                study, records_schema(task.schema, task.outcome), table
            ),
        )

    def _serve(self, name: str, connection: FleetConnection) -> None:
        with connection:
            while not self._stopping.is_set():
                try:
                    delivery = connection.receive(wait=1)
                    if delivery is None:
                        continue
                    self._heard(name, delivery.frame, False)
                    answer = self._sites[name].answer(delivery.frame)
                    self._heard(name, answer, True)
                    connection.reply(delivery, answer)
                except WardroundError:
                    continue
