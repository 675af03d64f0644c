"""A person's decision is about the bytes that this person saw, and outlives the index."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from client.data.dicom.index import image_decisions
from client.data.dicom.index.index import FILE, ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.objects.gate import GatePolicy, Reason
from protocol.errors import WardroundError
from tests.client.data.dicom.dicom_files import radiograph, written

NO_LOOK = GatePolicy(detect_text=False)
IMAGE = str(radiograph(2).SOPInstanceUID)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tagged(tmp_path / "in/tagged", "CHEST")


def tagged(path: Path, part: str) -> Path:
    """One object whose header speaks against it; another part of the body is another content."""
    return written(radiograph(2, BurnedInAnnotation="YES", BodyPartExamined=part), path)


def verdict(index: ImageIndex, file: Path) -> str | None:
    bring_up_to_date(index, [file], workers=1)
    return next((aside.verdict for aside in index.kept_out()), None)


def test_a_release_survives_the_removal_of_the_index(state: Path, file: Path) -> None:
    with ImageIndex.open(state, NO_LOOK) as index:
        assert verdict(index, file) == Reason.BURNED_IN
        assert index.review([index.names.of(IMAGE)], "release") == 1
        assert verdict(index, file) is None
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):  # as every remedy advises
        (state / name).unlink(missing_ok=True)
    with ImageIndex.open(state) as index:  # with a look at the pixels, by which contents are known
        assert verdict(index, file) is None


def test_a_withheld_image_stays_withheld_until_what_it_now_holds_is_released(
    state: Path, file: Path
) -> None:
    with ImageIndex.open(state, NO_LOOK) as index:
        image = index.names.of(IMAGE)
        verdict(index, file)
        index.review([image], "withhold")
        tagged(file, "HAND")
        assert verdict(index, file) == Reason.WITHHELD
        index.review([image], "release")
        assert verdict(index, file) is None
        tagged(file, "CHEST")
        assert verdict(index, file) == Reason.WITHHELD


def test_a_key_of_the_sheet_names_what_was_looked_at(state: Path, file: Path) -> None:
    with ImageIndex.open(state) as index:
        verdict(index, file)
        (aside,) = index.kept_out()
        assert aside.image is not None
        assert aside.content is not None
        assert aside.key == f"{aside.image[:12]}-{aside.content[:12]}"
        assert index.whole_keys([aside.key]) == [f"{aside.image}-{aside.content}"]
        tagged(file, "HAND")
        assert verdict(index, file) == Reason.BURNED_IN
        with pytest.raises(WardroundError, match="no key"):
            index.whole_keys([aside.key])
        assert index.review([f"{aside.image}-{aside.content}"], "release") == 0
        assert verdict(index, file) == Reason.BURNED_IN


def test_a_file_that_changed_after_it_was_indexed_is_not_decided_upon(
    state: Path, file: Path
) -> None:
    with ImageIndex.open(state, NO_LOOK) as index:
        verdict(index, file)
        file.write_bytes(file.read_bytes() + b"\0\0")
        assert index.review([index.names.of(IMAGE)], "release") == 0


def test_decisions_of_0_1_0_are_taken_over_with_the_bytes_that_it_had_looked_at(
    state: Path,
) -> None:
    with sqlite3.connect(state / FILE) as old:
        old.executescript(
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
            "CREATE TABLE instance (path BLOB PRIMARY KEY, image TEXT, content TEXT) STRICT;"
            "CREATE TABLE review (image TEXT PRIMARY KEY, decision TEXT, time TEXT) STRICT;"
            "INSERT INTO instance VALUES (x'61', 'a', 'c1'), (x'62', 'b', NULL);"
            "INSERT INTO instance VALUES (x'63', 'c', NULL);"
            "INSERT INTO review VALUES ('a', 'release', 't'), ('b', 'release', 't'),"
            " ('c', 'withhold', 't'), ('d', 'withhold', 't');"
            "PRAGMA user_version = 1;"
        )
    old.close()
    (state / FILE).chmod(0o600)
    for _ in range(2):
        with ImageIndex.open(state) as index:
            rows = index._db.execute("SELECT image, content, decision FROM decided.review")
            taken = sorted(map(tuple, rows))
            assert index.counts() == {}
    assert taken == [("a", "c1", "release"), ("c", "", "withhold"), ("d", "", "withhold")]


def test_decisions_are_copied_while_the_index_is_open(state: Path, file: Path) -> None:
    target = state / "copy.db"
    assert not image_decisions.backup(state, target)
    with ImageIndex.open(state, NO_LOOK) as index:
        verdict(index, file)
        index.review([index.names.of(IMAGE)], "release")
        assert image_decisions.backup(state, target)
    copy = sqlite3.connect(target)
    assert copy.execute("SELECT decision FROM review").fetchall() == [("release",)]
    copy.close()
