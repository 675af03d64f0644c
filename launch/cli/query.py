"""`wardround query`: counts and distributions over a federation, before anybody trains anything."""

import functools
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protocol.errors import Code, WardroundError, unwritable
from protocol.terminal.command_line import CommandLine, Json, console, print_json
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from launch.queries.question import Question

query_app = CommandLine(
    "Ask hospitals for counts, not for records: noised, summed, and only where they allow it.\n\n"
    "Before a study, to learn whether there are patients enough for it. With --credentials a "
    "coordinator's hospitals are asked, without it the task's public data, on this machine. Each "
    "query is debited from every site's ledger; --dry-run says how much, and asks nothing."
)

Task = Annotated[str, typer.Option(help="The task whose cohort is counted.")]
Condition = Annotated[
    str, typer.Option("--where", help="A condition on a record: 'age >= 60 and sex = 0'.")
]
By = Annotated[
    str, typer.Option("--by", help="Columns, with commas: age:5,sex (bins), age:45/60/75 (edges).")
]


def run_query(
    question: "Question",
    epsilon: Annotated[
        float,
        typer.Option(help="Bound on each patient's privacy loss, all statistics together."),
    ] = 0.5,
    delta: Annotated[float, typer.Option(help="The delta at which epsilon holds.")] = 1e-5,
    least_count: Annotated[
        int, typer.Option(help="Smaller counts are shown as 'fewer than'.")
    ] = 10,
    purpose: Annotated[
        str, typer.Option(help="The purpose, which sites read and their policies match.")
    ] = "research",
    title: Annotated[str, typer.Option(help="The title that sites read.")] = "",
    attempts: Annotated[
        int, typer.Option(help="Attempts that epsilon pays for, in case a site drops out.")
    ] = 1,
    sites_per_patient: Annotated[
        int, typer.Option(help="At how many of the sites one patient may be.")
    ] = 1,
    credentials: Annotated[
        Path | None,
        typer.Option(
            envvar="WARDROUND_CREDENTIALS",
            help="The credentials file of a coordinator whose hospitals are asked.",
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            envvar="WARDROUND_COORDINATOR", help="host:port, instead of the one in the credentials."
        ),
    ] = None,
    permit: Annotated[
        Path | None,
        typer.Option(help="A YAML file with the permit under which hospitals are asked."),
    ] = None,
    tracking: Annotated[
        str | None,
        typer.Option(
            envvar="MLFLOW_TRACKING_URI", help="An MLflow server, for queries on this machine."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The folder for study.json and summary.json.")
    ] = Path("outputs"),
    page: Annotated[
        Path | None, typer.Option("--html", help="Write a page with plots to this file.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--csv", help="Write all figures to this file.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cost; read no data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Asks a question, or with --dry-run says what it would cost; every query has these options."""
    from dataclasses import asdict, replace

    from launch.queries import ask as asking
    from launch.queries.ask import Where, ask
    from launch.queries.query_builder import Price, cost
    from launch.queries.result_view import show

    question = replace(question, least_count=least_count, title=title or question.title)
    price = Price(
        epsilon=epsilon,
        delta=delta,
        purpose=purpose,
        attempts=attempts,
        sites_per_patient=sites_per_patient,
    )
    errors = console(stderr=True)
    where = Where(
        credentials=credentials.expanduser() if credentials is not None else None,
        coordinator=coordinator,
        tracking=tracking,
        output=output,
        permit=permit,
        console=errors,
    )
    if dry_run:
        study, answers = asking.dry_run(question, price, where)
        if as_json:
            print_json({"study": json.loads(study.document), "sites": answers})
            return
        screen = console()
        screen.print(cost(study))
        for name, sites in (answers or {}).get("answers", {}).items():
            screen.print(f"{sites} sites: {printable(name)}")
        for rule, sites in (answers or {}).get("rules", {}).items():
            screen.print(f"{sites} refuse by policy.{printable(rule)}")
        return
    answered = ask(question, price, where)
    if as_json:
        outcome = answered.outcome
        spent = {"epsilon": outcome.epsilon, "delta": outcome.study.privacy.delta}
        answers = {"study": outcome.study.digest, **spent, "answers": answered.plain}
        analysis = answered.analysis
        print_json(answers if analysis is None else answers | {"analysis": asdict(analysis)})
    else:
        show(answered, console())
    # the answers are on the screen, should the disk be full
    for file, text in ((page, answered.page), (figures, answered.csv)):
        if file is not None:
            try:
                file.write_text(text(), encoding="utf-8")
            except OSError as error:
                raise unwritable(file, error) from None


def question_command(
    app: CommandLine,
) -> Callable[[Callable[..., "Question"]], Callable[..., None]]:
    """Makes a command of `app`, with the options of its question and those of every query."""

    def command(make: Callable[..., "Question"]) -> Callable[..., None]:
        own = list(inspect.signature(make).parameters.values())
        _, *shared = inspect.signature(run_query).parameters.values()

        @functools.wraps(make)
        def run(**options: Any) -> None:
            question = make(**{parameter.name: options.pop(parameter.name) for parameter in own})
            run_query(question, **options)

        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # typer reads it, by inspect
            [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
        )
        run.__annotations__ = {one.name: one.annotation for one in (*own, *shared)}
        app.command(name=make.__name__.replace("_", "-"), help=make.__doc__)(run)
        return run

    return command


@question_command(query_app)
def feasibility(task: Task, where: Condition = "", by: By = "") -> "Question":
    """How many patients would a study have, by age band and sex?

    The first question before a study is planned.

    Example: wardround query feasibility --task heart_disease --where "chol > 240" --dry-run
    """
    from launch.queries import presets

    return presets.feasibility(task, where, split(by))


@question_command(query_app)
def quality(
    task: Task,
    where: Condition = "",
    by: By = "",
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="The folder of an earlier `query quality`, with study.json and summary.json: then "
            "it is asked at how many hospitals these columns differ from all together. Repeatable."
        ),
    ] = None,
) -> "Question":
    """What share of each column is missing or out of range, and how common is the label?

    Before training on columns that no two hospitals may fill in alike. With --reference: how many
    hospitals differ, by more than noise, and how far they lie apart (Q, I2). Which ones nobody
    learns but they: each sees for itself in which columns, on a page in its state folder.

    Example: wardround query quality --task heart_disease --epsilon 1
    """
    from launch.queries import presets

    if not reference:
        return presets.quality(task, where, split(by))
    if where or by:
        raise WardroundError(
            Code.CONFIGURATION,
            "--where and --by are for a query that is compared with nothing.",
            remedy="With --reference, patients and columns are those of the references.",
        )
    from launch.queries.drift import histograms_of

    found = [one for folder in reference for one in histograms_of(folder)]
    return presets.sites_that_differ(task, found)


@question_command(query_app)
def dose(where: Condition = "", by: By = "region,vendor") -> "Question":
    """Radiation dose (CTDIvol, DLP, exposure) by region and vendor, from DICOM metadata.

    To compare hospitals' protocols as a whole; needs sites with an index of pictures.

    Example: wardround query dose --credentials ada.json --by region
    """
    from launch.queries import presets

    return presets.dose(where, split(by))


@question_command(query_app)
def count(task: Task, where: Condition = "") -> "Question":
    """How many patients, all or those of a condition?

    For one number and nothing else.

    Example: wardround query count --task heart_disease --where "age >= 60 and sex = 0"
    """
    from launch.queries.question import Question

    return Question.about(task, where=where).count()


@question_command(query_app)
def histogram(task: Task, by: By, where: Condition = "") -> "Question":
    """How many patients in each bin or category? Several columns: one histogram each.

    To see a distribution, such as that of age, before a condition is chosen.

    Example: wardround query histogram --task heart_disease --by age:5,sex
    """
    from launch.queries.question import Question

    question = Question.about(task, where=where)
    for axis in split(by):
        question = question.histogram(axis)
    return question


@question_command(query_app)
def table(task: Task, by: By, where: Condition = "") -> "Question":
    """How many patients by two columns or conditions together?

    To see whether two things go together.

    Example: wardround query table --task heart_disease --by "sex,chol > 240"
    """
    from launch.queries.question import Question

    return Question.about(task, where=where).table(*split(by))


@question_command(query_app)
def quantiles(
    task: Task,
    by: By,
    where: Condition = "",
    at: Annotated[str, typer.Option(help="Which quantiles, with commas.")] = "0.25,0.5,0.75",
) -> "Question":
    """Quantiles of columns, read off 32 bins of their public ranges (or as --by says).

    For a median or quartiles where a mean would mislead.

    Example: wardround query quantiles --task heart_disease --by age,chol --at 0.5,0.9
    """
    try:
        wanted = tuple(float(part) for part in at.split(","))
    except ValueError:
        raise WardroundError(
            Code.CONFIGURATION, f"--at is {at!r}.", remedy="For example: --at 0.25,0.5,0.75"
        ) from None
    from launch.queries.question import Question

    question = Question.about(task, where=where)
    for axis in split(by):
        question = question.quantiles(axis, wanted)
    return question


@question_command(query_app)
def mean(task: Task, by: By, where: Condition = "") -> "Question":
    """Means of columns, clipped to their public ranges.

    Where a column has no long tail; where it has one, quantiles tell more.

    Example: wardround query mean --task heart_disease --by age,chol
    """
    from launch.queries.question import Question

    question = Question.about(task, where=where)
    for column in split(by):
        question = question.mean(column)
    return question


@question_command(query_app)
def drift(
    task: Task,
    model: Annotated[
        str, typer.Option(help="The digest of its bundle, as `wardround models verify` shows it.")
    ],
    since: Annotated[str, typer.Option(help="The first month, such as 2026-07 (UTC).")],
    until: Annotated[str, typer.Option(help="The last month; left out: the first one.")] = "",
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="The folder of what was released before, with study.json and summary.json: the "
            "study that trained the model, a query for histograms, an earlier period. Repeatable."
        ),
    ] = None,
    by: By = "",
) -> "Question":
    """Does a released model still say, and get, what it did? Alarms for whoever watches it.

    Counts the patients whom hospitals scored with the model in these months, one prediction each,
    where their policies let it be watched. With --reference the shares are compared with those of
    then; without, the histograms of scores and of --by are released, to compare later periods with.
    A period that is not over is accepted and reserved now, and answered once it is.

    Example: wardround query drift --task heart_disease --model 7d0c --since 2026-07 --dry-run
    """
    from pydantic import ValidationError

    from launch.queries import drift as watching
    from launch.queries.question import Question
    from protocol.study.query import Scored

    try:
        scored = Scored(model=model, since=since, until=until or since)
    except ValidationError:
        raise WardroundError(
            Code.CONFIGURATION,
            "--model is the 64 digits of a bundle's digest, --since and --until are months.",
            remedy="For example: --since 2026-07 --until 2026-09.",
        ) from None
    question = Question.about(task)
    if not reference:
        return watching.watched(question, scored, split(by))
    if by:
        raise WardroundError(
            Code.CONFIGURATION,
            "--by is for a period that is compared with nothing.",
            remedy="With --reference, the columns are those of the references.",
        )
    found = [one for folder in reference for one in watching.histograms_of(folder)]
    question = watching.drift(question, scored, found)
    if remark := watching.not_compared(question):
        typer.echo(remark, err=True)
    return question


def split(text: str) -> tuple[str, ...]:
    """The parts between commas, except those within parentheses: `sex,cp in (1, 2)` has two."""
    return tuple(part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip())
