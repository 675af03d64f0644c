"""The list of mutants fits the code, and a sample of them dies; `make mutants` runs them all."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from protocol.errors import Code, WardroundError
from tests.mutants.evidence import found_wrong
from tests.mutants.mutants import AREAS, PROJECT, Mutant, load

MUTANTS = load()
SAMPLE = 15
every_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=[m.name for m in MUTANTS])


def test_names_are_unique_and_every_area_has_several() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 60
    for area in AREAS:
        assert sum(mutant.area == area for mutant in MUTANTS) >= 3, area


@every_mutant
def test_its_text_stands_once_and_the_change_is_valid_python(mutant: Mutant) -> None:
    changed = mutant.changed((PROJECT / mutant.file).read_text(encoding="utf-8"))
    if mutant.file.endswith(".py"):
        ast.parse(changed)
    assert mutant.breaks


@every_mutant
def test_its_tests_are_there(mutant: Mutant) -> None:
    assert mutant.tests
    for named in mutant.tests:
        path, _, test = named.partition("::")
        assert f"def {test}" in (PROJECT / path).read_text(encoding="utf-8")


def test_text_that_moved_is_refused() -> None:
    mutant = MUTANTS[0]
    for source in ("", 2 * mutant.old):
        with pytest.raises(ValueError, match=mutant.name):
            mutant.changed(source)


def test_only_a_verdict_is_evidence() -> None:
    wrong, refused = AssertionError("3 C"), WardroundError(Code.INTERNAL, "x")
    for error in (wrong, refused, ExceptionGroup("both", [wrong, refused])):
        assert found_wrong(error)
    for broken in (TypeError(), ImportError(), ExceptionGroup("both", [wrong, NameError()])):
        assert not found_wrong(broken)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # three minutes where nothing else runs
def test_a_sample_dies() -> None:
    sample = [mutant for mutant in MUTANTS if mutant.sample]
    assert len(sample) == SAMPLE
    assert {mutant.area for mutant in sample} == set(AREAS)
    command = [sys.executable, "-m", "tests.mutants", "--sample"]  # which has imported no room
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
