"""A receiver beside a PACS: nothing acknowledged is lost, and no sender is kept out.

python bench/pacs.py [--minutes 3]

Orthanc, with its default settings, pushes whole studies (images, a multi-frame one, and reports, a
segmentation and a private object between them), and a scanner sends its own; the port is probed
every second, a sender stalls in the middle of an object, `wardround-site index` runs beside it, and
the receiver is killed every 40 seconds (every two minutes where the run is longer than five).

acknowledged_objects_lost       images acknowledged that are not in the store, whole
acknowledged_images_not_indexed of the same
associations_refused            of the PACS and the scanner, by what the receiver logged
pushes_failed                   with the receiver alive throughout
two_gigabytes_refused           an object of 2 GiB is answered A700, and the next one is stored
receiver_instances_per_second   afterwards, with probes and the stalled sender: four storescu,
                                objects of 0.5 MB, each acknowledged after fsync of file and folder
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from pydicom import dcmread

from client.config.site_config import SiteConfig
from client.data.dicom.index.index import ImageIndex
from client.enrolment.new_site import init
from client.enrolment.site_template import SiteAnswers
from launch.demo.local_ports import free_port
from support.figure import figure, load
from support.pacs import (
    PACS,
    SCANNER,
    STALLED,
    TITLE,
    Acknowledged,
    Around,
    Life,
    Orthanc,
    Sender,
    fragment,
    request,
    scan,
    store_command,
    study,
)
from support.radiographs import DX, radiograph, written

SENDERS, OBJECTS = 4, 400
_SCRIPT = str(Path(sys.executable).with_name("wardround-site"))
_TWO_GIB, _PIECE = 2 << 30, 1 << 20


class Receiver:
    """`wardround-site receive` in a process of its own, to be killed and begun again."""

    def __init__(self, site: Path, life: Life) -> None:
        self._site, self._life = site, life
        self.log = site / "receive.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            began = log.tell()
            command = [_SCRIPT, "receive", "--log", "json", "-c", str(self._site)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        while not any(each["event"] == "listening" for each in self.events(began)):
            if self._process.poll() is not None:
                raise RuntimeError(f"The receiver ended: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)
        self._life.number += 1
        self._life.up.set()

    def end(self, how: signal.Signals) -> None:
        self._life.up.clear()
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        lines = self.log.read_bytes()[since:].decode().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def resident(self) -> int:
        """Bytes."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def made(folder: Path, port: int) -> Path:
    site = folder / "site"
    init(site, SiteAnswers(site="alpha"))
    receiver = {
        "listen": f"127.0.0.1:{port}",
        "calling": [PACS, SCANNER, STALLED, "STORESCU"],
        "quiet": 5,
        "floor": "1 MiB",
    }
    with (site / "site.yaml").open("a") as file:
        yaml.safe_dump({"imaging": {"receiver": receiver}}, file)
    return site


def pushing(folder: Path, port: int, receiver: Receiver, life: Life, minutes: float) -> list[bool]:
    told, site = Acknowledged(), folder / "site"
    kill_every = 40.0 if minutes <= 5 else 120.0
    kills = 0
    with Orthanc(folder / "pacs", port, told) as pacs, Around(port) as around:
        senders = [Sender(life, pacs.push, 0), Sender(life, scan(port, told), 1_000_000)]
        for sender in senders:
            sender.start()
        began = time.monotonic()
        while (left := began + 60 * minutes - time.monotonic()) > 0:
            subprocess.run([_SCRIPT, "index", "-c", str(site)], capture_output=True, check=True)
            time.sleep(max(0.0, min(kill_every, left - 1)))
            if left > kill_every:
                receiver.end(signal.SIGKILL)
                kills += 1
                receiver.start()
        life.over.set()
        for sender in senders:
            sender.join()
        spent = time.monotonic() - began
    subprocess.run([_SCRIPT, "index", "-c", str(site)], capture_output=True, check=True)
    lost, unindexed = held_against(site, told)
    events = receiver.events()
    rejected = [e for e in events if e["event"] == "association rejected"]
    refused = sum(e.get("title") in (PACS, SCANNER) for e in rejected)
    failed = [why for sender in senders for why in sender.failed]
    interrupted = sum(sender.interrupted for sender in senders)
    images = len(told.objects)
    return [
        figure(
            "acknowledged_objects_lost", lost, "objects", 0, of=images,
            per_second=round(told.answers / spent, 1), kills=kills, interrupted=interrupted,
            studies_of_the_pacs=senders[0].pushed, studies_of_the_scanner=senders[1].pushed,
            probes=around.probes, stalls=around.stalls, load=load(),
        ),
        figure("acknowledged_images_not_indexed", unindexed, "objects", 0, of=images),
        figure("associations_refused", refused, "associations", 0),
        figure(
            "pushes_failed", len(failed), "pushes", 0, why=" | ".join(failed[:3]),
            told=str(dict(Counter(f"{e['event']} {e.get('why', '')}" for e in events))),
        ),
    ]  # fmt: skip


