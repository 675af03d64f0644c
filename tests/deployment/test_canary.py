"""Only sums leave a hospital: what it alone knows is looked for in all that others keep.

A canary stands in every site's data (an identifier, an odd value, a whole record), and every
site's updates, noise, masked shares, scores and score histograms are known from inside. None may
be found in MLflow's database and artifacts, in the coordinator's folder, in a log of either, or
with the data scientist. The same search finds the sum, and whatever is planted.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from protocol.study.study import Study
from tests.deployment.traces import Secret, contents, search

if TYPE_CHECKING:
    from tests.deployment.conftest import Finished

pytestmark = pytest.mark.timeout(1000)

SITES = ("east", "north", "south", "west")


@pytest.fixture(scope="module")
def study(demo: Finished) -> Study:
    return Study.parse((demo.output / "study.json").read_bytes())


@pytest.fixture(scope="module")
def secrets(demo: Finished, study: Study) -> list[Secret]:
    return [secret for site in SITES for secret in known_at(demo.record, site, study)]


@pytest.fixture(scope="module")
def kept(demo: Finished) -> dict[str, bytes]:
    """All that the coordinator, MLflow and the data scientist have, and the terminal showed."""
    folder = demo.folder
    places = [folder / "coordinator", folder / "mlflow", folder / "outputs"]
    places += [folder / "coordinator.log", folder / "bundle.json", folder / "demo.credentials.json"]
    assert all(place.exists() for place in places)
    return contents([*places, demo.command.out, demo.command.err])


def known_at(record: Path, site: str, study: Study) -> Iterator[Secret]:
    """What one hospital alone knows."""
    canary: dict[str, Any] = json.loads((record / "canaries.json").read_text())[site]
    yield Secret(f"patient of {site}", text=canary["patient"])
    yield Secret(f"value of {site}", number=canary["value"])
    yield Secret(f"record of {site}", vector=np.array(canary["record"]))
    yield Secret(f"features of {site}", vector=np.array(canary["features"], np.float32))
    parameters = study.model.parameters
    for path in sorted((record / site).glob("*-_scored.npy")):
        yield Secret(f"scores of {site}", vector=np.load(path))
    for path in sorted((record / site).glob("*-share.npy")):
        yield Secret(f"masked share of {site}", vector=np.load(path))
    given = [np.load(path) for path in sorted((record / site).glob("*-contribution.npy"))]
    noise = [np.load(path) for path in sorted((record / site).glob("*-noise.npy"))]
    assert len(given) == len(noise) > 30
    for contribution, share in zip(given, noise, strict=True):
        for name, vector in (("update", contribution), ("noised update", contribution + share)):
            update, counts = _sections(vector, parameters, study)
            if update is not None:
                yield Secret(f"{name} of {site}", vector=update)
                yield Secret(f"{name} of {site}", vector=update / study.aggregation.scale)
            if counts is not None and name == "update":
                yield from _histogram(site, counts, study)


def _sections(
    vector: npt.NDArray[np.int64], parameters: int, study: Study
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """(update, histogram) of a contribution, None for what it has not."""
    bins = 2 * study.evaluation.bins
    assert len(vector) in (parameters, bins, parameters + bins)
    trains, evaluates = len(vector) != bins, len(vector) != parameters
    update = vector[:parameters] if trains else None
    return update, vector[-bins:] if evaluates else None


def _histogram(site: str, counts: npt.NDArray[np.int64], study: Study) -> Iterator[Secret]:
    """Counts of patients, as they are and scaled: the whole histogram's bytes, and spelled out."""
    filled = np.flatnonzero(counts)
    assert filled[-1] - filled[0] >= 3, "four numbers or more: no chance finds them elsewhere"
    for scale in (1, study.evaluation.scale):
        told = counts[filled[0] : filled[-1] + 1] // scale
        for dtype in ("<u4", "<i8", "<f4", "<f8"):
            yield Secret(f"histogram of {site}", bytes=told.astype(dtype).tobytes())
        for comma in (",", ", ", " ", "\n"):
            yield Secret(f"histogram of {site}", text=comma.join(map(str, told.tolist())))


