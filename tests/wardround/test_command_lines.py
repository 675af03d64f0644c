"""Both command lines, command by command: one style of options, help that teaches, JSON wherever a
program would read, remedies that name commands which are there, one way to print."""

from __future__ import annotations

import ast
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from client.cli import main as site
from launch.cli import main as launch

ROOT = Path(__file__).parents[2]
PROGRAMS = {"wardround": launch.app, "wardround-site": site.app}
SERVICES = {"wardround coordinator start", "wardround-site start", "wardround-site receive"}
"""They log until they are stopped, in JSON with --log json."""
FOLLOWERS = {"wardround-site predict"}
"""Commands that end, or on request stay and log what they do."""
SCRIPTS = {"wardround completion", "wardround-site completion"}
REFUSALS = ("client/cli", "launch/cli", "client/config", "server/coordinator", "launch/config")
TERMINALS = ("client/cli", "launch/cli", "launch/demo", "launch/queries", "launch/studies")


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        if command.invoke_without_command:
            yield path, command
        for name, inner in command.commands.items():
            yield from walk(inner, f"{path} {name}")
    else:
        yield path, command


ROOTS = {program: typer.main.get_command(app) for program, app in PROGRAMS.items()}
COMMANDS = {path: found for program, root in ROOTS.items() for path, found in walk(root, program)}
OPTIONS = [
    (path, param)
    for path, command in COMMANDS.items()
    for param in command.params
    if isinstance(param, click.Option)
]


def parsed(words: list[str]) -> str:
    """The path of the command that these words run. Raises click.UsageError."""
    context = ROOTS[words[0]].make_context(words[0], words[1:])
    while isinstance(context.command, click.Group) and context._protected_args:
        rest = [*context._protected_args, *context.args]
        name, inner, rest = context.command.resolve_command(context, rest)
        assert inner is not None
        context = inner.make_context(name, rest, parent=context)
    return context.command_path


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) > 45
    assert len(OPTIONS) > 200


@pytest.mark.parametrize("path", COMMANDS)
def test_help_says_what_and_when_and_shows_an_example_that_can_be_typed(path: str) -> None:
    what, *more = (COMMANDS[path].help or "").split("\n\n")
    assert what.endswith((".", "?")), "one sentence, as the list of commands shows it"
    assert len(what) < 110
    *when, example = more
    assert when
    assert example.startswith("Example: ")
    typed = example.removeprefix("Example: ").removeprefix('eval "$(').removesuffix(')"')
    assert parsed(shlex.split(typed)) == path


@pytest.mark.parametrize("path", COMMANDS)
def test_every_word_is_explained(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[path]
    context = command.make_context(path, ["-h"], resilient_parsing=True)
    command.get_help(context)
    capsys.readouterr()
    for param in command.params:
        assert getattr(param, "hidden", False) or getattr(param, "help", None), param.name


@pytest.mark.parametrize("path", COMMANDS)
def test_a_program_can_read_what_a_command_says(path: str) -> None:
    names = {name for param in COMMANDS[path].params for name in param.opts}
    assert ("--json" in names) == (path not in SERVICES | SCRIPTS)
    assert ("--log" in names) == (path in SERVICES | FOLLOWERS)


def test_an_option_has_the_same_short_form_and_the_same_words_everywhere() -> None:
    shorts, longs = defaultdict(set), defaultdict(set)
    for _, option in OPTIONS:
        for name in option.opts:
            if not name.startswith("--"):
                shorts[name].add(option.opts[0])
                longs[option.opts[0]].add(name)
    assert {name: found for name, found in shorts.items() if len(found) > 1} == {}
    for path, option in OPTIONS:
        given = {name for name in option.opts if not name.startswith("--")}
        assert given == longs[option.opts[0]], (path, option.opts)
        assert not option.secondary_opts, f"{path}: a flag is not there to be unset"
    for name in ("--json", "--yes", "--log"):
        assert len({option.help for _, option in OPTIONS if name in option.opts}) == 1


def test_an_installation_is_named_in_one_way() -> None:
    own = {"init", "setup", "restore", "version", "completion", "view"}
    for path, command in COMMANDS.items():
        program, *_, last = path.split()
        here = program == "wardround-site" or path.startswith("wardround coordinator ")
        names = {name for param in command.params for name in param.opts}
        assert ("--config" in names) == (here and last not in own), path


def strings(folder: str) -> Iterator[str]:
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "VALUE"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_command_that_a_message_names_is_there() -> None:
    rooms = ("protocol", "client", "server", "launch", "tasks")
    named = {
        " ".join(found.split())
        for room in rooms
        for text in strings(room)
        for found in re.findall(r"`(wardround(?:-site)? [a-z-][^`]*)`", text)
    }
    assert len(named) > 30
    wrong = []
    for words in map(str.split, sorted(named)):
        command, path = ROOTS[words[0]], words[:1]
        for word in words[1:]:
            if not isinstance(command, click.Group) or word not in command.commands:
                break
            command, path = command.commands[word], [*path, word]
        known = {n for p in command.get_params(click.Context(command)) for n in p.opts}
        options = [word for word in words[len(path) :] if word.startswith("--")]
        if (len(path) == 1 and not options) or not known.issuperset(options):
            wrong.append(" ".join(words))
    assert wrong == []


@pytest.mark.parametrize("folder", REFUSALS)
def test_every_refusal_says_what_to_do(folder: str) -> None:
    silent = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "WardroundError":
                remedy = [of.value for of in node.keywords if of.arg == "remedy"]
                if not remedy or (isinstance(remedy[0], ast.Constant) and not remedy[0].value):
                    silent.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert silent == []


@pytest.mark.parametrize("folder", TERMINALS)
def test_there_is_one_way_to_print(folder: str) -> None:
    """A console of one's own reads markup; JSON of one's own is in another shape."""
    other = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and (
            ast.unparse(node.func) in ("Console", "print")
            or (
                folder.endswith("cli")
                and "json.dumps" in ast.unparse(node)
                and "echo" in ast.unparse(node.func)
            )
        )
    ]
    assert other == []
