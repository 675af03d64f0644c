"""The documents say what is there: paths, functions, commands, sizes of the rooms, an example."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from client.cli.main import app as site_app
from launch.cli.main import app
from tests.reference_pages import pages
from tests.test_rooms import MAY_IMPORT, imports, modules

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
)
GENERATED = {str(page.relative_to(ROOT)) for page in pages()}
PROGRAMS = {"wardround": app, "wardround-site": site_app}
_FOLDERS = "|".join((*MAY_IMPORT, "tests", "conf", "bench", "deploy", "docs", "notebooks"))
_PATH = re.compile(rf"`((?:{_FOLDERS})/[\w./-]*)`")
_FUNCTION = re.compile(r"`([\w/]+\.py)`(?: \(|, )`(\w+)`")
_LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE)


def text(document: str) -> str:
    return (ROOT / document).read_text()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_is_there(document: str) -> None:
    named = set(_PATH.findall(text(document)))
    assert named or document in GENERATED
    assert {path for path in named if "NAME" not in path and not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_link_is_dead(document: str) -> None:
    folder = (ROOT / document).parent
    linked = {link for link in _LINK.findall(text(document)) if "://" not in link}
    assert {link for link in linked if not (folder / link).exists()} == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_function_is_in_its_file(document: str) -> None:
    for path, name in _FUNCTION.findall(text(document)):
        assert re.search(
            rf"^\s*(def {name}\(|class {name}\b|{name}\b.* = )", text(path), re.MULTILINE
        ), (
            path,
            name,
        )


def test_comments_cite_invariants_by_their_numbers() -> None:
    stated = {int(number) for number in re.findall(r"^(\d+)\. ", text("docs/design.md"), re.M)}
    assert stated == set(range(1, 11))
    for file in modules().values():
        assert {
            int(number) for number in re.findall(r"[Ii]nvariant (\d+)", file.read_text())
        } <= stated


def command_lines(document: str) -> Iterator[str]:
    """Every command of ours that a document names, in a block without a language or in backticks;
    `a | b` in a line are two."""
    content = text(document)
    for language, block in _BLOCK.findall(content):
        for line in block.splitlines() if not language else ():
            yield from line.partition(" #")[0].split(" | ")
    yield from re.findall(r"`(wardround[^`\n]*)`", _BLOCK.sub("", content))


def resolved(line: str) -> tuple[click.Command, list[str]]:
    """The command that a line calls, and the rest of its words. Raises KeyError for none."""
    program, *words = shlex.split(line)
    command: click.Command = typer.main.get_group(PROGRAMS[program])
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = [command.commands[name] for name in words.pop(0).split("|")][-1]
    return command, words


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_option_exists(document: str) -> None:
    for line in command_lines(document):
        if line.partition(" ")[0] not in PROGRAMS or " " not in line:
            continue
        command, words = resolved(line)
        options = {"--help", *(name for parameter in command.params for name in parameter.opts)}
        assert {word for word in words if word.startswith("-")} <= options, line


@pytest.mark.parametrize("program", ["wardround", "wardround-site"])
def test_every_command_of_the_operations_page_has_its_arguments(program: str) -> None:
    lines = [
        line
        for language, block in _BLOCK.findall(text("docs/operations.md"))
        for line in block.splitlines()
        if not language and line.startswith(f"{program} ")
    ]
    assert lines
    for line in lines:
        command, words = resolved(line)
        arguments = [
            p
            for p in command.params
            if isinstance(p, click.Argument) and not getattr(p, "hidden", False)
        ]
        given = len([w for w in words if not w.startswith("-")])
        given -= len([w for w in words if w.startswith("-")])
        assert given == len(arguments), line


def sizes(room: str) -> tuple[int, int, int]:
    """Boxes, floors and arrows: see "Sizes of the rooms" in docs/design.md."""
    arrows = {
        (box(module), box(name))
        for module in modules()
        for name in imports(modules()[module])
        if name in modules() and inside(module, room) and inside(name, room)
    }
    boxes = {box(module) for module in modules() if inside(module, room)}
    below = {one: {low for high, low in arrows if high == one != low} for one in boxes}

    def floor(one: str) -> int:
        return 1 + max(map(floor, below[one]), default=0)

    return len(boxes), max(map(floor, boxes)), sum(map(len, below.values()))


def inside(module: str, room: str) -> bool:
    return module.startswith(f"{room}.")


def box(module: str) -> str:
    return module.split(".")[1]


def test_the_rooms_have_the_sizes_that_are_stated() -> None:
    stated = {
        room: (int(a), int(b), int(c)) for room, a, b, c in _ROW.findall(text("docs/design.md"))
    }
    assert stated == {room: sizes(room) for room in MAY_IMPORT}


def blocks(language: str) -> Iterator[str]:
    return (block for kind, block in _BLOCK.findall(text("README.md")) if kind == language)


def test_the_example_in_python_runs(tmp_path: Path) -> None:
    (example,) = (block for block in blocks("python") if "import wardround" in block)
    program = example.rstrip().rpartition("\n")
    shown = f"{program[0]}\nprint({program[2]})"
    # MLflow notes its last server in the environment, for every child of a test run.
    environment = {name: of for name, of in os.environ.items() if not name.startswith("MLFLOW")}
    done = subprocess.run(
        [sys.executable, "-c", shown],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Estimate(value=" in done.stdout


def test_the_pages_of_keys_are_those_of_the_code() -> None:
    """`python -m tests.reference_pages` writes them; every key says what it is."""
    for path, content in pages().items():
        assert path.read_text() == content
        assert len(re.findall(r"^\| `", content, re.MULTILINE)) > 60
        assert not re.search(r"\|\s*\|$", content, re.MULTILINE), "a key without documentation"


def test_both_languages_of_the_handbook_name_the_same() -> None:
    english, french = "docs/hospital.md", "docs/fr/hospital.md"
    for pattern in (
        _PATH,
        re.compile(r"`([^`\n]+)`"),
        re.compile(r"^(#+|\||-|\d\.)", re.MULTILINE),
    ):
        assert pattern.findall(text(english)) == pattern.findall(text(french))
    assert list(command_lines(english)) == list(command_lines(french))