def test_what_a_hospital_alone_knows_is_nowhere_outside(
    secrets: list[Secret], kept: dict[str, bytes]
) -> None:
    names = {secret.name.rpartition(" of ")[0] for secret in secrets}
    assert names == {
        "patient",
        "value",
        "record",
        "features",
        "scores",
        "masked share",
        "update",
        "noised update",
        "histogram",
    }
    places = " ".join(kept)
    for part in ("mlflow.db", "server.log", "coordinator.log", "events.jsonl", "weights.npz"):
        assert part in places
    assert search(secrets, kept) == {}


def test_the_same_search_finds_the_sum_where_it_belongs(
    demo: Finished, kept: dict[str, bytes]
) -> None:
    sum_ = Secret("weights", vector=np.load(demo.output / "weights.npy"))
    for place in ("mlflow/artifacts", "coordinator/state", "outputs/"):
        within = {where: content for where, content in kept.items() if place in where}
        assert search([sum_], within), place
    elsewhere = {w: c for w, c in kept.items() if "weights" not in w and "checkpoint" not in w}
    assert search([sum_], elsewhere) == {}


def test_the_same_search_finds_each_secret_where_it_is_planted(
    demo: Finished, study: Study, secrets: list[Secret], tmp_path: Path
) -> None:
    by_name: dict[str, Secret] = {}
    for secret in secrets:
        if secret.vector is None or np.abs(secret.vector).max() > 99 or "update" not in secret.name:
            by_name.setdefault(secret.name.rpartition(" of ")[0], secret)
    update = by_name["update"].vector
    noised = by_name["noised update"].vector
    share = by_name["masked share"].vector
    features = by_name["features"].vector
    scores = by_name["scores"].vector
    record = by_name["record"].vector
    assert update is not None
    assert noised is not None
    assert record is not None
    assert share is not None
    assert features is not None
    assert scores is not None
    log = f"12:00:00 INFO oops {base64.b64encode(b'x' + by_name['patient'].text.encode())!r}"
    value = by_name["value"].number
    planted = {
        "patient": log.encode(),
        "value": json.dumps({"mean": value}).encode(),
        "update": b"?" + (update % 2**32).astype("<u4").tobytes(),
        "noised update": repr(noised.tolist()).encode(),
        "masked share": share.tobytes().hex().encode(),
        "features": features.astype("<f4").tobytes(),
        "histogram": by_name["histogram"].bytes,
    }
    np.savez_compressed(tmp_path / "scores.npz", scores=scores)
    for name, content in planted.items():
        (tmp_path / name).write_bytes(content)
    database = tmp_path / "z_mlflow.db"  # after the files that hold a part of what it holds
    database.write_bytes((demo.folder / "mlflow" / "mlflow.db").read_bytes())
    with closing(sqlite3.connect(database)) as db:
        (run,) = db.execute("SELECT run_uuid FROM runs").fetchone()
        db.execute("INSERT INTO tags VALUES ('oops', ?, ?)", (json.dumps(record.tolist()), run))
        db.commit()
    found = search(list(by_name.values()), contents([tmp_path]))
    for name, secret in by_name.items():
        place = {"scores": "scores.npz", "record": "z_mlflow.db"}.get(name, name)
        assert place in found[secret.name], name


def test_hospitals_keep_no_patient_outside_their_data(
    demo: Finished, secrets: list[Secret]
) -> None:
    """Ledger, audit log, status and the daemon's own log: they are shown to others, and backed
    up."""
    persons = [s for s in secrets if s.name.split()[0] in ("patient", "value", "record", "scores")]
    places = [demo.folder / site for site in SITES]
    places += [demo.folder / f"site-{site}.log" for site in SITES]
    assert search(persons, contents(places)) == {}
