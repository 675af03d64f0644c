"""The common parts of both command lines: options, JSON, errors, exit statuses and signals.

Every command takes `-h` and `--help`; one that prints facts takes `--json` and then writes one JSON
document to standard output and nothing else there. An error is one message and what to do about it
on standard error, or with --json `{"error": {"code", "message", "remedy"}}` in one line. The exit
status is that of the error's code (`protocol.errors`), 1 where you answered no or nobody reads the
output any longer, or 130 after Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import click
import typer
from click.core import ParameterSource
from typer.core import TyperArgument, TyperCommand, TyperGroup

from protocol.errors import EXIT_STATUS, Code, WardroundError
from protocol.extras import explained
from protocol.terminal import completion
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Log = Annotated[
    Literal["text", "json"],
    typer.Option("--log", help="How to log: in lines for people, or in JSON for programs."),
]
DECLINED, INTERRUPTED = 1, 130
"""Exit statuses that no error has."""
_OLD = {"--folder": "--config", "-f": "--config", "--json": "--log=json"}
"""Earlier spellings of options: accepted where a command has only the new one."""
_TRACEBACK = "WARDROUND_TRACEBACK"


class Command(TyperCommand):
    """A command that accepts earlier spellings of its options."""

    def __init__(self, *words: Any, **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.help = _flowing(self.help)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {name for param in self.params for name in param.opts}
        return super().parse_args(ctx, [_current_spelling(word, known) for word in args])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        shown = [param for param in self.params if not getattr(param, "hidden", False)]
        return ["[OPTIONS]", *(piece for param in shown for piece in param.get_usage_pieces(ctx))]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from typer.utils import get_params_from_function

        # Click 8.5 has a help of its own for arguments, and empties the one that Typer sets.
        declared = get_params_from_function(self.callback) if self.callback else {}
        for param in self.params:
            if isinstance(param, TyperArgument) and param.name in declared:
                param.help = param.help or getattr(declared[param.name].default, "help", None)
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """A group of commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.help = _flowing(self.help)


class CommandLine(typer.Typer):
    """A program, or a group of its commands."""

    def __init__(self, help: str | None = None, *, bare: bool = False) -> None:
        """bare: the group has an effect of its own without a command, in its callback."""
        super().__init__(
            cls=Group,
            no_args_is_help=not bare,
            rich_markup_mode="rich",
            pretty_exceptions_enable=False,
            add_completion=False,
            suggest_commands=False,  # Click does
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        if help is not None:
            self.info.help = help

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any
    ) -> Callable[[Any], Any]:
        """As Typer's."""
        return super().command(name, cls=cls or Command, **settings)


def complete(app: CommandLine, program: str) -> None:
    """Adds what every program has: --version, version and completion."""

    @app.callback()
    def _program(
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=_version_option,
                is_eager=True,
                help="Show the release, and exit.",
            ),
        ] = False,
    ) -> None:
        pass

    @app.command(name="version")
    def _version(as_json: Json = False) -> None:
        """Show which release this is, and which Flower release it speaks.

        You need it when you report a fault, or when the two ends of a federation disagree.

        Example: PROGRAM version --json
        """
        _show_release(as_json)

    @app.command(name="completion")
    def _completion(
        shell: Annotated[
            completion.Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")
        ],
    ) -> None:
        """Print a script with which your shell completes commands and options.

        Put the example into your shell's start-up file (fish: pipe it into `source`).

        Example: eval "$(PROGRAM completion bash)"
        """
        typer.echo(completion.script(program, shell), nl=False)

    for command in (_version, _completion):
        command.__doc__ = (command.__doc__ or "").replace("PROGRAM", program)


