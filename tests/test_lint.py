"""Whoever silences ruff, mypy or bandit says which rule, and why, on the same line."""

from __future__ import annotations

import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SILENCES = re.compile(r"noqa|type:\s*ignore|nosec")
REASONED = (
    re.compile(r"# (ruff: )?noqa: [A-Z]+\d+(, [A-Z]+\d+)* +\([^)]*\w{2}[^)]*\)"),
    re.compile(r"# type: ignore\[[a-z-]+(, [a-z-]+)*\]  # .*\w{2}"),
    re.compile(r"# .*\w{2}.*  # nosec B\d{3}(, B\d{3})*$"),
)


def folders() -> list[str]:
    """What mypy reads."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: list[str] = tomllib.load(file)["tool"]["mypy"]["files"]
    return found


def silences_without_reason(comment: str) -> bool:
    return bool(SILENCES.search(comment)) and not any(form.match(comment) for form in REASONED)


def unreasoned(path: Path) -> Iterator[str]:
    """The comments of a file that silence without a word."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT and silences_without_reason(token.string):
                yield f"{path.relative_to(ROOT)}:{token.start[0]} {token.string}"


def test_every_silence_has_a_reason() -> None:
    files = [file for folder in folders() for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 500
    assert [wrong for file in files for wrong in unreasoned(file)] == []


@pytest.mark.parametrize(
    ("comment", "reasoned"),
    [
        ("# noqa: S104 (compared)", True),
        ("# ruff: noqa: E402  (Flower may only be imported once its version is known)", True),
        ("# type: ignore[misc]  # Opacus has no types", True),
        ("# noqa: S104 (compared)  # nosec B104", True),
        ("# a shell's name  # nosec B604", True),
        ("# nosec", False),
        ("# nosec B604", False),
        ("# a shell's name  # nosec", False),
        ("# noqa", False),
        ("# noqa: S104", False),
        ("# noqa: S104 ()", False),
        ("# ruff: noqa", False),
        ("# type: ignore", False),
        ("# type: ignore  # a reason, but of which error?", False),
        ("# type: ignore[misc]", False),
        ("# type: ignore[misc]  #", False),
    ],
)
def test_what_counts_as_a_reason(comment: str, reasoned: bool) -> None:
    assert silences_without_reason(comment) is not reasoned
