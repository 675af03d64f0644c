"""Runs mutants, each in a copy of the tree of its own, and says which a test noticed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from tests import forked
from tests.mutants.evidence import WHY
from tests.mutants.mutants import PROJECT, Mutant

Fate = Literal["died", "survived", "broken", "too slow"]
"""broken: no test ran to a verdict, so that the change was no code rather than a fault."""
PACKAGES = ("torch", "opacus", "scipy.stats", "pandas", "duckdb", "pydantic", "pytest")
"""What takes long to import and is no mutant's: a run is forked from an interpreter that has it and
starts at once."""
_RESULTS = {"demo", "outputs", "runs", "multirun"}
"""Folders beside the packages that runs leave behind."""
_OUTPUT = 4000
"""Last characters of a run's output that are kept."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. test: the one that failed; error: how. seconds: of wall time."""

    mutant: Mutant
    fate: Fate
    test: str
    error: str
    seconds: float
    output: str


@dataclass(frozen=True)
class _Run:
    exit_status: int | None
    """None where it ran out of time."""
    test: str
    error: str
    is_evidence: bool
    output: str


class UnchangedFailsError(Exception):
    """The named tests fail on the tree as it is, so that their failing says nothing."""


def verdicts(mutants: Sequence[Mutant], *, workers: int, limit: float) -> Iterator[Verdict]:
    """One verdict a mutant, as they come. limit: seconds that the tests of one may take.

    First the tests of all of them run once on the unchanged tree. Raises UnchangedFailsError where
    one fails, and ValueError for a mutant whose text the code no longer has.
    """
    for mutant in mutants:
        mutant.changed((PROJECT / mutant.file).read_text(encoding="utf-8"))
    with TemporaryDirectory(prefix="mutants-") as folder:
        unchanged = Path(folder) / "unchanged"
        shutil.copytree(PROJECT, unchanged, ignore=_left_out)
        named = sorted({test for mutant in mutants for test in mutant.tests})
        if (ran := _tested(unchanged, named, limit * len(mutants))).exit_status != 0:
            raise UnchangedFailsError(ran.output)
        with ThreadPoolExecutor(workers) as pool:
            begun = [pool.submit(_judged, mutant, unchanged, limit) for mutant in mutants]
            try:
                for done in as_completed(begun):
                    yield done.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What of a folder needs no copy."""
    hidden = {name for name in names if name.startswith(".") or name == "__pycache__"}
    return hidden | (_RESULTS if Path(folder) == PROJECT else set())


def _judged(mutant: Mutant, unchanged: Path, limit: float) -> Verdict:
    """In a copy of the unchanged tree, with what that has compiled."""
    began = time.monotonic()
    copy = unchanged.with_name(mutant.name)
    shutil.copytree(unchanged, copy)
    try:
        file = copy / mutant.file
        file.write_text(mutant.changed(file.read_text(encoding="utf-8")), encoding="utf-8")
        ran = _tested(copy, mutant.tests, limit)
    finally:
        shutil.rmtree(copy)
    seconds = time.monotonic() - began
    return Verdict(mutant, _fate(ran), ran.test, ran.error, seconds, ran.output)


def _fate(ran: _Run) -> Fate:
    match ran.exit_status:
        case None:
            return "too slow"
        case 0:
            return "survived"
        case 1 if ran.is_evidence:  # pytest's status for tests that ran and failed
            return "died"
        case _:
            return "broken"


def _tested(tree: Path, tests: Sequence[str], limit: float) -> _Run:
    """pytest over a tree, up to the first failure."""
    why = tree.with_name(f"{tree.name}.json")
    why.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", WHY: str(why)}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"]
    command += ["-p", "tests.mutants.evidence", *tests]
    try:
        ended = forked.run(command, tree, environment, limit, PACKAGES)
    except subprocess.TimeoutExpired:
        return _Run(None, "", "", False, f"More than {limit:g} seconds.")
    found = json.loads(why.read_text()) if why.exists() else {}
    return _Run(
        ended.returncode,
        found.get("test", ""),
        found.get("error", ""),
        found.get("evidence", False),
        (ended.stdout + ended.stderr)[-_OUTPUT:],
    )
