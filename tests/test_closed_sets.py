"""A word added to a closed set and nothing else done: mypy fails, and nothing runs with it."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from protocol.errors import WardroundError
from protocol.privacy.events import Event, Mechanism
from protocol.secagg.fixed_point import Rounding, rounding_moves, rounding_slack
from protocol.study.privacy_mode import Mode, traits_of
from protocol.study.study import Evaluation, Optimisation, Privacy, Release, Split, adds_noise
from tests.protocol.study_document import document

ROOT = Path(__file__).parent.parent
ROOMS = ("protocol", "tasks", "client", "server", "launch", "wardround")
NAMES = {"mode", "mechanism", "release", "rounding", "split", "training", "noise_source"}
WORDS = {word for of in (Mode, Mechanism, Release, Rounding, Split) for word in get_args(of)}


UNKNOWN: Any = "another"
"""A word that no closed set has."""


def test_an_unknown_word_is_refused_wherever_it_decides() -> None:
    unknown: list[Callable[[], object]] = [
        lambda: traits_of(UNKNOWN),
        lambda: adds_noise(UNKNOWN),
        lambda: rounding_moves(UNKNOWN, 4),
        lambda: rounding_slack(UNKNOWN),
        lambda: Privacy.model_construct(mode=UNKNOWN).traits,
        lambda: Evaluation.model_construct(split=UNKNOWN).disjoint,
        lambda: Optimisation.model_construct(averaging=UNKNOWN).averages,
    ]
    for act in unknown:
        with pytest.raises(AssertionError, match="unreachable"):
            act()


def comparisons(file: Path) -> Iterator[str]:
    """Every comparison of something called by one of NAMES with one of WORDS."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Compare):
            continue
        parts = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
        named = {getattr(part, "attr", getattr(part, "id", None)) for part in parts}
        said = {part.value for part in parts if isinstance(part, ast.Constant)}
        if named & NAMES and said & WORDS:
            yield f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def test_no_branch_hangs_on_a_word_of_a_closed_set_by_itself() -> None:
    """`if mode == "local": ... else: plain` takes a fourth mode for the plain one."""
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    assert len(files) > 200
    assert not [found for file in files for found in comparisons(file)]


STUDY = "from protocol.study.study import Study; Study.model_validate(__import__('json').loads({}))"
ADDED = {
    "mode": (
        "protocol/study/privacy_mode.py",
        "Mode = Literal[",
        '"shuffled", ',
        STUDY.format(repr(json.dumps(document(privacy__mode="shuffled")))),
    ),
    "mechanism": (
        "protocol/privacy/events.py",
        "Mechanism = Literal[",
        '"geometric", ',
        "from protocol.privacy.events import Event; Event('geometric', noise_multiplier=1.0)",
    ),
    "release": (
        "protocol/study/study.py",
        "Release = Literal[",
        '"rounded", ',
        STUDY.format(repr(json.dumps(document(evaluation__release="rounded")))),
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one room that the others build on, with every word of ADDED."""
    folder = tmp_path_factory.mktemp("closed")
    shutil.copytree(ROOT / "protocol", folder / "protocol")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, start, word, _ in ADDED.values():
        file = folder / name
        before = file.read_text()
        assert before.count(start) == 1
        file.write_text(before.replace(start, start + word))
    return folder


@pytest.fixture(scope="module")
def said(copy: Path) -> str:
    """What mypy says of the copy, under this project's settings and with what it knows of packages
    where it has been run here before: `make test` does, and shows that it finds nothing else."""
    if (known := ROOT / ".mypy_cache").is_dir():
        shutil.copytree(known, copy / ".mypy_cache")
    command = [sys.executable, "-m", "mypy", "-p", "protocol"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", ADDED)
def test_a_word_added_alone_fails_mypy_and_runs_nothing(copy: Path, said: str, which: str) -> None:
    _, _, word, act = ADDED[which]
    ran = subprocess.run(
        [sys.executable, "-c", act],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    plain = word.strip(' ,"')
    assert f'"assert_never" has incompatible type "Literal[\'{plain}\']"' in said
    assert ran.returncode == 1
    assert "Expected code to be unreachable" in ran.stderr


def test_an_event_of_no_known_mechanism_is_an_error_that_says_so() -> None:
    with pytest.raises(WardroundError, match="mechanism is unknown"):
        Event(UNKNOWN, noise_multiplier=1.0)
