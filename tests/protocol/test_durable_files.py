"""After a full disk, a failing disk or a crash at any step: the old file or the new one, whole."""

from __future__ import annotations

import ast
import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol import durable_files
from protocol.durable_files import PUBLIC, append, make_folder, move, write, writing
from tests.full_disk import disk_of

ROOT = Path(__file__).parent.parent.parent
OLD, NEW = b"old" * 1000, b"new content" * 10_000
_OS = ("os.replace", "os.link")
_STEPS = ("open", "fsync", "replace", "link", "close", "unlink")


@pytest.fixture(params=[True, False], ids=["there before", "not there"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that is there before, or is not."""
    found = tmp_path / "file"
    if request.param:
        found.write_bytes(OLD)
    return found


def raising(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def in_a_child(work: Callable[[], None]) -> int:
    """The exit status of a process that does this work and no more."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(call, inode) of every sync, rename and link from now on."""
    calls: list[tuple[str, int]] = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def syncing(descriptor: int) -> None:
        calls.append(("sync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def replacing(source: Path, target: Path) -> None:
        calls.append(("rename", source.stat().st_ino))
        replace(source, target)

    def linking(source: Path, target: Path) -> None:
        calls.append(("link", source.stat().st_ino))
        link(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(os, "link", linking)
    return calls


# --- what is there afterwards ---
def test_what_was_written_is_there_and_nothing_else(path: Path) -> None:
    write(path, NEW)
    assert path.read_bytes() == NEW
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("asked", "umask", "given"),
    [(0o600, 0o022, 0o600), (PUBLIC, 0o022, 0o644), (PUBLIC, 0o077, 0o600), (0o600, 0, 0o600)],
)
def test_the_mode_is_as_asked_less_the_umask(
    path: Path, asked: int, umask: int, given: int
) -> None:
    before = os.umask(umask)
    try:
        write(path, NEW, mode=asked)
    finally:
        os.umask(before)
    assert mode(path) == given


def test_nobody_else_may_read_it_while_it_is_written(path: Path) -> None:
    with writing(path) as file:
        file.write(NEW)
        (partial,) = set(path.parent.iterdir()) - {path}
        assert mode(partial) == 0o600
        assert content(path) in (None, OLD)
    assert mode(path) == 0o600


def test_a_file_that_is_there_is_not_replaced_against_the_caller_s_will(path: Path) -> None:
    before = content(path)
    if before is None:
        write(path, NEW, replace=False)
        assert path.read_bytes() == NEW
    else:
        with pytest.raises(FileExistsError):
            write(path, NEW, replace=False)
        assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


# --- the order of sync and rename: what a power cut leaves ---
@pytest.mark.parametrize("replace", [True, False])
def test_the_file_is_synced_before_its_name_and_the_name_before_returning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    calls = recorded(monkeypatch)
    write(tmp_path / "file", NEW, replace=replace)
    file, folder = (tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino
    named = "rename" if replace else "link"
    assert calls == [("sync", file), (named, file), ("sync", folder)]


def test_what_need_not_be_durable_is_whole_without_a_sync(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recorded(monkeypatch)
    write(path, NEW, durable=False)
    assert [call for call, _ in calls] == ["rename"]
    assert path.read_bytes() == NEW


def test_a_folder_is_moved_with_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new/state/studies").mkdir(parents=True)
    (tmp_path / "new/state/studies/a.json").write_bytes(NEW)
    (tmp_path / "new/b.yaml").write_bytes(NEW)
    inside = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    inodes = {path.stat().st_ino for path in inside}
    top = (tmp_path / "new").stat().st_ino
    calls = recorded(monkeypatch)
    move(tmp_path / "new", tmp_path / "site")
    assert {inode for call, inode in calls[:-2] if call == "sync"} == inodes
    assert calls[-2:] == [("rename", top), ("sync", tmp_path.stat().st_ino)]
    assert (tmp_path / "site/state/studies/a.json").read_bytes() == NEW


def test_a_file_is_moved_over_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = path.with_name("finished")
    finished.write_bytes(NEW)
    inode, calls = finished.stat().st_ino, recorded(monkeypatch)
    move(finished, path)
    assert path.read_bytes() == NEW
    assert calls == [("sync", inode), ("rename", inode), ("sync", path.parent.stat().st_ino)]


def test_a_folder_is_made_with_those_above_it_and_each_name_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recorded(monkeypatch)
    make_folder(tmp_path / "kept/study")
    assert mode(tmp_path / "kept") == mode(tmp_path / "kept/study") == 0o700
    assert [inode for _, inode in calls] == [
        tmp_path.stat().st_ino,
        (tmp_path / "kept").stat().st_ino,
    ]
    make_folder(tmp_path / "kept/study")
    assert len(calls) == 2
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


# --- a step fails ---
def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    before = content(path)
    with disk_of(len(NEW) // 2), pytest.raises(OSError, match="too large"):
        write(path, NEW)
    assert content(path) == before
    assert list(path.parent.iterdir()) == ([path] if before else [])


def test_a_stream_that_breaks_off_leaves_the_old_file(path: Path) -> None:
    before = content(path)

    def breaking_off() -> None:
        with writing(path) as file:
            file.write(NEW)
            file.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaking_off()
    assert content(path) == before
    assert list(path.parent.iterdir()) == ([path] if before else [])


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_step_that_fails_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = content(path)
    monkeypatch.setattr(os, step, raising)
    with pytest.raises(OSError, match="No space left"):
        write(path, NEW)
    assert content(path) == before
    assert list(path.parent.iterdir()) == ([path] if before else [])


def test_a_folder_that_cannot_be_synced_is_an_error_and_the_file_is_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda d: raising() if stat.S_ISDIR(os.fstat(d).st_mode) else fsync(d)
    )
    with pytest.raises(OSError, match="No space left"):
        write(path, NEW)
    assert path.read_bytes() == NEW
    assert list(path.parent.iterdir()) == [path]


# --- the process is killed between two steps ---
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("step", _STEPS)
@pytest.mark.parametrize("replace", [True, False], ids=["replacing", "new"])
def test_a_crash_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, step: str, number: int, after: bool, replace: bool
) -> None:
    path = tmp_path / "file"
    if replace:
        path.write_bytes(OLD)
    before = content(path)

    def dying() -> None:
        called, original = 0, getattr(os, step)

        def killed(*args: object, **kwargs: object) -> object:
            nonlocal called
            called += 1
            if called == number and not after:
                os._exit(9)
            result = original(*args, **kwargs)
            if called == number:
                os._exit(9)
            return result

        setattr(os, step, killed)
        write(path, NEW, replace=replace)

    if in_a_child(dying) == 0:  # it has fewer such steps
        assert path.read_bytes() == NEW
    assert content(path) in (before, NEW)
    write(path, NEW)
    assert path.read_bytes() == NEW


def test_a_crash_in_the_middle_of_a_stream_leaves_the_old_file(path: Path) -> None:
    before = content(path)

    def dying() -> None:
        with writing(path) as file:
            file.write(NEW)
            file.flush()
            os._exit(9)

    assert in_a_child(dying) == 9
    assert content(path) == before


def test_what_a_killed_writer_left_is_removed_a_day_later(tmp_path: Path) -> None:
    mine, other = tmp_path / ".a[b].12.partial", tmp_path / ".other.12.partial"
    path = tmp_path / "a[b]"
    for partial in (mine, other):
        partial.write_bytes(OLD)
    write(path, NEW)
    assert mine.exists(), "another process may be writing it"
    yesterday = time.time() - 25 * 3600
    for partial in (mine, other):
        os.utime(partial, (yesterday, yesterday))
    write(path, NEW)
    assert set(tmp_path.iterdir()) == {path, other}


def test_writers_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    contents = [bytes([65 + n]) * 300_000 for n in range(8)]
    path = tmp_path / "file"
    writers = [threading.Thread(target=write, args=(path, each)) for each in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


# --- what grows at its end ---
def test_a_line_is_added_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(path)
    calls = recorded(monkeypatch)
    append(path, b"one\n")
    append(path, b"two\n", durable=False)
    assert path.read_bytes() == (before or b"") + b"one\ntwo\n"
    file, folder = path.stat().st_ino, path.parent.stat().st_ino
    assert calls == [("sync", file)] + ([] if before else [("sync", folder)])
    assert before or mode(path) == 0o600


def test_a_line_that_does_not_fit_is_not_added(path: Path) -> None:
    before = content(path) or b""
    with disk_of(len(before) + 2), pytest.raises(OSError, match="too large"):
        append(path, b"whole\n")
    assert path.read_bytes() == before


def test_a_line_that_cannot_be_synced_is_not_added(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(path) or b""
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", raising)
        with pytest.raises(OSError, match="No space left"):
            append(path, b"whole\n")
    assert path.read_bytes() == before
    append(path, b"whole\n")
    assert path.read_bytes() == before + b"whole\n"


# --- nobody does it on his own ---
def _own_ways(file: Path) -> Iterator[str]:
    """Calls in a module that sync, rename or make temporary files themselves."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, owner = node.func.attr, ast.unparse(node.func.value)
            of_a_path = name == "replace" and len(node.args) == 1 and not node.keywords
            if name in ("fsync", "mkstemp", "rename") or of_a_path or f"{owner}.{name}" in _OS:
                yield name


def test_every_room_writes_durably_through_one_module() -> None:
    found = {
        str(file.relative_to(ROOT)): sorted(set(names))
        for room in ("protocol", "tasks", "client", "server", "launch", "wardround")
        for file in (ROOT / room).rglob("*.py")
        if (names := list(_own_ways(file)))
    }
    assert found.pop("protocol/durable_files.py") == ["fsync", "link", "replace"]
    assert found == {
        "client/data/dicom/index/pixel_cache.py": ["fsync"],  # slots in a file that is mapped
        "client/data/dicom/receive/object_store.py": ["replace"],  # under the lock of names
        "launch/studies/public_data.py": ["replace"],  # within a download that has no name yet
        "server/transport/event_log.py": ["replace"],  # full logs, which make room for the next
    }
    assert durable_files.PRIVATE == 0o600
