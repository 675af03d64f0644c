"""`wardround query`: counts and distributions over a federation, before anybody trains anything."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from protocol.errors import Code, WardroundError

if TYPE_CHECKING:
    from launch.queries.question import Question

query_app = typer.Typer(
    help="Ask hospitals for counts, not for records: noised, summed, and only where they allow it.",
    no_args_is_help=True,
)

Task = Annotated[str, typer.Option(help="The task whose cohort is asked about.")]
Condition = Annotated[
    str, typer.Option("--where", help="A condition on a record: 'age >= 60 and sex = 0'.")
]
By = Annotated[
    str, typer.Option("--by", help="Columns, with commas: age:5,sex (bins), age:45/60/75 (edges).")
]


def options(
    epsilon: Annotated[
        float, typer.Option(help="For each patient, all statistics together.")
    ] = 0.5,
    delta: Annotated[float, typer.Option(help="At which epsilon holds.")] = 1e-5,
    least_count: Annotated[int, typer.Option(help="Below it: 'fewer than'.")] = 10,
    purpose: Annotated[str, typer.Option(help="What sites are told it is for.")] = "research",
    title: Annotated[str, typer.Option(help="What sites are told it is.")] = "",
    attempts: Annotated[int, typer.Option(help="Sums paid for, should a site drop out.")] = 1,
    credentials: Annotated[
        Path | None,
        typer.Option(
            envvar="WARDROUND_CREDENTIALS",
            help="A coordinator's file: asks its hospitals. Without: the task's public data, here.",
        ),
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(envvar="WARDROUND_COORDINATOR", help="host:port instead.")
    ] = None,
    tracking: Annotated[
        str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow, for queries here.")
    ] = None,
    output: Annotated[Path, typer.Option(help="For study.json and summary.json.")] = Path(
        "outputs"
    ),
    page: Annotated[Path | None, typer.Option("--html", help="Write a page with plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Say what it would cost, and ask nothing of any patient.")
    ] = False,
) -> None:
    """The options of every query."""


def _command(make: Callable[..., "Question"]) -> Callable[..., None]:
    """A command with the options of its question and those of every query."""

    @functools.wraps(make)
    def run(**given: Any) -> None:
        own = {name: given.pop(name) for name in inspect.signature(make).parameters}
        _run(make(**own), **given)

    shared = inspect.signature(options).parameters
    mine = inspect.signature(make).parameters
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*mine.values(), *shared.values())
        ]
    )
    run.__annotations__ = {
        parameter.name: parameter.annotation for parameter in (*mine.values(), *shared.values())
    }
    query_app.command(name=make.__name__, help=make.__doc__)(run)
    return run


@_command
def feasibility(task: Task, where: Condition = "", by: By = "") -> "Question":
    """How many patients would a study have, by age band and sex?"""
    from launch.queries import presets

    return presets.feasibility(task, where, _split(by))


@_command
def quality(task: Task, where: Condition = "", by: By = "") -> "Question":
    """What share of each column is missing or out of range, and how common is the label?"""
    from launch.queries import presets

    return presets.quality(task, where, _split(by))


@_command
def dose(where: Condition = "", by: By = "region,vendor") -> "Question":
    """Radiation dose (CTDIvol, DLP, exposure) by protocol and vendor, from DICOM metadata."""
    from launch.queries import presets

    return presets.dose(where, _split(by))


@_command
def count(task: Task, where: Condition = "") -> "Question":
    """How many patients?"""
    from launch.queries.question import Question

    return Question.about(task, where=where).count()


@_command
def histogram(task: Task, by: By, where: Condition = "") -> "Question":
    """How many patients in each bin or category? Several columns: one histogram each."""
    from launch.queries.question import Question

    question = Question.about(task, where=where)
    for axis in _split(by):
        question = question.histogram(axis)
    return question


@_command
def table(task: Task, by: By, where: Condition = "") -> "Question":
    """How many patients by two columns or conditions together: --by 'sex,chol > 240'."""
    from launch.queries.question import Question

    return Question.about(task, where=where).table(*_split(by))


@_command
def quantiles(
    task: Task,
    by: By,
    where: Condition = "",
    at: Annotated[str, typer.Option(help="Which, with commas.")] = "0.25,0.5,0.75",
) -> "Question":
    """Quantiles of columns, read off 32 bins of their public ranges (or as --by says)."""
    try:
        wanted = tuple(float(part) for part in at.split(","))
    except ValueError:
        raise WardroundError(
            Code.CONFIGURATION, f"--at is {at!r}.", remedy="For example: --at 0.25,0.5,0.75"
        ) from None
    from launch.queries.question import Question

    question = Question.about(task, where=where)
    for axis in _split(by):
        question = question.quantiles(axis, wanted)
    return question


@_command
def mean(task: Task, by: By, where: Condition = "") -> "Question":
    """Means of columns, clipped to their public ranges."""
    from launch.queries.question import Question

    question = Question.about(task, where=where)
    for column in _split(by):
        question = question.mean(column)
    return question


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _run(
    question: "Question",
    *,
    epsilon: float,
    delta: float,
    least_count: int,
    purpose: str,
    title: str,
    attempts: int,
    credentials: Path | None,
    coordinator: str | None,
    tracking: str | None,
    output: Path,
    page: Path | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    from dataclasses import replace

    from launch.queries.ask import Where, ask, would
    from launch.queries.query_builder import Price, cost
    from launch.queries.result_view import show

    question = replace(question, least_count=least_count, title=title or question.title)
    price = Price(epsilon=epsilon, delta=delta, purpose=purpose, attempts=attempts)
    console = Console(stderr=True)
    where = Where(
        credentials=credentials.expanduser() if credentials is not None else None,
        coordinator=coordinator,
        tracking=tracking,
        output=output,
        console=console,
    )
    if dry_run:
        study, answers = would(question, price, where)
        if as_json:
            typer.echo(json.dumps({"study": json.loads(study.document), "sites": answers}))
            return
        console.print(cost(study), highlight=False)
        for name, sites in (answers or {}).get("answers", {}).items():
            console.print(f"{sites} sites: {name}", highlight=False)
        for rule, sites in (answers or {}).get("rules", {}).items():
            console.print(f"{sites} refuse by policy.{rule}", highlight=False)
        return
    answered = ask(question, price, where)
    if page is not None:
        _write(page, answered.page())
    if as_json:
        outcome = answered.outcome
        spent = {"epsilon": outcome.epsilon, "delta": outcome.study.privacy.delta}
        found = {"study": outcome.study.digest, **spent, "answers": answered.plain}
        typer.echo(json.dumps(found, indent=2))
    else:
        show(answered, Console())


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WardroundError(
            Code.USAGE, f"{path} cannot be written: {error.strerror}.", remedy="Name another file."
        ) from None
