"""Whether the index of images has changed, by whatever other connection, is never missed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.data.dicom.index.changes import IndexChanges
from client.data.dicom.index.index import FILE, ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from tests.client.data.dicom.dicom_files import radiograph, written


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def taken_in(state: Path, *numbers: int) -> None:
    files = state.parent / "pacs"
    for number in numbers:
        said: dict[str, Any] = {"SOPInstanceUID": f"1.2.3.{number}"}
        said["SeriesInstanceUID"] = f"1.2.4.{number}"
        written(radiograph(number, **said), files / f"{number}.dcm")
    with ImageIndex.open(state) as index:
        bring_up_to_date(index, [files])


def test_what_is_written_is_seen_once(state: Path) -> None:
    with IndexChanges(state) as changes:
        assert changes.seen()
        assert not changes.seen()
        taken_in(state, 1)
        assert changes.seen()
        assert not changes.seen()
        with ImageIndex.open(state) as index:
            assert len(index.ready()) == 1
        assert not changes.seen()  # reading is no change


def test_what_another_process_wrote_and_what_a_person_decided_is_seen(state: Path) -> None:
    taken_in(state, 1)
    with IndexChanges(state) as changes:
        changes.seen()
        code = (
            "from pathlib import Path\n"
            "from client.data.dicom.index.index import ImageIndex\n"
            f"with ImageIndex.open(Path({str(state)!r})) as index:\n"
            f"    index.forget([Path({str(state.parent / 'pacs' / '1.dcm')!r})])\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert changes.seen()
        taken_in(state, 2)
        changes.seen()
        with ImageIndex.open(state) as index:
            image = str(index.ready()[0]["image"])
            index.review([image], "withhold")
        assert changes.seen()


def test_an_index_that_was_removed_or_restored_is_another(state: Path) -> None:
    taken_in(state, 1)
    with IndexChanges(state) as changes:
        changes.seen()
        for file in state.glob(f"{FILE}*"):
            file.unlink()
        assert changes.seen()
        assert not changes.seen()
        taken_in(state, 2)
        assert changes.seen()
