"""What a model of 11 million parameters costs the coordinator in memory, with 4 sites and with 32.

    python bench/coordinator_memory.py

The coordinator is `wardround coordinator start`, a process of its own, over TLS with node
authentication. The sites are threads of this process behind the real Fleet client: they sign real
Readys, and answer every Collect with bytes prepared once (no masks: to the coordinator, which only
ever adds, words are words). Nothing of theirs counts.

baseline  the coordinator's resident set (VmRSS) with all sites connected, after a whole study of 14
          parameters: every library is loaded, no model of the big study exists yet.
peak      the most it was resident (VmHWM, reset at the baseline through /proc/PID/clear_refs) from
          there to the end of the big study: submission, two rounds of training, the closing
          evaluation, checkpoints, and the weights written at the end.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from client.transport.node_key import create_node_key
from launch.demo.consortium import CREDENTIALS, federate
from launch.federations.deployment import RemoteFederation
from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.secagg.aggregate import GUARDS
from protocol.secagg.context import Context
from protocol.secagg.party import Party
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire import messages
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.messages import Frame
from server.coordinator.config import CoordinatorConfig
from server.enrolment.roster import Roster
from support.deployment import run_study, start, until_online
from support.figure import figure, load
from support.tasks import ElevenMillion, NoOp, install
from tasks import registry

PARAMETERS = 11_000_000
MODEL = 4 * PARAMETERS
STUDY = (
    "privacy=none",
    "privacy.sampling_rate=1",
    "local_steps=1",
    "evaluation=exact",
    "evaluation.every=0",
    "rounds=2",
)
_WORDS: dict[tuple[int, int], npt.NDArray[np.uint32]] = {}
"""Prepared shares by length of update and histogram, the same for every site."""


def prepared(sections: Sections) -> npt.NDArray[np.uint32]:
    """An update of zeros, one patient in the last bin, and the guards."""
    key = (sections.update.stop, sections.length)
    if key not in _WORDS:
        words = np.zeros(sections.length + GUARDS, dtype=np.uint32)
        words[sections.histogram][-1:] = sections.study.evaluation.scale
        words[-GUARDS:] = 1
        _WORDS[key] = words
    return _WORDS[key]


@dataclass
class LightSite:
    """Speaks the protocol; has no patients, no policy and no ledger."""

    name: str
    identity: Identity
    roster: dict[str, str] = field(default_factory=dict)
    _studies: dict[str, Study] = field(default_factory=dict)
    _sections: Sections | None = None

    def answer(self, received: Frame) -> Frame:
        message = messages.parse(received)
        if isinstance(message, messages.Propose):
            study = Study.parse(message.document.encode())
            self._studies[study.digest] = study
            return messages.frame(messages.Standing(study=study.digest, state="accepted"))
        if isinstance(message, messages.Prepare):
            return self._ready(self._studies[message.study], message)
        if isinstance(message, messages.Collect) and self._sections is not None:
            share = messages.Share(
                study=message.study, round=message.round, attempt=message.attempt
            )
            return messages.frame(share, messages.chunks(prepared(self._sections)))
        if isinstance(message, messages.Close):
            return messages.frame(messages.Standing(study=message.study, state="closed"))
        raise TypeError(type(message).__name__)

    def _ready(self, study: Study, message: messages.Prepare) -> Frame:
        sections = Sections(study, train=message.train, evaluate=message.evaluate)
        context = Context(
            study=study.digest,
            kind=sections.kind,
            round=message.round,
            attempt=message.attempt,
            model=message.model,
            roster=tuple((site, self.roster[site]) for site in study.sites),
            exact=sections.exact,
        )
        ready = Party.begin(context, self.name, self.identity).ready
        self._sections = sections
        return messages.frame(
            messages.Ready(
                study=study.digest,
                round=message.round,
                attempt=message.attempt,
                site=self.name,
                context=ready.context,
                public_key=ready.public_key,
                signature=ready.signature,
            )
        )


class LightSites:
    """Sites that are threads of this process. A context manager."""

    def __init__(self, number: int, folder: Path, config: CoordinatorConfig) -> None:
        """Makes their keys and enrols them."""
        self._ending = threading.Event()
        self._threads, self._fleets = [], []
        names = [f"site{k:03d}" for k in range(number)]
        keys = {name: Identity.generate() for name in names}
        roster = {name: key.public_key.hex() for name, key in keys.items()}
        for name in names:
            node = create_node_key(folder / f"{name}.pem").decode()
            Roster(config.roster).add(
                EnrolmentCard(site=name, identity=roster[name], node_key=node), 100
            )
            fleet = FleetConnection(
                FleetConfig(
                    config.address, config.pki.ca_certificate, folder / f"{name}.pem", lines=1
                )
            )
            site = LightSite(name, keys[name], roster)
            self._fleets.append(fleet)
            self._threads.append(threading.Thread(target=self._serve, args=(fleet, site)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for fleet in self._fleets:
            fleet.close()
        for thread in self._threads:
            thread.join()

    def _serve(self, fleet: FleetConnection, site: LightSite) -> None:
        with fleet:
            while not self._ending.is_set():
                delivery = fleet.receive(10.0)
                if delivery is not None:
                    try:
                        fleet.reply(delivery, site.answer(delivery.frame))
                    except WardroundError as error:
                        print(f"{site.name}: {error}", file=sys.stderr)


def resident(pid: int, key: str) -> int:
    """Bytes: VmRSS (now) or VmHWM (the most)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(key)


def peak(
    sites: int, folder: Path, env: dict[str, str], task: str = ElevenMillion.name
) -> tuple[int, int, float]:
    """(bytes above the baseline at the peak, baseline, seconds of the task's study)."""
    folder.mkdir()
    config = federate(folder, {})
    light = LightSites(sites, folder, config)
    with ExitStack() as stack:
        where = str(config.folder)
        start(stack, folder / "coordinator.log", env, "wardround", "coordinator", "start", where)
        remote = stack.enter_context(RemoteFederation(folder / CREDENTIALS))
        until_online(remote, 0, folder)
        stack.enter_context(light)
        until_online(remote, sites, folder)
        run_study(remote, registry.load(NoOp.name), folder, STUDY)
        pid = int(json.loads((config.state / "status.json").read_bytes())["pid"])
        baseline = resident(pid, "VmRSS")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        started = time.monotonic()
        run_study(remote, registry.load(task), folder, STUDY)
        return resident(pid, "VmHWM") - baseline, baseline, time.monotonic() - started


def main() -> int:
    held, peaks = [], {}
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as name:
        folder = Path(name)
        env = install(folder)
        for sites in (4, 32):
            peaks[sites], baseline, seconds = peak(sites, folder / f"of{sites}", env)
            held.append(
                figure(
                    f"coordinator_memory_{sites}_sites",
                    peaks[sites] / MODEL,
                    "times the model's 44 MB, above the baseline",
                    4.0,
                    peak_mb=round(peaks[sites] / 1e6),
                    baseline_mb=round(baseline / 1e6),
                    seconds=round(seconds, 1),
                    load=load(),
                )
            )
    per_site = (peaks[32] - peaks[4]) / 28 / 1e6  # the buffers of its connections
    held.append(
        figure(
            "coordinator_memory_32_over_4",
            peaks[32] / peaks[4],
            "ratio",
            1.2,
            mb_per_site=round(per_site, 2),
        )
    )
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
