"""`wardround`: launch studies, run a coordinator, fetch public data."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from launch.cli.coordinator import coordinator_app
from launch.cli.query import query_app
from launch.cli.run import PLAN_HELP, RUN_HELP, RunCommand, plan_command, run_command
from launch.cli.tasks import tasks_command
from launch.cli.tracking import tracking_app
from protocol.errors import WardroundError

app = typer.Typer(
    help="Federated learning for hospitals: only sums leave the building.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Public data for demos and benchmarks.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(coordinator_app, name="coordinator")
app.add_typer(query_app, name="query")
app.add_typer(tracking_app, name="tracking")
_errors = Console(stderr=True)

app.command(name="run", help=RUN_HELP, cls=RunCommand)(run_command)
app.command(name="plan", help=PLAN_HELP)(plan_command)
app.command(name="tasks")(tasks_command)


@data.command()
def fetch(task: Annotated[str, typer.Argument(help="A task with public data.")]) -> None:
    """Download a task's public data, with checksums and a progress bar."""
    from launch.studies.public_data import fetch as fetch_data

    for path in fetch_data(task):
        typer.echo(path)


@app.command()
def demo(
    task: Annotated[str, typer.Option(help="A task with public data.")] = "breast_cancer",
    folder: Annotated[Path, typer.Option(help="Made anew at every run.")] = Path("demo"),
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, as for run")] = None,
) -> None:
    """Run a real federation of four hospitals on this machine, over TLS, and compare its model."""
    from tasks import registry

    loaded = registry.load(task)
    from launch.demo.demo import Demo

    Demo(folder, loaded, tuple(overrides or ())).run(_errors)


@app.command(name="completion")
def completion_command(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print what makes the shell complete commands, keys and values: eval "$(...)"."""
    from launch.cli.completion import script

    typer.echo(script(shell), nl=False)


@app.command()
def mlflow(
    folder: Annotated[Path, typer.Argument(help="Where mlflow.db lies.")] = Path("demo/mlflow"),
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 5000,
) -> None:
    """Open the MLflow server of a demo until Ctrl-C."""
    import threading

    from launch.demo.mlflow_server import MlflowServer

    with MlflowServer(folder, port) as server:
        typer.echo(f"MLflow: {server.url}  (Ctrl-C ends it)")
        threading.Event().wait()


def main() -> None:
    """The console script: one message and a remedy for every error, and its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    try:
        # Typer returns the status of an exit or an interrupt (130) instead of raising it.
        status = app(standalone_mode=False) or 0
    except WardroundError as error:
        fail(error)
    except KeyboardInterrupt:
        status = 130
    except (typer.Abort, EOFError):
        status = 1
    except Exception as error:
        show_usage = getattr(error, "show", None)
        if show_usage is None:
            raise
        show_usage()
        status = getattr(error, "exit_code", 2)
    if status == 130:
        _errors.print("Interrupted.")
    sys.exit(status)


def fail(error: WardroundError) -> NoReturn:
    """Prints an error as people read it, and exits with its status."""
    _errors.print("error", style="bold red", end="")
    text = Text(f" ({error.code.value}): {error.message}")
    _errors.print(text, soft_wrap=True)  # in one line, to be copied as it is
    if error.remedy:
        _errors.print(Text(error.remedy, style="yellow"), soft_wrap=True)
    sys.exit(error.exit_status)