def run(app: CommandLine, program: str) -> NoReturn:
    """A console script: runs what the command line asks for, and exits."""
    words = sys.argv[1:]
    as_json = "--json" in words or "--log=json" in words or ("--log", "json") in pairwise(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    if completion.asked_by(program) in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    try:
        # Typer returns the status of an exit or an interrupt (130) instead of raising it.
        status = app(prog_name=program, standalone_mode=False) or 0
        sys.stdout.flush()
    except WardroundError as error:
        fail(error, as_json=as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = error.exit_code
    except click.ClickException as error:
        fail(_misspelled(error), as_json=as_json)
    except (click.Abort, EOFError):
        status = DECLINED
        _print_error("declined", "Nothing was changed.", "", as_json)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = DECLINED
    except Exception as error:
        missing = explained(error) if isinstance(error, ImportError) else None
        fail(missing or _unexpected(error), as_json=as_json)
    if status == INTERRUPTED:
        _print_error("interrupted", "Interrupted.", "", as_json)
    sys.exit(status)


def fail(error: WardroundError, *, as_json: bool = False) -> NoReturn:
    """Prints an error, and exits with its status."""
    if not as_json:
        for line in error.detail.splitlines():
            typer.echo(printable(line), err=True)
    _print_error(error.code.value, error.message, error.remedy, as_json)
    sys.exit(error.exit_status)


def console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """For tables, colours and progress. Reads no markup in what it prints."""
    from rich.console import Console

    return Console(stderr=stderr, file=file, markup=False, highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output; a number that JSON cannot hold is null."""
    from protocol.document import finite

    typer.echo(json.dumps(finite(value), indent=2, default=str, allow_nan=False))


def print_result(text: str, facts: Any, as_json: bool) -> None:
    """What a command did: a sentence for people, facts for programs."""
    if as_json:
        print_json(facts)
    else:
        typer.echo(text)


def confirm(question: str, yes: bool) -> None:
    """Raises click.Abort on a no, WardroundError(USAGE) where nobody can be asked."""
    if yes:
        return
    if not _someone_is_there():
        raise WardroundError(
            Code.USAGE, "Nobody is at the keyboard to confirm.", remedy="Repeat with --yes."
        )
    typer.confirm(question, abort=True, err=True)


def _someone_is_there() -> bool:
    return sys.stdin.isatty()


def refuse_early_options(context: click.Context) -> None:
    """Raises click.UsageError for an option before the command that it belongs to, where it would
    have no effect."""
    for param in context.command.params:
        if context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
            word = context.invoked_subcommand
            raise click.UsageError(f"{param.opts[0]} has to stand after `{word}`.", context)


def _print_error(code: str, message: str, remedy: str, as_json: bool) -> None:
    if as_json:
        error = {"code": code, "message": message, "remedy": remedy}
        typer.echo(json.dumps({"error": error}), err=True)
        return
    from rich.text import Text

    screen, known = console(stderr=True), code in EXIT_STATUS
    line = Text.assemble(("error", "bold red"), f" ({code}): ") if known else Text()
    screen.print(line.append(printable(message)), soft_wrap=True)  # one line, to be copied whole
    if remedy:
        screen.print(Text(printable(remedy), "yellow"), soft_wrap=True)


def _misspelled(error: click.ClickException) -> WardroundError:
    context = getattr(error, "ctx", None)
    remedy = ""
    if context is not None:
        path, pieces = context.command_path, context.command.collect_usage_pieces(context)
        remedy = f"Usage: {' '.join([path, *filter(None, pieces)])} (more: {path} --help)"
    return WardroundError(Code.USAGE, error.format_message(), remedy=remedy)


def _unexpected(error: Exception) -> WardroundError:
    """The exception's own text may quote data: it is shown only on request."""
    if os.environ.get(_TRACEBACK):
        for line in "".join(traceback.format_exception(error)).splitlines():
            typer.echo(printable(line), err=True)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return WardroundError(
        Code.INTERNAL,
        f"An unexpected {type(error).__name__} ({Path(place.filename).name}, line {place.lineno}).",
        remedy=f"Report this line, unless the file is yours; {_TRACEBACK}=1 shows the whole way "
        "there, and may show data.",
    )


def _version_option(chosen: bool) -> None:
    if chosen:
        _show_release(as_json=False)
        raise typer.Exit


def _show_release(as_json: bool) -> None:
    from protocol.release import RELEASE
    from protocol.wire.flower_version import FLOWER_VERSION

    facts = {"wardround": RELEASE, "flower": FLOWER_VERSION}
    print_result(f"wardround {RELEASE} (Flower {FLOWER_VERSION})", facts, as_json)


def _current_spelling(word: str, known: set[str]) -> str:
    name, sign, value = word.partition("=")
    current = _OLD.get(name, "")
    renamed = name not in known and current.split("=")[0] in known
    return current + sign + value if renamed else word


def _flowing(text: str | None) -> str | None:
    """Paragraphs as one line each, to be broken where the terminal ends; indented ones are left."""
    if text is None:
        return None
    paragraphs = text.split("\n\n")
    return "\n\n".join(p if p.startswith("    ") else " ".join(p.split()) for p in paragraphs)
