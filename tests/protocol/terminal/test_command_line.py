"""A command line of a few lines, as both programs use the shared parts: what is printed where, and
with which exit status it ends."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from protocol.errors import EXIT_STATUS, Code, WardroundError, unwritable
from protocol.terminal import command_line
from protocol.terminal.command_line import CommandLine, Json, Log, Yes, confirm, print_result
from tests.protocol.terminal.hostile_text import ALL_OF_IT, faults, obeyed

PROGRAM = "wardround-example"
Config = Annotated[Path, typer.Option("--config", "-c", help="Where.")]

app = CommandLine("An example.")
group = CommandLine(bare=True)
app.add_typer(group, name="group")


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="What to show.")],
    config: Config = Path(),
    as_json: Json = False,
) -> None:
    """Show it.

    A paragraph that is
    written over two lines.

        indented = as it is

    Example: wardround-example show it
    """
    facts = {"what": what, "config": config, "not": (math.nan, {"finite": -math.inf})}
    print_result(f"{what} of {config}", facts, as_json)


@app.command()
def ask(yes: Yes = False, as_json: Json = False) -> None:
    """Ask."""
    confirm("Really?", yes)
    print_result("done", {"done": True}, as_json)


@app.command()
def serve(log: Log = "text", old: Annotated[str, typer.Argument(hidden=True)] = "") -> None:
    """Serve."""
    typer.echo(f"{log} {old}")


@app.command()
def fail(how: str, as_json: Json = False) -> None:
    """Fail."""
    match how:
        case "refusal":
            raise WardroundError(Code.REFUSED_BUDGET, ALL_OF_IT, remedy=ALL_OF_IT)
        case "fault":
            raise ValueError(f"Erika Mustermann {ALL_OF_IT}")
        case "interrupt":
            raise KeyboardInterrupt
        case "end":
            raise EOFError
        case _:
            os.kill(os.getpid(), signal.SIGTERM)


@group.callback(invoke_without_command=True)
def listing(context: typer.Context, config: Config = Path(), as_json: Json = False) -> None:
    """List."""
    if context.invoked_subcommand is not None:
        command_line.refuse_early_options(context)
        return
    print_result("listed", [], as_json)


@group.command()
def inner(config: Config = Path()) -> None:
    """Inside."""
    typer.echo(config)


command_line.complete(app, PROGRAM)


@dataclass
class Ran:
    status: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, str]:
        """The error as a program reads it: one line of JSON, and nothing else."""
        (line,) = self.err.strip().splitlines()
        assert list(json.loads(line)) == ["error"]
        found: dict[str, str] = json.loads(line)["error"]
        assert list(found) == ["code", "message", "remedy"]
        return found


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("FORCE_COLOR", "WARDROUND_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    before = signal.getsignal(signal.SIGTERM)

    def command(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", [PROGRAM, *words])
        with pytest.raises(SystemExit) as leaving:
            command_line.run(app, PROGRAM)
        signal.signal(signal.SIGTERM, before)
        out, err = capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        assert "Traceback" not in out
        return Ran(leaving.value.code, out, err)

    return command


# --- JSON ---
def test_facts_are_one_document_and_nothing_else(run: Run) -> None:
    plain, told = run("show", "it", "-c", "/x"), run("show", "it", "-c", "/x", "--json")
    assert (plain.status, plain.out, plain.err) == (0, "it of /x\n", "")
    assert (told.status, told.err) == (0, "")
    facts = json.loads(told.out, parse_constant=lambda name: pytest.fail(name))
    assert facts == {"what": "it", "config": "/x", "not": [None, {"finite": None}]}


# --- errors ---
def test_an_error_is_a_message_and_a_remedy_as_text(run: Run) -> None:
    said = run("fail", "refusal")
    assert (said.status, said.out) == (EXIT_STATUS[Code.REFUSED_BUDGET], "")
    message, remedy = said.err.splitlines()
    assert message.startswith("error (refused_budget): ")
    assert faults(message) == faults(remedy) == []


def test_a_colour_is_no_markup(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = run("fail", "refusal").err
    assert "\x1b[1;31merror" in said
    assert faults(said) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("fail", "refusal"), "refused_budget"),
        (("fail", "fault"), "internal"),
        (("fail", "interrupt"), "interrupted"),
        (("fail", "end"), "declined"),
        (("ask",), "usage"),
        (("show",), "usage"),
        (("show", "it", "--fast"), "usage"),
        (("sow",), "usage"),
    ],
)
def test_a_program_gets_every_error_as_json_with_the_same_status(
    run: Run, words: tuple[str, ...], code: str
) -> None:
    plain, told = run(*words), run(*words, "--json")
    assert told.error["code"] == code
    assert (told.status, told.out) == (plain.status, "")
    assert told.error["remedy"] or code in ("interrupted", "declined")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("sow",), "No such command 'sow'"),
        (("show",), "Missing argument 'WHAT'"),
        (("show", "it", "--fast"), "No such option '--fast'"),
        (("serve", "--log", "loud"), "'loud' is not one of 'text', 'json'"),
    ],
)
def test_a_misspelt_command_line_says_how_it_is_used(
    run: Run, words: tuple[str, ...], cause: str
) -> None:
    said = run(*words)
    assert (said.status, said.out) == (2, "")
    message, remedy = said.err.splitlines()
    assert message.startswith("error (usage): ")
    assert cause in message
    path = f"{PROGRAM} {words[0]}" if words != ("sow",) else PROGRAM
    assert remedy.startswith(f"Usage: {path} ")
    assert remedy.endswith(f"{path} --help)")


def test_a_fault_is_placed_but_quotes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run("fail", "fault")
    assert said.status == 70
    assert "ValueError (test_command_line.py, line" in said.err
    assert "Mustermann" not in said.err
    monkeypatch.setenv("WARDROUND_TRACEBACK", "1")
    whole = run("fail", "fault").err
    assert "ValueError: Erika Mustermann" in whole
    assert obeyed(whole) == ["obeyed '\\nstudy  finished'"], "a traceback is many lines"


def test_what_cannot_be_written_says_where_and_why(tmp_path: Path) -> None:
    error = unwritable(tmp_path, OSError(13, "Permission denied"))
    assert str(tmp_path) in error.message
    assert "Permission denied" in error.message
    assert error.remedy


# --- questions and signals ---
def test_a_question_needs_somebody_or_yes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = run("ask")
    assert nobody.status == 2
    assert "--yes" in nobody.err
    assert run("ask", "-y").out == "done\n"
    monkeypatch.setattr(command_line, "_someone_is_there", lambda: True)
    for answer, status in (("n\n", 1), ("", 1), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        asked = run("ask")
        assert (asked.status, asked.out) == (status, "done\n" * (status == 0))
        assert "Really? [y/N]: " in asked.err, "standard output is for the result"
        assert ("Nothing was changed." in asked.err) == (status == 1)


def test_interrupted_either_way(run: Run) -> None:
    for how in ("interrupt", "sigterm"):
        said = run("fail", how)
        assert (said.status, said.out, said.err) == (130, "", "Interrupted.\n")


def test_a_reader_that_leaves_is_no_fault() -> None:
    script = (
        "import sys; from tests.protocol.terminal.test_command_line import app, PROGRAM\n"
        "from protocol.terminal.command_line import run\n"
        "sys.argv = [PROGRAM, 'completion', 'bash']; run(app, PROGRAM)"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


# --- spelling ---
@pytest.mark.parametrize("words", [(), ("show",), ("group",), ("group", "inner"), ("version",)])
def test_h_is_help(run: Run, words: tuple[str, ...]) -> None:
    short, long = run(*words, "-h"), run(*words, "--help")
    assert (short.status, short.out) == (0, long.out)
    assert "Usage:" in short.out


def test_help_flows_and_describes_arguments(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = run("show", "-h").out
    assert "A paragraph that is written over two lines." in said
    assert "     indented = as it is" in said
    assert "What to show." in said
    assert "old" not in run("serve", "-h").out.lower(), "an old argument is not shown"


@pytest.mark.parametrize(
    "words",
    [
        ("show", "it", "--folder", "/x"),
        ("show", "it", "--folder=/x"),
        ("show", "it", "-f", "/x"),
    ],
)
def test_an_earlier_spelling_is_understood_but_not_shown(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).out == "it of /x\n"
    assert "--folder" not in run("show", "-h").out


def test_a_service_asked_for_json_logs_in_json(run: Run) -> None:
    assert run("serve", "--json").out == "json \n"
    assert run("serve", "there", "--log", "json").out == "json there\n"


def test_an_option_before_a_command_that_would_not_see_it_is_refused(run: Run) -> None:
    refused = run("group", "--config", "/x", "inner")
    assert (refused.status, refused.out) == (2, "")
    assert "--config has to stand after `inner`" in refused.err
    assert run("group", "inner", "--config", "/x").out == "/x\n"
    assert run("group", "-c", "/x").out == "listed\n"


def test_the_release_is_said_by_option_and_by_command(run: Run) -> None:
    option, command = run("--version"), run("version")
    assert option == command
    assert option.out.startswith("wardround ")
    assert set(json.loads(run("version", "--json").out)) == {"wardround", "flower"}


def test_no_words_show_the_help(run: Run) -> None:
    said = run()
    assert said.status == 2
    assert "Usage:" in said.out + said.err
