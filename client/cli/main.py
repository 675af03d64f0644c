"""`wardround-site`: what a hospital does, from the first key to the daily look at the ledger.

Each command imports what it needs when it runs, so that --help answers at once.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from client.cli import audit, cache, daemon, data, imaging, ledger, personal, setup, studies
from protocol.errors import WardroundError
from protocol.release import RELEASE

app = typer.Typer(
    help=(
        "A hospital's side of a wardround federation: patients' records stay here, only masked "
        "sums leave, and site.yaml decides for what.\n\n"
        "First steps: [bold]init[/], [bold]enrol[/], [bold]join[/], [bold]check[/], "
        "[bold]start[/]. Then, as studies come: [bold]studies[/], [bold]show[/], "
        "[bold]approve[/].\n\n"
        "Exit status: 0 done, 2 your input, 3 data, 4 connection or keys, 5 refused by this "
        "site's rules, 6 protocol, 7 this machine's state, 70 a fault of ours."
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for room in (setup, daemon, studies, personal, imaging, data):
    room.mount(app)
app.add_typer(ledger.app, name="ledger")
app.add_typer(audit.app, name="audit")
app.add_typer(cache.app, name="cache")


@app.command()
def version(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Which release this is, and which Flower release it speaks."""
    import json

    from protocol.wire.flower_version import FLOWER_VERSION

    values = {"wardround": RELEASE, "flower": FLOWER_VERSION}
    if as_json:
        typer.echo(json.dumps(values))
    else:
        typer.echo(f"wardround {values['wardround']} (Flower {FLOWER_VERSION})")


def main() -> None:
    """The console script: one message and a remedy for every error, and its exit status."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except WardroundError as error:
        fail(error)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except (typer.Abort, EOFError):
        typer.echo("Nothing was changed.", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left
        sys.exit(0)
    except Exception as error:
        show_usage = getattr(error, "show", None)
        if show_usage is None:
            where = traceback.extract_tb(error.__traceback__)[-1]  # not what it says: it may quote
            place = f"{Path(where.filename).name}, line {where.lineno}"
            kind = type(error).__name__
            typer.echo(f"error [internal] An unexpected {kind} ({place}). Report it.", err=True)
            sys.exit(70)
        show_usage()
        sys.exit(getattr(error, "exit_code", 2))


def fail(error: WardroundError) -> NoReturn:
    """Prints an error as people read it, and exits with its status."""
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True)
    console.print("error", style="bold red", end=" ")
    console.print(f"[{error.code.value}] {error.message}", markup=False, highlight=False)
    if error.remedy:
        console.print(error.remedy, markup=False, highlight=False, style="yellow")
    sys.exit(error.exit_status)
