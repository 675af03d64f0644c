"""Whatever SQLite says of the index, the decisions or the cache of pictures is a refusal with a
remedy, and what is there afterwards is what was there before."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from client.data.dicom.index import image_decisions, pixel_cache
from client.data.dicom.index.index import FILE, Finding, ImageIndex, ImageRow
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.index.pixel_cache import CacheEntry, PictureCache
from client.data.dicom.objects.gate import GatePolicy
from client.data.dicom.pixels.preprocessing import PreparedPicture, Preprocessing
from protocol.errors import Code, WardroundError
from tests.client.data.dicom.dicom_files import folder_of
from tests.failing_sqlite import WRITE_FAULTS, WriteFault, damage, failing_writes

MADE = Preprocessing(28, 28)
PATH = Path("/p/new")
INDEX_READS: dict[str, Callable[[ImageIndex], object]] = {
    "known": lambda index: index.known(Path("/")),
    "to_read_again": ImageIndex.to_read_again,
    "unseen": ImageIndex.unseen,
    "ready": ImageIndex.ready,
    "patients": ImageIndex.patients,
    "paths": lambda index: index.paths(["a"]),
    "counts": ImageIndex.counts,
    "kept_out": lambda index: list(index.kept_out()),
    "whole_keys": lambda index: index.whole_keys(["0123456789"]),
}
INDEX_WRITES: dict[str, Callable[[ImageIndex], object]] = {
    "put": lambda index: index.put(
        ImageRow(Path(f"/p/{n}"), n, n, None, values={"image": "x" * 500}) for n in range(50)
    ),
    "forget": lambda index: index.forget(index.known(Path("/"))),
    "saw": lambda index: index.saw(
        (path, Finding("clear", "c" * 4000, stamp))
        for path, stamp in index.known(Path("/")).items()
    ),
}
CACHE_READS: dict[str, Callable[[PictureCache], object]] = {
    "find": lambda cache: cache.find({PATH: (1, 1)}),
    "contents": PictureCache.contents,
    "pictures": PictureCache.pictures,
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def index(state: Path, tmp_path: Path) -> Iterator[ImageIndex]:
    folder_of(8, tmp_path / "in")
    with ImageIndex.open(state, GatePolicy(detect_text=False)) as opened:
        bring_up_to_date(opened, [tmp_path / "in"])
        yield opened


def entries(count: int) -> list[CacheEntry]:
    return [
        CacheEntry(Path(f"/p/{n}"), (n, n), PreparedPicture(f"{n:064x}", bytes([n % 256]) * 784))
        for n in range(count)
    ]


def refused(work: Callable[[], object]) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        work()
    assert caught.value.code is Code.STATE
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("fault", WRITE_FAULTS)
@pytest.mark.parametrize("write", [*INDEX_WRITES.values()], ids=[*INDEX_WRITES])
def test_an_index_that_cannot_be_written_is_as_before(
    index: ImageIndex, state: Path, write: Callable[[ImageIndex], object], fault: WriteFault
) -> None:
    if (write, fault) == (INDEX_WRITES["forget"], "SQLITE_FULL"):
        pytest.skip("deleting takes no page")
    before = index.ready(), index.known(Path("/"))
    with failing_writes(index._db, state / FILE, fault):
        said = refused(lambda: write(index))
        assert fault in said.message
        assert (index.ready(), index.known(Path("/"))) == before
    assert (index.ready(), index.known(Path("/"))) == before
    write(index)


@pytest.mark.parametrize("fault", [fault for fault in WRITE_FAULTS if fault != "SQLITE_FULL"])
def test_a_decision_that_cannot_be_written_is_none(
    index: ImageIndex, state: Path, fault: WriteFault
) -> None:
    keys = [row["image"] for row in index.ready()]
    with failing_writes(index._db, state / image_decisions.FILE, fault, "decided"):
        refused(lambda: index.review(keys, "withhold"))
        assert len(index.ready()) == len(keys)
    assert index.review(keys, "withhold") == len(keys)
    assert not index.ready()


@pytest.mark.parametrize("read", [*INDEX_READS.values()], ids=[*INDEX_READS])
def test_a_damaged_index_is_refused_wherever_it_is_read(
    index: ImageIndex, state: Path, read: Callable[[ImageIndex], object]
) -> None:
    damage(index._db, state / FILE)
    refused(lambda: read(index))


@pytest.mark.parametrize("file", [FILE, image_decisions.FILE])
def test_a_file_that_is_no_database_is_refused(index: ImageIndex, state: Path, file: str) -> None:
    index.close()
    (state / file).write_bytes(b"no database" * 1000)
    assert image_decisions.FILE in refused(lambda: ImageIndex.open(state)).remedy


def test_damaged_decisions_are_in_no_backup(index: ImageIndex, state: Path, tmp_path: Path) -> None:
    index.review([row["image"] for row in index.ready()], "withhold")
    assert image_decisions.backup(state, tmp_path / "whole")
    index.close()
    with closing(sqlite3.connect(state / image_decisions.FILE)) as db:
        damage(db, state / image_decisions.FILE)
    refused(lambda: image_decisions.backup(state, tmp_path / "copy"))
    (state / image_decisions.FILE).write_bytes(b"no database" * 1000)
    refused(lambda: image_decisions.backup(state, tmp_path / "copy"))


@pytest.mark.parametrize("fault", WRITE_FAULTS)
def test_a_cache_that_cannot_be_written_is_as_before(state: Path, fault: WriteFault) -> None:
    files = {Path(f"/p/{n}"): (n, n) for n in range(200)}
    with PictureCache.open(state, MADE) as cache:
        cache.add(entries(3))
        with failing_writes(cache._db, state / "pictures" / "catalogue.db", fault):
            refused(lambda: cache.add(entries(200)))
            assert len(cache.find(files)) == 3
        cache.add(entries(200))
        assert len(cache.find(files)) == 200
        assert (cache.pictures()[:, 0, 0] == range(200)).all()


@pytest.mark.parametrize("read", [*CACHE_READS.values()], ids=[*CACHE_READS])
def test_a_damaged_cache_is_refused_wherever_it_is_read(
    state: Path, read: Callable[[PictureCache], object]
) -> None:
    with PictureCache.open(state, MADE) as cache:
        cache.add(entries(200))
        damage(cache._db, state / "pictures" / "catalogue.db")
        said = refused(lambda: read(cache))
    assert "cache purge" in said.remedy
    refused(lambda: PictureCache.open(state, MADE))
    pixel_cache.purge(state)
    with PictureCache.open(state, MADE) as cache:
        assert not cache.find({PATH: (1, 1)})


def test_a_refused_open_leaves_no_file_open(state: Path) -> None:
    (state / "pictures").mkdir(mode=0o700)
    path = state / "pictures" / "catalogue.db"
    path.write_bytes(b"no database" * 1000)
    path.chmod(0o600)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        refused(lambda: PictureCache.open(state, MADE))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT 1 FROM file")
