"""The list of mutants fits the code that it is about; none of them is run here."""

from __future__ import annotations

import ast

import pytest

from tests.cases.privacy.mutants import PROJECT, Mutant, load

MUTANTS = load()
every_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=[m.name for m in MUTANTS])


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@every_mutant
def test_the_text_to_replace_still_stands_and_the_change_is_valid_python(mutant: Mutant) -> None:
    source = (PROJECT / mutant.file).read_text(encoding="utf-8")
    assert mutant.stands(source), f"{mutant.file} no longer has: {mutant.old}"
    ast.parse(mutant.changed(source))


@every_mutant
def test_its_test_files_exist(mutant: Mutant) -> None:
    named = [*mutant.tests, mutant.noticed_by.partition("::")[0]]
    assert mutant.tests
    assert [path for path in named if path and not (PROJECT / path).is_file()] == []
