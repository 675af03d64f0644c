"""`wardround run` and `wardround plan`: from a list of overrides to a study, or to its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer

from client.cli.options import config_path
from launch.cli import completion
from protocol.errors import Code, WardroundError
from protocol.terminal.command_line import Command, Json, Yes, confirm, console, print_json
from protocol.terminal.printable import printable

_CFG = ("job", "hydra", "all")


class RunCommand(Command):
    """`--cfg` alone means `--cfg job`, as Hydra's users know it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for at, word in enumerate(args):
            if word == "--cfg" and args[at + 1 : at + 2] not in ([what] for what in _CFG):
                args = [*args[:at], "--cfg=job", *args[at + 1 :]]
                break
        return super().parse_args(ctx, args)


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="key=value, one for each choice that differs from the default.",
        autocompletion=completion.overrides,
    ),
]


def run_command(
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="A sweep: several values of some keys.")
    ] = False,
    resume: Annotated[
        str, typer.Option(help="Continue an interrupted study: its folder, or its digest.")
    ] = "",
    cfg: Annotated[
        str, typer.Option(help="Show the configuration (job, hydra or all), run nothing.")
    ] = "",
    info: Annotated[bool, typer.Option("--info", help="Explain every key, run nothing.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, help="Processes of a sweep; 0: one a core.")
    ] = 0,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Run a study, and show its results and its privacy cost.

    A study is configured by overrides (Hydra's grammar). `--info` explains every group and key,
    `--cfg` shows the configuration that results. Without federation=deployment all sites are
    simulated in this process, on public data.

    A key with several values makes several studies, run side by side as a sweep:

        wardround run -m privacy.epsilon=0.3,1,3,10 "seed=range(5)"

    Results are written under outputs/ (summary.json, weights.npy, study.json) and to MLflow where
    MLFLOW_TRACKING_URI or tracking.uri names a server. --json prints summary.json (of a sweep,
    sweep.json).

    Example: wardround run task=heart_disease privacy=distributed privacy.epsilon=1 rounds=100
    """
    overrides = overrides or []
    if info:
        _explain(as_json)
    elif cfg:
        _show_configuration(overrides, cfg, as_json)
    elif multirun:
        _sweep(overrides, jobs, yes, as_json)
    else:
        _study(overrides, resume, as_json)


def _explain(as_json: bool) -> None:
    from launch.cli.info import explain, explained

    if as_json:
        print_json(explained())
    else:
        explain(console())


def _show_configuration(overrides: list[str], what: str, as_json: bool) -> None:
    import yaml

    from launch.config import compose

    if what not in _CFG:
        raise WardroundError(
            Code.USAGE, f"--cfg {what} means nothing.", remedy="Choose job, hydra or all."
        )
    if what == "job":
        text = yaml.safe_dump(compose.plain(compose.load(overrides)), sort_keys=False)
    else:
        text = compose.hydra_yaml(overrides, whole=what == "all")
    if as_json:
        print_json(yaml.safe_load(text))
    else:
        typer.echo(text, nl=False)


def _study(overrides: list[str], where: str, as_json: bool) -> None:
    from launch.config import compose

    # A typo is reported before torch is imported.
    config = None if where else compose.load(overrides)
    from launch.studies.result_view import show
    from launch.studies.resume import resume
    from launch.studies.run import run

    errors = console(stderr=True)
    finished = run(config, errors) if config else resume(where, overrides, errors)
    if as_json:
        typer.echo((finished.folder / "summary.json").read_text(), nl=False)
    else:
        show(finished, console())


def _sweep(overrides: list[str], jobs: int, yes: bool, as_json: bool) -> None:
    from launch.studies.sweeps.sweep import Sweep, announcement, show

    sweep = Sweep.of(overrides)
    if warning := announcement(sweep):
        console(stderr=True).print(printable(warning), style="yellow")
        confirm("Start?", yes)
    folder = sweep.run(jobs, console(stderr=True))
    if as_json:
        typer.echo((folder / "sweep.json").read_text(), nl=False)
    else:
        show(folder, console())


def plan_command(
    overrides: Overrides = None,
    site: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="A site.yaml on this machine, or its folder, whose policy is asked as well. "
            "May be repeated.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a study would cost, and who would take part in it; run nothing.

    Run it before every new kind of study. Privacy, bytes and time follow from the study alone. With
    federation=deployment the connected sites say how they would answer; they record no study.

    Example: wardround plan task=heart_disease privacy.epsilon=1 federation=deployment
    """
    from launch.config import compose

    config = compose.load(overrides or [])
    from launch.studies.plans.plan import plan, show

    planned = plan(config, tuple(str(config_path(path)) for path in site or ()))
    if as_json:
        print_json(planned.as_json())
    else:
        show(planned, console())
