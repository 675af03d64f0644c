"""What is found of one hospital in all memory, disk and wire of a coordinator: nothing.

Two studies run on a real coordinator with MLflow, one exact and one with noise. Its process keeps
every frame and dumps its memory right after it has opened sums. The search knows, from the diaries
of the sites, every number that each of them contributed.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from launch.demo.mlflow_app import USER
from launch.demo.mlflow_server import MlflowServer
from protocol.secagg.aggregate import GUARDS, ShareSum
from protocol.study.study import Study
from protocol.wire import messages
from tests.attack.needles import Needles, files
from tests.attack.recorded import coordinate, read_frames
from tests.attack.sites import SITES, TASK, Ring, canary, odd_value
from tests.forked import child
from tests.waiting import HUNG

pytestmark = pytest.mark.timeout(1000)

EXACT = (
    "privacy=none",
    "privacy.sampling_rate=1",
    "local_steps=1",
    "rounds=2",
    "evaluation.every=1",
)
NOISED = ("privacy=distributed", "privacy.epsilon=20", "privacy.sampling_rate=1", "rounds=2")


@dataclass(frozen=True)
class Kept:
    """All that was kept of the coordinator, and the studies that it ran."""

    ring: Ring
    record: Path
    mlflow: Path
    studies: tuple[Study, ...]
    written: tuple[str, ...]
    """By the researcher and the operator, before any hospital counted anything."""

    @property
    def dumps(self) -> list[Path]:
        return sorted(self.record.glob("*.dump"))

    @property
    def everything(self) -> list[Path]:
        """Frames, memory, folder, event log, console, MLflow's database, artifacts and log."""
        return list(files(self.record, self.ring.coordinator.folder, self.mlflow))

    def shares(self, study: Study) -> dict[int, dict[str, bytes]]:
        """Attempt -> site -> the bytes of its masked share."""
        found: dict[int, dict[str, bytes]] = {}
        for direction, site, header, body in read_frames(self.record):
            if direction == "received":
                message = messages.parse(messages.Frame(header))
                if isinstance(message, messages.Share) and message.study == study.digest:
                    found.setdefault(message.attempt, {})[site] = body
        return found


