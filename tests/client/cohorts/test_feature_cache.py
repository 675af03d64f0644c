"""Features of pictures in a file: those of all pictures at once, made in parts, within memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from client.cohorts import feature_cache
from client.cohorts.feature_cache import FOLDER, features_of
from client.data import stored_rows
from client.data.stored_rows import StoredRows, StoredTable
from protocol.errors import Code, WardroundError
from tasks import registry
from tasks.schema import Table
from tasks.shipped.chest_xray import ChestXray


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_rows, "CHUNK", 28 * 28 * 4)
    monkeypatch.setattr(feature_cache, "_IN_MEMORY", 0)


def stored(rows: int = 11) -> tuple[npt.NDArray[np.uint8], StoredTable]:
    pictures = np.random.default_rng(3).integers(1, 256, (rows, 28, 28), np.uint8)
    column = StoredRows.all_of(pictures[::-1].copy()).chosen(np.arange(rows)[::-1])
    return pictures, {"radiograph": column, "pneumonia": np.zeros(rows)}


def test_features_in_parts_are_those_of_all_at_once_and_lie_in_a_file_without_a_name(
    tmp_path: Path,
) -> None:
    pictures, table = stored()
    task = registry.load("chest_xray")
    made = features_of(tmp_path, task, table)
    assert isinstance(made, StoredRows)
    assert isinstance(made.stored.base, np.memmap) or isinstance(made.stored, np.memmap)
    np.testing.assert_array_equal(made[:], task.features({"radiograph": pictures}))
    assert not list((tmp_path / FOLDER).iterdir())


def test_pictures_that_a_network_takes_as_they_are_are_not_copied(tmp_path: Path) -> None:
    _, table = stored()
    task = registry.load("chest_xray", {"model": "cnn"})
    assert features_of(tmp_path, task, table) is table["radiograph"]
    assert not (tmp_path / FOLDER).exists()


class Sometimes(ChestXray):
    """Takes pictures as they are, unless one of them is dark."""

    def features(self, table: Table) -> npt.NDArray[Any]:
        pictures = table["radiograph"]
        return np.asarray(pictures if pictures.min(axis=(1, 2)).all() else pictures // 2)


def test_pictures_that_are_changed_only_somewhere_are_changed(tmp_path: Path) -> None:
    pictures, table = stored()
    column = table["radiograph"]
    assert isinstance(column, StoredRows)
    column.stored[0] = 0  # the last record's
    made = features_of(tmp_path, Sometimes(model="cnn"), table)
    np.testing.assert_array_equal(made[:8], pictures[:8])
    np.testing.assert_array_equal(made[8:10], pictures[8:10] // 2)
    assert not made[10].any()


class Merged(ChestXray):
    def features(self, table: Table) -> npt.NDArray[Any]:
        means = table["radiograph"].mean(axis=0, keepdims=True)
        return np.asarray(means, dtype=np.float32)


def test_features_that_are_not_one_row_a_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WardroundError, match="features of 4 rows") as caught:
        features_of(tmp_path, Merged(), stored()[1])
    assert caught.value.code is Code.INTERNAL


_LIMITED = """
import resource, sys, tempfile
from pathlib import Path
import numpy as np, torch
from client.cohorts.feature_cache import features_of
from client.data.cohort import Cohort
from client.data.stored_rows import StoredRows
from client.training.sampling import Patients
from protocol.study.study import Evaluation
from tasks import registry

torch.set_num_threads(1)
task = registry.load("chest_xray", {"model": "cnn", "pixels": 224})
folder = Path(sys.argv[1])
rows, one = 6000, 224 * 224
with (folder / "pictures.u8").open("wb") as file:
    file.truncate(rows * one)  # 290 MiB of black
pictures = np.memmap(folder / "pictures.u8", np.uint8, "r", shape=(rows, 224, 224))
table = {
    "patient": np.array([f"p{k // 2}" for k in range(rows)], object),
    "radiograph": StoredRows.all_of(pictures),
    "pneumonia": (np.arange(rows) // 2 % 2).astype(float),
}
used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + (250 << 20),) * 2)
build = lambda task, table: features_of(folder, task, table)
split, plan = lambda name: int(name[1:]) / rows * 2, Evaluation(release="exact")
cohort = Cohort.build(task, table, split, plan, build)
patients = Patients(cohort, task.varied)
sample = patients.private_sample(1.0)
assert len(sample) > 2000
for part in sample.parts(64):
    assert part.features.shape[1:] == (224, 224)
print(cohort.patients)
"""


def test_a_cohort_larger_than_its_memory_is_loaded_and_drawn_from(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-1500:]
    assert int(done.stdout) == 3000
