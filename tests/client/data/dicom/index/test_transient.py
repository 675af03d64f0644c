"""What failed for a reason that passes is told as it is, tried again, and kept of no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client.data.dicom.index import indexing, text_screening
from client.data.dicom.index.index import Finding, ImageIndex, ImageRow, stamp_of
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.index.pixel_cache import CacheEntry, PictureCache
from client.data.dicom.objects.gate import GatePolicy, Reason
from client.data.dicom.objects.header import Problem
from client.data.dicom.pixels.faults import PixelFault
from client.data.dicom.pixels.preprocessing import PreparedPicture, Preprocessing
from tests.client.data.dicom.dicom_files import folder_of

MINUTE = 60.0


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (file,) = folder_of(1, tmp_path / "in")
    return file


def test_a_picture_that_took_too_long_is_looked_at_again_each_time_later(
    state: Path, file: Path
) -> None:
    with ImageIndex.open(state, GatePolicy(detect_text=False)) as index:
        bring_up_to_date(index, [file], workers=1)
    with ImageIndex.open(state) as index:
        index.clock = clock = Clock()
        for wait in (MINUTE, 4 * MINUTE, 16 * MINUTE):
            assert index.unseen() == [file]
            index.saw([(file, Finding(Reason.SLOW))])
            assert index.counts() == {Reason.SLOW: 1}
            clock.now += wait - 1
            assert index.unseen() == []
            clock.now += 1
        bring_up_to_date(index, [file], workers=1)
        assert index.counts() == {"": 1}


def test_a_file_that_hangs_is_slow_and_nothing_else(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody writes to, as a share that does not answer."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(indexing, "SCREENING_SECONDS", 0.1)
    with ImageIndex.open(state) as index:
        index.clock = clock = Clock()
        index.put([ImageRow(tmp_path / "pipe", 1, 1, None)])
        bring_up_to_date(index, [], workers=1)
        assert index.counts() == {Reason.SLOW: 1}
        assert index.unseen() == []
        clock.now += MINUTE
        assert index.unseen() == [tmp_path / "pipe"]


def test_it_waits_a_day_at_most(state: Path, file: Path) -> None:
    with ImageIndex.open(state) as index:
        index.clock = clock = Clock()
        index.put([ImageRow(file, 1, 1, None)])
        for _ in range(40):
            index.saw([(file, Finding(Reason.CRASHED))])
        clock.now += 86400
        assert index.unseen() == [file]


def test_a_header_that_took_too_long_is_read_again_wherever_it_lies(
    state: Path, file: Path
) -> None:
    stamp = stamp_of(file)
    assert stamp is not None
    with ImageIndex.open(state, GatePolicy(detect_text=False)) as index:
        index.clock = clock = Clock()
        index.put([ImageRow(file, *stamp, Problem.SLOW)])
        assert bring_up_to_date(index, [file], workers=1).unchanged == 1
        clock.now += MINUTE
        assert bring_up_to_date(index, [], workers=1).read == 1
        assert index.counts() == {"": 1}
        assert index.to_read_again() == set()


def test_what_was_seen_of_other_bytes_is_no_finding(state: Path, file: Path) -> None:
    """The file changes, and its header is read, while its pixels are being looked at."""
    with ImageIndex.open(state) as index:
        bring_up_to_date(index, [file], workers=1)
        found = text_screening.screen_pixels(file)
        os.utime(file, ns=(1, 1))
        with_old_look = GatePolicy(detect_text=False)
        index.policy = with_old_look
        bring_up_to_date(index, [file], workers=1)
        index.policy = GatePolicy()
        index.saw([(file, found)])
        assert index.counts() == {Reason.NOT_LOOKED: 1}


def test_a_picture_whose_file_has_changed_is_not_given_away(state: Path, file: Path) -> None:
    with ImageIndex.open(state) as index:
        bring_up_to_date(index, [file], workers=1)
        image = index.ready()[0]["image"]
        assert index.paths([image]) == {image: file}
        os.utime(file, ns=(1, 1))
        assert index.paths([image]) == {}


def test_lack_of_memory_says_nothing_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(data: bytes, path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(text_screening, "shown", starved)
    assert text_screening.screen_pixels(file) == Finding(Reason.MEMORY)
    assert text_screening.screen_pixels(file.parent / "absent") == Finding(Reason.UNREACHABLE)


@pytest.mark.parametrize("fault", [PixelFault.SLOW, PixelFault.CRASHED, PixelFault.MEMORY])
def test_a_picture_that_was_not_decoded_in_time_is_decoded_later(
    state: Path, file: Path, fault: PixelFault
) -> None:
    stamp = stamp_of(file)
    assert stamp is not None
    with PictureCache.open(state, Preprocessing(2, 2)) as cache:
        cache.clock = clock = Clock()
        cache.add([CacheEntry(file, stamp, PreparedPicture(None, fault=fault))])
        assert cache.find({file: stamp}) == {file: fault}
        clock.now += MINUTE
        assert cache.find({file: stamp}) == {}
        cache.add([CacheEntry(file, stamp, PreparedPicture("c", b"abcd"))])
        assert cache.find({file: stamp}) == {file: 0}


def test_a_fault_that_0_1_0_kept_for_ever_is_forgotten(state: Path, file: Path) -> None:
    made = Preprocessing(2, 2)
    with PictureCache.open(state, made) as cache:
        cache._db.execute(
            "INSERT INTO file VALUES (?, 1, 1, NULL, ?)", (os.fsencode(file), PixelFault.SLOW)
        )
    with PictureCache.open(state, made) as cache:
        assert cache.find({file: (1, 1)}) == {}
