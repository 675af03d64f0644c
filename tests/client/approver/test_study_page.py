"""The approver's page: every sentence in each language, one page long, and never too hopeful."""

from __future__ import annotations

import ast
import inspect
import io
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console

from client.approver import study_page
from client.approver.languages import Language, sentences, spoken
from client.approver.study_page import summarise
from client.cli.options import print_facts
from protocol.privacy.releases import ASSUMPTION
from protocol.study.exact_analysis import HONEST, HONEST_COUNTS
from protocol.study.study import Study
from tasks import registry
from tests.client.governance.test_permits import KNOWN, signed
from tests.client.hospital import Hospital, policy, study

LINES = 60
"""Of 100 characters: a page on paper."""
AGE = {"kind": "bands", "column": "age", "cuts": [40.0, 65.0]}


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    rules = policy(subgroups=["age"], permits=[KNOWN])
    found = Hospital.found(tmp_path / "state", rules)
    yield found
    found.state.close()


def page(hospital: Hospital, of: Study, language: Language = "en") -> dict[str, str]:
    schema = registry.load(of.task.name).schema
    return dict(summarise(hospital.approvals, of, schema, spoken(language)))


def said_in_code() -> set[str]:
    """Every sentence that the page and the command may say."""
    from client.cli import studies

    found = {ASSUMPTION, HONEST, HONEST_COUNTS}
    for module in (study_page, studies):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "say" and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def values_in(sentence: str) -> list[tuple[str | None, str | None]]:
    return sorted(
        (name, spec) for _, name, spec, _ in string.Formatter().parse(sentence) if name is not None
    )


@pytest.mark.parametrize("language", [one for one in get_args(Language) if one != "en"])
def test_every_sentence_is_there_in_each_language_with_the_same_values(language: Language) -> None:
    known = sentences(language)
    assert set(known) == said_in_code()
    for english, other in known.items():
        assert values_in(other) == values_in(english)


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"privacy__mode": "distributed", "evaluation__subgroups": [AGE]},
        {"privacy": {"mode": "none"}, "evaluation": {"release": "exact"}},
        {"evaluation__split": "date", "evaluation__since": "2026-01-01"},
    ],
    ids=str,
)
def test_it_fits_one_page(hospital: Hospital, language: Language, changes: dict[str, Any]) -> None:
    out = io.StringIO()
    facts = page(hospital, study(**changes), language)
    print_facts(facts.items(), Console(file=out, width=100))
    assert 10 < out.getvalue().count("\n") <= LINES
    assert "{" not in out.getvalue()


def test_in_french_nothing_is_said_in_english_but_what_people_wrote(hospital: Hospital) -> None:
    facts = page(hospital, study(evaluation__subgroups=[AGE]), "fr")
    assert facts["Ce qui sort"].startswith("des nombres masqués")
    assert "il resterait" in facts["Budget avec elle"]
    english = page(hospital, study(evaluation__subgroups=[AGE]))
    assert not set(facts) & set(english) - {"Question {number}"}


def test_it_says_what_would_be_left_in_words(hospital: Hospital) -> None:
    """Of 5 for ever this study takes some 2.2: more than half is left, enough for one more."""
    left = page(hospital, study())["What would be left"]
    assert "% of the budget for ever" in left
    assert "enough for 1 more like this one at least" in left
    hospital.accept(study())
    other = page(hospital, study(title="Another"))
    assert "What would be left" in other or "Why it cannot be accepted" in other


def test_what_a_guess_can_be_is_rounded_up(hospital: Hospital) -> None:
    """e / (1 + e) = .7311 for epsilon 1: 74, never 73."""
    assert "in at most 74 of 100" in page(hospital, study(privacy__epsilon=1.0))["What that means"]
    assert "in at most 100 of 100" in page(hospital, study(privacy__epsilon=9.0))["What that means"]


def test_it_says_by_what_patients_are_told_apart(hospital: Hospital) -> None:
    said = page(hospital, study(evaluation__subgroups=[AGE]))["For whom it fails, by"]
    assert said.startswith("age (below 40, 40 to below 65, 65 or more, missing). Each is one more")
    assert "For whom it fails, by" not in page(hospital, study())


def test_it_compares_the_permit_with_the_hospitals_own_records(hospital: Hospital) -> None:
    said = page(hospital, signed())["Permit"]
    assert said.endswith("signed by Ada Byron; confirmed by this hospital's own records")
    assert "NOT confirmed" in page(hospital, signed(identifier="DAR-1"))["Permit"]
    assert "Permit" not in page(hospital, study())