def held_against(site: Path, told: Acknowledged) -> tuple[int, int]:
    """How many acknowledged images are not whole in the store, and how many not in the index."""
    config = SiteConfig.load(site / "site.yaml")
    assert config.imaging is not None
    store = config.imaging.store(config.state)
    assert store is not None
    with ImageIndex.open(config.state, config.imaging.gate) as index:
        names, known = index.names, index.known(store)
    lost = unindexed = 0
    for (study_uid, instance), digest in told.objects.items():
        path = store / names.of(study_uid) / f"{names.of(instance)}.dcm"
        unindexed += path not in known
        whole = path.exists() and hashlib.sha256(dcmread(path).PixelData).hexdigest() == digest
        lost += not whole
    return lost, unindexed


def two_gigabytes(port: int, receiver: Receiver, told: Acknowledged) -> bool:
    """As PDUs, since no sender here would hold such an object."""
    before = receiver.resident()
    with socket.create_connection(("127.0.0.1", port), 60.0) as line:
        line.sendall(request(SCANNER, DX))
        line.recv(1 << 16)
        line.sendall(fragment(store_command(DX, "1.2.3"), command=True, last=True))
        piece = fragment(b"\0" * _PIECE)
        for _ in range(_TWO_GIB // _PIECE):
            line.sendall(piece)
        line.sendall(fragment(b"\0\0", last=True))
        answer = line.recv(1 << 16)
    refused = b"\0\0\0\x09\2\0\0\0\0\xa7" in answer  # (0000,0900) Status, PS3.7, section 9.3.1.2
    grown = (receiver.resident() - before) >> 20
    taken = not scan(port, told)(study(2_000_000, 512))
    return figure("two_gigabytes_refused", refused and taken, "yes", 1, least=True, grown_mib=grown)


def receiving(folder: Path, port: int, site: Path) -> bool:
    for n in range(OBJECTS):
        dataset = radiograph(10_000_000 + n, side=512)
        written(dataset, folder / f"out{n % SENDERS}" / f"{n}.dcm")
    with Around(port):
        send = ["storescu", "-aec", TITLE, "127.0.0.1", str(port), "+sd"]
        began = time.monotonic()
        all_ = [subprocess.Popen([*send, str(folder / f"out{n}")]) for n in range(SENDERS)]
        if any(sender.wait() for sender in all_):
            raise RuntimeError("a sender failed")
        rate = OBJECTS / (time.monotonic() - began)
    return figure("receiver_instances_per_second", rate, "1/s", 100, least=True, load=load())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as name:
        folder, port, life = Path(name), free_port(), Life()
        receiver = Receiver(made(folder, port), life)
        receiver.start()
        try:
            held = pushing(folder, port, receiver, life, minutes)
            held.append(two_gigabytes(port, receiver, Acknowledged()))
            held.append(receiving(folder, port, folder / "site"))
        finally:
            receiver.end(signal.SIGTERM)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
