"""`wardround run` and `wardround plan`: from a sentence of overrides to a study, or to its cost."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import click
import typer
from rich.console import Console
from typer.core import TyperCommand

from launch.cli import completion
from protocol.errors import Code, WardroundError

_errors = Console(stderr=True)
_CFG = ("job", "hydra", "all")

RUN_HELP = """Run a study.

A study is one sentence of overrides (Hydra's grammar):

    wardround run task=heart_disease privacy=distributed privacy.epsilon=1 rounds=100

Several studies are one sentence with several values, run side by side:

    wardround run -m privacy.epsilon=0.3,1,3,10 "seed=range(5)"

`wardround run --info` explains every group and key, `--cfg job` shows what a sentence comes to.
The result is left under outputs/ (summary.json, weights.npy, study.json) and in MLflow, where
MLFLOW_TRACKING_URI or tracking.uri names a server.
"""
PLAN_HELP = """Say what a study would cost, and who would take part in it; run nothing.

Privacy, bytes and time follow from the study alone. With federation=deployment, the sites that
are connected are asked how they would answer, which no site records as a study.

    wardround plan task=heart_disease privacy.epsilon=1 federation=deployment
"""


class RunCommand(TyperCommand):
    """`--cfg` alone means `--cfg job`, as Hydra's users know it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for at, word in enumerate(args):
            if word == "--cfg" and args[at + 1 : at + 2] not in ([what] for what in _CFG):
                args = [*args[:at], "--cfg=job", *args[at + 1 :]]
                break
        return super().parse_args(ctx, args)


Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value", autocompletion=completion.overrides)
]


def run_command(
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="A sweep: several values of some keys.")
    ] = False,
    resume: Annotated[
        str, typer.Option(help="Go on with an interrupted study: its folder, or its digest.")
    ] = "",
    cfg: Annotated[
        str, typer.Option(help="Show the configuration (job, hydra or all), run nothing.")
    ] = "",
    info: Annotated[bool, typer.Option("--info", help="Explain every key, run nothing.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, help="Processes of a sweep; 0: one a core.")
    ] = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a sweep.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    words = overrides or []
    if info:
        from launch.cli.info import explain

        explain(Console())
    elif cfg:
        _show_configuration(words, cfg)
    elif multirun:
        _sweep(words, jobs, yes, as_json)
    else:
        _study(words, resume, as_json)


def _show_configuration(words: list[str], what: str) -> None:
    import yaml

    from launch.config import compose

    if what not in _CFG:
        raise WardroundError(
            Code.USAGE, f"--cfg {what} means nothing.", remedy="Choose job, hydra or all."
        )
    if what == "job":
        plain = compose.plain(compose.load(words))
        typer.echo(yaml.safe_dump(plain, sort_keys=False), nl=False)
    else:
        typer.echo(compose.hydra_yaml(words, whole=what == "all"), nl=False)


def _study(words: list[str], where: str, as_json: bool) -> None:
    from launch.config import compose

    config = None if where else compose.load(words)  # a typo is said before torch is there
    from launch.studies.result_view import show
    from launch.studies.resume import resume
    from launch.studies.run import run

    finished = run(config, _errors) if config else resume(where, words, _errors)
    if as_json:
        typer.echo((finished.folder / "summary.json").read_text(), nl=False)
    else:
        show(finished, Console())


def _sweep(words: list[str], jobs: int, yes: bool, as_json: bool) -> None:
    from launch.sweeps.sweep import Sweep, announcement, show

    sweep = Sweep.of(words)
    if warning := announcement(sweep):
        _errors.print(warning, style="yellow", highlight=False)
        if not yes:
            if not sys.stdin.isatty():
                raise WardroundError(
                    Code.USAGE,
                    "Nobody is there to agree to what this sweep spends.",
                    remedy="Say so with --yes.",
                )
            typer.confirm("Start?", abort=True)
    folder = sweep.run(jobs, _errors)
    if as_json:
        typer.echo((folder / "sweep.json").read_text(), nl=False)
    else:
        show(folder, Console())


def plan_command(
    overrides: Overrides = None,
    site: Annotated[
        list[str] | None,
        typer.Option(help="A site.yaml on this machine, whose policy is asked as well."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    from launch.config import compose

    config = compose.load(overrides or [])
    from launch.studies.plan import plan, show

    planned = plan(config, tuple(site or ()))
    if as_json:
        typer.echo(json.dumps(planned.as_json(), indent=2))
    else:
        show(planned, Console())
