"""Imaging: how fast pictures come in, are indexed and are read again; what the gate sees; fuzz.

python bench/dicom.py

receiver_instances_per_second   `wardround-site receive` in a process of its own, dcmtk's
                                storescu in four more; objects of 0.5 MB over loopback, each
                                acknowledged after fsync of file and folder
index_headers_per_second        2,000 files of 0.5 MB, two workers, start-up included
cached_over_decoded             seconds an image: decoded, windowed and resized from 2,048 x
                                2,048 x 16 bits, over read from the mapped cache (2,000
                                pictures of 224 x 224 in random batches of 64); one thread
mutated_files_unanswered        of 2,000 mutated files: no row in the index, or over 5 s
identifiers_in_outputs          of the same run: outputs that hold a planted name or number
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path

import numpy as np
import yaml

from client.data.dicom.index import report
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.index.pixel_cache import CacheEntry, PictureCache
from client.data.dicom.isolated_workers import isolated
from client.data.dicom.objects.gate import GatePolicy
from client.data.dicom.objects.header import quiet
from client.data.dicom.pixels.preprocessing import PreparedPicture, Preprocessing, prepare_picture
from client.enrolment.new_site import init
from client.enrolment.site_template import SiteAnswers
from support.figure import figure, load
from support.gone_through import gone_through
from support.mutations import mutations
from support.radiographs import CANARIES, radiograph, sparse, written

SENDERS, OBJECTS = 4, 400
HEADERS = 2000
PICTURES, DECODED = 2000, 24
MUTATED = 2000


def receiving(folder: Path) -> list[bool]:
    """Four storescu at once, then one alone."""
    for number in range(SENDERS + 1):
        for k in range(OBJECTS // SENDERS):
            n = number * OBJECTS // SENDERS + k
            written(radiograph(n, side=512), folder / f"out{number}" / f"{n}.dcm")
    site = folder / "site"
    init(site, SiteAnswers(site="alpha"))
    receiver = {"listen": "127.0.0.1:0", "calling": ["STORESCU"], "quiet": 3600, "floor": "1 MiB"}
    with (site / "site.yaml").open("a") as file:
        yaml.safe_dump({"imaging": {"receiver": receiver}}, file)
    command = [str(Path(sys.executable).with_name("wardround-site")), "receive", "--log", "json"]
    with subprocess.Popen([*command, "-c", str(site)], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        port = json.loads(server.stderr.readline())["address"].rpartition(":")[2]

        def send(numbers: range) -> float:
            """Objects a second."""
            send_one = ["storescu", "-aec", "WARDROUND", "127.0.0.1", port, "+sd"]
            began = time.monotonic()
            all_ = [subprocess.Popen([*send_one, str(folder / f"out{n}")]) for n in numbers]
            if any(sender.wait() for sender in all_):
                raise RuntimeError("a sender failed")
            return len(numbers) * (OBJECTS // SENDERS) / (time.monotonic() - began)

        together, alone = send(range(SENDERS)), send(range(SENDERS, SENDERS + 1))
        server.send_signal(signal.SIGTERM)
        server.stderr.read()
    stored = len(list((site / "state/dicom").glob("*/*.dcm")))
    if stored != OBJECTS + OBJECTS // SENDERS:
        raise RuntimeError("not every object was stored")
    shutil.rmtree(site)
    more = {"one_sender": round(alone, 1), "load": load()}
    return [figure("receiver_instances_per_second", together, "1/s", 100, least=True, **more)]


def indexing(folder: Path) -> list[bool]:
    for n in range(HEADERS):
        sparse(radiograph(n, side=512), folder / "in" / f"{n // 100}" / f"{n}.dcm")
    state = folder / "state"
    state.mkdir(mode=0o700)
    with ImageIndex.open(state, GatePolicy(detect_text=False)) as index:
        began = time.monotonic()
        tally = bring_up_to_date(index, [folder / "in"], workers=2)
        rate = HEADERS / (time.monotonic() - began)
        began = time.monotonic()
        again = bring_up_to_date(index, [folder / "in"], workers=2)
        unchanged = HEADERS / (time.monotonic() - began)
    if (tally.verdicts, again.unchanged) != ({"": HEADERS}, HEADERS):
        raise RuntimeError("not every header was read")
    more = {"unchanged_per_second": round(unchanged), "load": load()}
    return [figure("index_headers_per_second", rate, "1/s", 500, least=True, **more)]


def caching(folder: Path) -> list[bool]:
    made = Preprocessing(224, 224)
    files = [written(radiograph(n, side=2048), folder / f"{n}.dcm") for n in range(DECODED)]
    quiet()
    prepare_picture(files[0], made)  # loads what it needs
    began = time.monotonic()
    prepared = [prepare_picture(file, made) for file in files]
    decoded = (time.monotonic() - began) / DECODED
    pictures = [one.picture for one in prepared if one.picture is not None]
    state = folder / "state"
    state.mkdir(mode=0o700)
    with PictureCache.open(state, made) as cache:
        cache.add(
            CacheEntry(folder / f"{n}", (n, n), PreparedPicture(f"{n:064x}", pictures[n % DECODED]))
            for n in range(PICTURES)
        )
        stored = cache.pictures()
        order = np.random.default_rng(0).permutation(PICTURES)
        epochs = []
        for _ in range(3):
            began = time.monotonic()
            total = sum(
                int(stored[order[at : at + 64]][:, 0, 0].sum()) for at in range(0, PICTURES, 64)
            )
            epochs.append((time.monotonic() - began) / PICTURES)
    if total < 0 or len(stored) != PICTURES:
        raise RuntimeError("the cache lacks pictures")
    cached = min(epochs)
    more = {"decoded_per_second": round(1 / decoded, 1), "cached_per_second": round(1 / cached)}
    ratio = decoded / cached
    return [figure("cached_over_decoded", ratio, "times", 200, least=True, **more, load=load())]


def slowest(files: list[Path]) -> bool:
    answers = isolated(gone_through, (), files, workers=2, seconds=60.0, slow=60.0, crashed=-1.0)
    seconds = [spent for _, spent in answers]
    return figure(
        "slowest_mutated_file", max(seconds), "s", 5.0, of=len(files),
        workers_ended=seconds.count(-1.0),
    )  # fmt: skip


def fuzzing(folder: Path) -> list[bool]:
    root = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
    public = sorted((root / "dicom").rglob("*.dcm"))
    own = [written(radiograph(n), folder / f"seed{n}.dcm") for n in range(0, 8, 2)]
    files = mutations(own * (1 + len(public) // 8) + public, folder / "in", MUTATED)
    state, page, screen = folder / "state", folder / "report.html", StringIO()
    state.mkdir(mode=0o700)
    from rich.console import Console

    with ImageIndex.open(state) as index:
        tally = bring_up_to_date(index, [folder / "in"], workers=2)
        found = report.of(index)
        report.show(found, Console(file=screen))
        report.write_html(found, page, "alpha")
        said = json.dumps([report.plain(found), index.ready()])
    slow = tally.verdicts.get("took too long to read", 0)
    outputs = [screen.getvalue().encode(), said.encode(), page.read_bytes()]
    outputs += [path.read_bytes() for path in state.iterdir()]
    leaks = sum(any(canary in output for canary in CANARIES) for output in outputs)
    missing = len(files) - sum(tally.verdicts.values()) + slow
    kinds = len(tally.verdicts)
    ended = tally.verdicts.get("ended the process that read it", 0)
    return [
        slowest(files),
        figure("mutated_files_unanswered", missing, "files", 0, of=MUTATED, verdicts=kinds,
               workers_ended=ended),
        figure("identifiers_in_outputs", leaks, "outputs", 0, of=len(outputs)),
    ]  # fmt: skip


def main() -> int:
    held: list[bool] = []
    for part in (receiving, indexing, caching, fuzzing):
        with tempfile.TemporaryDirectory(prefix="wardround-bench-") as folder:
            held += part(Path(folder))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
