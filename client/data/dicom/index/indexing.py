"""Brings the index up to date with folders: what is new or changed is read, what is gone leaves.

    files     every file's header (client/data/dicom/objects/header.py), in processes of their own
    pictures  every picture that could become ready is looked at for burned-in text, once

Each batch is committed: whatever ends the run, the next goes on where this one stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.data.dicom.index.index import ImageIndex, ImageRow
from client.data.dicom.isolated_workers import isolated
from client.data.dicom.objects import gate
from client.data.dicom.objects.file_scan import Found, walk
from client.data.dicom.objects.header import Header, Problem, Unreadable, quiet, read_header
from client.data.dicom.objects.pseudonym import Pseudonyms

SECONDS = 5.0
"""Most for one header; pictures have more, as the largest take seconds on a small machine."""
LOOK_SECONDS = 20.0
_MEMORY = 3 << 30
_BATCH = 256

Progress = Callable[[str, int, int], None]
"""Told (stage: "files" or "pictures", done, of)."""


@dataclass
class Tally:
    """What one run did: counts of files."""

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
) -> Tally:
    """Reads `roots` (folders, files, DICOMDIRs) into the index, with `workers` processes.

    `words`: see `client.data.dicom.objects.descriptors.cleaned`. `stop`: asked after every file;
    what is left is done by the next run. Raises WardroundError: NO_DATA for a root
    that is not there, STATE where the index cannot be written.
    """
    tally = Tally()
    jobs: list[Found] = []
    for root in (Path(os.path.abspath(r)) for r in roots):
        known = index.known(root)
        for found in walk(root):
            tally.found += 1
            before = known.pop(found.path, None)
            if before == (found.size, found.mtime_ns):
                tally.unchanged += 1
            else:
                jobs.append(found)
        index.forget(known)
        tally.gone += len(known)
    tally.read = _read(index, jobs, workers, words, progress, stop)
    if index.policy.detect_text and not stop():
        tally.looked_at = _look(index, workers, progress, stop)
    tally.verdicts = index.counts()
    return tally


def _read(
    index: ImageIndex,
    jobs: list[Found],
    workers: int,
    words: frozenset[str],
    progress: Progress,
    stop: Callable[[], bool],
) -> int:
    def unread(problem: Problem) -> Callable[[Found], Header | Problem]:
        return lambda found: problem

    answers = isolated(
        _header,
        (index.names.secret, words),
        jobs,
        workers=min(workers, 1 + len(jobs) // 32),
        seconds=SECONDS,
        memory=_MEMORY,
        slow=unread(Problem.SLOW),
        crashed=unread(Problem.CRASHED),
    )
    rows = (_row(found, answer) for found, answer in answers)
    done = 0
    for done in _batches(rows, index.put, stop):
        progress("files", done, len(jobs))
    return done


def _look(index: ImageIndex, workers: int, progress: Progress, stop: Callable[[], bool]) -> int:
    from client.data.dicom.index.text_screening import (  # headers need none of its decoders
        Look,
        look,
    )

    jobs = index.unseen()
    answers = isolated(
        look,
        (),
        jobs,
        workers=min(workers, 1 + len(jobs) // 8),
        seconds=LOOK_SECONDS,
        memory=_MEMORY,
        slow=lambda _: Look("undecodable", None),
        crashed=lambda _: Look("undecodable", None),
    )
    findings = ((path, answer.seen, answer.content) for path, answer in answers)
    done = 0
    for done in _batches(findings, index.saw, stop):
        progress("pictures", done, len(jobs))
    return done


def _header(found: Found, secret: bytes, words: frozenset[str]) -> Header | Problem:
    """In a worker. An identifier goes no further than this process."""
    if found.problem is not None:
        return found.problem
    quiet()
    try:
        return read_header(found.path, Pseudonyms(secret), words)
    except Unreadable as error:
        return error.problem


def _row(found: Found, answer: Header | Problem) -> ImageRow:
    if isinstance(answer, Problem):
        return ImageRow(found.path, found.size, found.mtime_ns, answer.value)
    return ImageRow(
        found.path,
        found.size,
        found.mtime_ns,
        None,
        gate.object_reason(answer),
        gate.suspicion(answer),
        answer.sop_class,
        answer.transfer_syntax,
        {**answer.values, **answer.dose},
    )


def _batches(
    rows: Iterator[Any], write: Callable[[list[Any]], None], stop: Callable[[], bool]
) -> Iterator[int]:
    """Writes in batches; yields how many are written so far."""
    batch: list[Any] = []
    done = 0
    for row in rows:
        batch.append(row)
        ending = stop()
        if len(batch) == _BATCH or ending:
            write(batch)
            done += len(batch)
            batch = []
            yield done
        if ending:
            return
    if batch:
        write(batch)
        yield done + len(batch)
