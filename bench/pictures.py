"""What a site holds while it trains on 50,000 pictures of 224 x 224, and how fast it reads them.

    python bench/pictures.py [--pictures N] [--folder FOLDER]

2.5 GB of made-up pictures are put into a site's own cache of pictures, in a temporary folder, and
trained on through the site's own code from there on: rows mapped from the cache, features, cohort,
samples, trainer. A child process holds one way of doing it, so that its memory is its own:

    loader   a cohort of a network's pictures; an epoch reads every picture as float32, in samples
             of a tenth of the patients, in parts of 64
    hog      features of the linear model on HOG are made of every picture (`chest_xray`, 224
             pixels), then an epoch: ten clipped sums over samples of a tenth of the patients

Memory is the greatest RssAnon (/proc/self/status) seen by a thread that looks every 20 ms. Before
each the file's pages are dropped from the page cache (posix_fadvise, which needs no rights), and
how much of it was still there is printed (`cached_before`, mincore). An epoch is the fastest of
three that follow a first one, beside the same with the same pictures, or the same features, in an
array in memory; the first one, from the disk, is printed as `first_s`. HOG of 50,000 pictures takes
a good while: `load_s`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from client.cohorts.feature_cache import features_of
from client.data.cohort import Cohort
from client.data.dicom.index.pixel_cache import CacheEntry, PictureCache
from client.data.dicom.pixels.preprocessing import PreparedPicture, Preprocessing
from client.data.stored_rows import Features, StoredRows
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Patients
from protocol.study.study import Evaluation
from support.figure import figure, load
from tasks import registry

SIDE, PICTURES = 224, 50_000
MADE = Preprocessing(SIDE, SIDE)
RATE, STEPS, PART = 0.1, 10, 64
GIB, TIMES = 2.0, 1.5
WAYS = ("loader", "hog")


def fill(state: Path, pictures: int) -> None:
    """Grey slopes and noise, each another picture."""
    drawn = np.random.default_rng(1)
    noise = drawn.integers(0, 64, (16, SIDE, SIDE), np.uint8)
    slope = np.linspace(1, 180, SIDE, dtype=np.uint8)
    with PictureCache.open(state, MADE) as cache:
        for start in range(0, pictures, 500):
            entries = []
            for number in range(start, min(start + 500, pictures)):
                turned = np.roll(slope, int(drawn.integers(SIDE)))
                picture = noise[number % 16] + (turned if number % 2 else turned[:, None])
                content = PreparedPicture(f"{number:064x}", picture.tobytes())
                entries.append(CacheEntry(Path(f"/{number}"), (number, number), content))
            cache.add(entries)


def drop(file: Path) -> float:
    """Drops a file from the page cache; the share of it that is there all the same."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        size = file.stat().st_size
        pages = -(-size // mmap.PAGESIZE)
        with mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_READ) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            seen = (ctypes.c_ubyte * pages)()
            libc = ctypes.CDLL(None, use_errno=True)
            at = ctypes.c_void_p(view.ctypes.data)
            failed = libc.mincore(at, ctypes.c_size_t(size), seen)
            del view
        return 1.0 if failed else float((np.frombuffer(bytes(seen), np.uint8) & 1).mean())


@contextmanager
def watched() -> Iterator[list[float]]:
    """The greatest RssAnon in GiB so far, as its one value."""
    most, done = [0.0], threading.Event()

    def look() -> None:
        while not done.is_set():
            lines = Path("/proc/self/status").read_text().splitlines()
            kib = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            most[0] = max(most[0], kib / 2**20)
            done.wait(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def cohort(state: Path, task: str, stored: StoredRows) -> Cohort:
    names = np.array([f"patient {number}" for number in range(len(stored))], dtype=object)
    table: dict[str, Features] = {
        "patient": names,
        "radiograph": stored,
        "pneumonia": np.arange(len(stored)) % 2 * 1.0,
    }
    made = registry.load("chest_xray", {"model": task, "pixels": SIDE})
    plan = Evaluation(release="exact", fraction=0.1)
    return Cohort.build(
        made, table, lambda name: int(name[8:]) / len(stored), plan, partial(features_of, state)
    )


def read_all(patients: Patients) -> None:
    """Every sample of an epoch, in the parts in which a network would take it."""
    total = 0.0
    for _ in range(STEPS):
        for part in patients.private_sample(RATE).parts(PART):
            total += float(part.features[:, 0, 0].sum())


def linear(learner: DPTrainer, patients: Patients) -> None:
    weights = learner.model.weights()
    for _ in range(STEPS):
        learner.clipped_sum(weights, patients.private_sample(RATE), 1.0, 1 << 12, "site")


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(way: str, state: Path) -> dict[str, float]:
    """In a process of its own."""
    torch.set_num_threads(2)
    file = next((state / "pictures").glob("*.u8"))
    cached = drop(file)
    with watched() as most:
        with PictureCache.open(state, MADE) as cache:
            stored = StoredRows.all_of(cache.pictures())
        found: list[Cohort] = []
        model = "cnn" if way == "loader" else "hog"
        loaded = timed(lambda: found.append(cohort(state, model, stored)))
        patients = Patients(found[0])
        if way == "loader":
            work: Callable[[Patients], None] = read_all
            drop(file)
        else:
            task = registry.load("chest_xray", {"model": "hog", "pixels": SIDE})
            work = partial(linear, DPTrainer(task, 0))
        first = timed(lambda: work(patients))
        epoch = min(timed(lambda: work(patients)) for _ in range(3))
        gib = most[0]
    features = np.asarray(found[0].features)
    held = Patients(replace(found[0], features=features))
    work(held)
    memory = min(timed(lambda: work(held)) for _ in range(3))
    return {
        "gib": gib,
        "cached_before": cached,
        "load_s": loaded,
        "first_s": first,
        "epoch_s": epoch,
        "in_memory_s": memory,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--folder", type=Path, help="for 2.5 GB and the features; removed after")
    parser.add_argument("--way", choices=WAYS, help="one way, in this process, as JSON")
    parser.add_argument("--state", type=Path, help="of --way")
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measure(asked.way, asked.state)))
        return 0
    holds = True
    with tempfile.TemporaryDirectory(prefix="wardround-bench-", dir=asked.folder) as name:
        state = Path(name)
        fill(state, asked.pictures)
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--state", name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = {key: round(value, 3) for key, value in json.loads(done.stdout).items()}
            gib, epoch, memory = (found.pop(key) for key in ("gib", "epoch_s", "in_memory_s"))
            found |= {"pictures": asked.pictures, "load": load()}
            name_of = f"pictures_{way}_memory"
            holds &= figure(name_of, gib, "GiB RssAnon", GIB, least=False, **found)
            times = epoch / memory
            holds &= figure(
                f"pictures_{way}_epoch", times, "times", TIMES, epoch_s=epoch, in_memory_s=memory
            )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