@pytest.fixture(scope="module")
def kept(ring: Ring, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    studies = [ring.study(*EXACT), ring.study(*NOISED)]
    own = [ring.coordinator.folder / name for name in ("coordinator.yaml", "roster.json")]
    written = [path.read_text() for path in own]
    for study, configuration in studies:
        written += [study.document.decode(), json.dumps(configuration)]
    ring.link.stop()
    with MlflowServer(folder / "mlflow", ring.mlflow_port) as server:
        password = server.password.read_text().strip()
        login = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": password}
        (folder / "record").mkdir()
        submitted = [(study.document, configuration) for study, configuration in studies]
        process = child(
            coordinate, str(ring.coordinator.folder), str(folder / "record"), submitted, login
        )
        process.join(3 * HUNG)
        ended = process.exitcode
        process.kill()
    assert ended == 0, (folder / "record" / "coordinator.log").read_text()
    ring.listen()
    yield Kept(
        ring,
        folder / "record",
        folder / "mlflow",
        tuple(study for study, _ in studies),
        tuple(written),
    )
    ring.until_online()


@pytest.fixture(scope="module")
def secrets(kept: Kept) -> Needles:
    """Updates and histograms before and after noise, patients, values: all that is one site's."""
    needles = Needles()
    for study in kept.studies:
        for attempt in kept.shares(study):
            diaries = {site: kept.ring.diary(site, study, attempt) for site in SITES}
            for what, of in (("update", ("x",)), ("noised update", ("x", "e"))):
                values = {s: np.sum([d[part] for part in of], axis=0) for s, d in diaries.items()}
                total = np.sum(list(values.values()), axis=0)
                for site, numbers in values.items():
                    needles.add_numbers(f"{what} of {site}, attempt {attempt}", numbers, total)
            scores = slice(study.model.parameters, None)
            counts = {s: d["x"][scores] // study.evaluation.scale for s, d in diaries.items()}
            total = np.sum(list(counts.values()), axis=0)
            for site, numbers in counts.items():
                needles.add_numbers(f"histogram of {site}", numbers, total)
    for site in SITES:
        needles.add(f"patient of {site}", canary(site).encode())
        needles.add(f"value of {site}", np.float64(odd_value(site)).tobytes())
        needles.add(f"value of {site} as text", repr(odd_value(site)).encode())
    return needles


def test_both_studies_ran_to_their_end_under_masks(kept: Kept) -> None:
    for study in kept.studies:
        folder = kept.ring.coordinator.state / "studies" / study.digest
        assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
        assert study.aggregation.masked
        assert [sorted(by) for by in kept.shares(study).values()] == [list(SITES)] * 3
    assert len(kept.dumps) == 2
    assert min(path.stat().st_size for path in kept.dumps) > 1_000_000


def test_the_opened_sums_are_the_sites_own_to_the_bit(kept: Kept) -> None:
    for study in kept.studies:
        for attempt, shares in kept.shares(study).items():
            diaries = [kept.ring.diary(site, study, attempt) for site in SITES]
            truth = np.sum([d["x"] + d["e"] for d in diaries], axis=0)
            opening = ShareSum(SITES, len(truth), study.aggregation.word_bits)
            for site, share in shares.items():
                opening.fold(site, [share])
            np.testing.assert_array_equal(opening.open(), truth)


def test_nothing_of_one_hospital_is_anywhere(kept: Kept, secrets: Needles) -> None:
    assert len(secrets) > 3000
    searched = kept.everything
    assert {"frames.bin", "mlflow.db", "events.log", "coordinator.log"} <= {
        p.name for p in searched
    }
    found = {str(path): names for path in searched if (names := secrets.within_file(path))}
    assert not found


def test_the_same_search_finds_the_sum_in_the_same_memory(kept: Kept) -> None:
    """And a hospital's numbers where they are: in its own diary."""
    study, sums = kept.studies[0], Needles()
    diaries = [kept.ring.diary(site, study, 2) for site in SITES]
    sums.add_numbers("sum", np.sum([d["x"] for d in diaries], axis=0))
    assert "sum as words" in sums.within_file(kept.dumps[0])
    alone = Needles()
    alone.add_numbers("update", diaries[0]["x"])
    name = f"{study.digest[:12]}-2-x.npy"
    assert "update as int64" in alone.within_file(kept.ring.folder / SITES[0] / "diary" / name)


def numbers_in(text: str) -> set[int]:
    """Of three to five digits; sizes, processes and HTTP's status are no numbers of patients, and
    a group of the card's calibration is of all hospitals' patients, as many as it may be."""
    text = re.sub(r"(\| group \d+ \| )[^|]*", r"\1", text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(bytes_\w+|\w+_bytes|pid|process|HTTP/1.1)\W+\d+", "", text)
    return {int(found) for found in re.findall(r"(?<![\w.:-])(\d{3,5})(?![\w.:-])", text)}


def test_no_count_of_one_hospital_stands_in_any_text(kept: Kept) -> None:
    """Numbers of patients that train, that evaluate, by label: in no JSON, log, table or header."""
    counts: set[int] = set()
    exact = kept.studies[0]
    bins = exact.evaluation.bins
    for site in SITES:
        histogram = kept.ring.diary(site, exact, 3)["x"][-2 * bins :] // exact.evaluation.scale
        benign, malignant = int(histogram[:bins].sum()), int(histogram[bins:].sum())
        rows = len((kept.ring.folder / f"{site}.csv").read_text().splitlines()) - 1
        counts |= {benign, malignant, benign + malignant, rows, rows - benign - malignant}
    known = {number for text in kept.written for number in numbers_in(text)}
    counts = {count for count in counts if count > 300} - known - {datetime.now().year}
    assert len(counts) >= 12
    texts = {
        str(path): path.read_text(errors="replace")
        for path in kept.everything
        if path.suffix in {".json", ".jsonl", ".log", ".md", ".yaml", ".yml", ".txt"}
        or path.name == "MLmodel"
    }
    with sqlite3.connect(kept.mlflow / "mlflow.db") as db:
        texts["mlflow.db"] = "\n".join(r for r in db.iterdump() if r.startswith("INSERT"))
    texts["headers"] = "\n".join(h.decode() for _, _, h, _ in read_frames(kept.record))
    for path, text in texts.items():
        found = numbers_in(text) & counts
        assert not found, (
            f"{path}: {[line for line in text.splitlines() if numbers_in(line) & found]}"
        )
    assert TASK in texts["mlflow.db"]


def test_a_share_is_uniform_and_unlike_what_it_hides(kept: Kept) -> None:
    """Chi-square on the bytes of all shares, once in a million by chance; the same test on what
    they hide is hopeless."""
    masked, hidden = [], []
    for study in kept.studies:
        for attempt, shares in kept.shares(study).items():
            for site, share in shares.items():
                masked.append(np.frombuffer(share, np.uint8)[: -GUARDS * 4])
                diary = kept.ring.diary(site, study, attempt)
                words = (diary["x"] + diary["e"]).astype(np.uint32)
                hidden.append(words.view(np.uint8))

    def p_value(parts: list[np.ndarray]) -> float:
        counts = np.bincount(np.concatenate(parts), minlength=256)
        return float(stats.chisquare(counts).pvalue)

    assert p_value(masked) > 1e-6
    assert p_value(hidden) < 1e-6
