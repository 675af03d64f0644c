"""Brings the index up to date with folders: reads what is new or changed, removes what is gone.

    files     every file's header (client/data/dicom/objects/header.py), in processes of their own
    pictures  every picture that could become ready is screened for burned-in text, once

Each batch is committed: whatever ends the run, the next run continues there. What failed for a
reason that passes is tried again by a later run, wherever it lies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from client.data.dicom.index.index import Finding, ImageIndex, ImageRow, stamp_of
from client.data.dicom.isolated_workers import batches, isolated
from client.data.dicom.objects import gate
from client.data.dicom.objects.file_scan import ScannedFile, walk
from client.data.dicom.objects.header import Header, Problem, Unreadable, quiet, read_header
from client.data.dicom.objects.pseudonym import Pseudonyms

T = TypeVar("T")
SECONDS = 5.0
"""Limit for one header; pictures have more, as the largest take seconds on a small machine."""
SCREENING_SECONDS = 20.0
_BATCH = 256

Progress = Callable[[str, int, int], None]
"""Called with (stage: "files" or "pictures", done, of)."""


@dataclass
class IndexingCounts:
    """Counts of files in one run."""

    found: int = 0
    read: int = 0
    unchanged: int = 0
    gone: int = 0
    looked_at: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)


def bring_up_to_date(
    index: ImageIndex,
    roots: Sequence[Path],
    *,
    workers: int = 2,
    words: frozenset[str] = frozenset(),
    progress: Progress = lambda stage, done, of: None,
    stop: Callable[[], bool] = lambda: False,
) -> IndexingCounts:
    """Reads `roots` (folders, files, DICOMDIRs) into the index, with `workers` processes.

    `words`: see `client.data.dicom.objects.descriptors.cleaned`. `stop`: called after every file;
    the next run does the rest. Raises WardroundError: NO_DATA for a root
    that is not there, STATE where the index cannot be written.
    """
    tally = IndexingCounts()
    jobs: list[ScannedFile] = []
    again = index.to_read_again()
    for root in (Path(os.path.abspath(r)) for r in roots):
        known = index.known(root)
        for file in walk(root):
            tally.found += 1
            same = known.pop(file.path, None) == (file.size, file.mtime_ns)
            if same and file.path not in again:
                tally.unchanged += 1
            else:
                jobs.append(file)
        index.forget(known)
        tally.gone += len(known)
    jobs += _elsewhere(again - {file.path for file in jobs})
    rows = _read_headers(index, jobs, workers, words)
    tally.read = _write(rows, index.put, stop, lambda done: progress("files", done, len(jobs)))
    if index.policy.detect_text and not stop():
        unseen = index.unseen()
        tally.looked_at = _write(
            _screen(unseen, workers),
            index.saw,
            stop,
            lambda done: progress("pictures", done, len(unseen)),
        )
    tally.verdicts = index.counts()
    return tally


def _read_headers(
    index: ImageIndex, jobs: list[ScannedFile], workers: int, words: frozenset[str]
) -> Iterator[ImageRow]:
    answers: Iterator[tuple[ScannedFile, Header | Problem]] = isolated(
        _header,
        (index.names.secret, words),
        jobs,
        workers=min(workers, 1 + len(jobs) // 32),
        seconds=SECONDS,
        slow=Problem.SLOW,
        crashed=Problem.CRASHED,
    )
    return (_row(file, answer) for file, answer in answers)


def _elsewhere(paths: Iterable[Path]) -> Iterator[ScannedFile]:
    """Files that are to be read again and lie below no root of this run."""
    for path in sorted(paths):
        if (stamp := stamp_of(path)) is not None:
            yield ScannedFile(path, *stamp)


def _screen(jobs: list[Path], workers: int) -> Iterator[tuple[Path, Finding]]:
    from client.data.dicom.index.text_screening import screen_pixels  # headers need no decoder

    return isolated(
        screen_pixels,
        (),
        jobs,
        workers=min(workers, 1 + len(jobs) // 8),
        seconds=SCREENING_SECONDS,
        slow=Finding(gate.Reason.SLOW),
        crashed=Finding(gate.Reason.CRASHED),
    )


def _write(
    rows: Iterator[T],
    write: Callable[[list[T]], None],
    stop: Callable[[], bool],
    progress: Callable[[int], None],
) -> int:
    """Writes the rows batch by batch until `stop` says so, and returns how many were written."""

    def until_stopped() -> Iterator[T]:
        for row in rows:
            yield row
            if stop():
                return

    done = 0
    for batch in batches(until_stopped(), _BATCH):
        write(batch)
        done += len(batch)
        progress(done)
    return done


def _header(file: ScannedFile, secret: bytes, words: frozenset[str]) -> Header | Problem:
    """Runs in a worker. No identifier leaves this process."""
    if file.problem is not None:
        return file.problem
    quiet()
    try:
        return read_header(file.path, Pseudonyms(secret), words)
    except Unreadable as error:
        return error.problem


def _row(file: ScannedFile, answer: Header | Problem) -> ImageRow:
    if isinstance(answer, Problem):
        return ImageRow(file.path, file.size, file.mtime_ns, answer.value)
    return ImageRow(
        file.path,
        file.size,
        file.mtime_ns,
        None,
        gate.object_reason(answer),
        gate.suspicions(answer),
        answer.sop_class,
        answer.transfer_syntax,
        {**answer.values, **answer.dose, "mask_of": answer.mask_of},
    )
