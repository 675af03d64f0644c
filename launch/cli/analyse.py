"""`wardround analyse`: what a paper reports of a federation's patients, with inference."""

from typing import TYPE_CHECKING, Annotated

import typer

from launch.cli.query import Condition, Task, question_command, split
from protocol.errors import Code, WardroundError
from protocol.study.analysis import Family
from protocol.terminal.command_line import CommandLine

if TYPE_CHECKING:
    from launch.queries.question import Question

analyse_app = CommandLine(
    "Table one, regression and survival over a federation: from noised, summed tables.\n\n"
    "Each is a query whose tables are read as an analysis: hospitals allow it, debit it and count "
    "it as one. Intervals and p-values know of the noise. --html writes a page with plots, --csv "
    "every figure; docs/statistics.md says what is estimated, and how well."
)

Time = Annotated[
    str, typer.Option(help="A number column in public intervals: days:12, days:0/182/365/730.")
]
Event = Annotated[str, typer.Option(help="A condition that holds where the event happened.")]
Factors = Annotated[
    str, typer.Option(help="Columns or conditions, with commas: sex,age:45/65,sex * chol > 240.")
]
References = Annotated[str, typer.Option(help="Levels to compare with, with commas: cp=4,sex=0.")]
By = Annotated[str, typer.Option("--by", help="Groups: a column, bins (age:45/65), a condition.")]


@question_command(analyse_app)
def table_one(
    task: Task,
    variables: Annotated[str, typer.Option(help="Columns, with commas: age,chol:16 (bins), sex.")],
    by: By = "",
    where: Condition = "",
) -> "Question":
    """Patients, means, quartiles, shares, missing values; standardised differences by group.

    The table that describes a cohort, before anything is compared.

    Example: wardround analyse table-one --task heart_disease --variables age,chol,cp --by sex
    """
    from launch.queries import analyses
    from launch.queries.question import Question

    return analyses.table_one(Question.about(task, where=where), split(variables), by)


@question_command(analyse_app)
def survival(
    task: Task,
    time: Time,
    event: Event,
    by: By = "",
    strata: Annotated[
        str, typer.Option(help="The test compares groups within these: a column or a condition.")
    ] = "",
    where: Condition = "",
) -> "Question":
    """Kaplan-Meier curves with bands, patients at risk, median, restricted mean, log-rank test.

    From one table of intervals by event; the more intervals, the more noise.

    Example: wardround analyse survival --task my_task --time days:12 --event "died = 1" --by sex
    """
    from launch.queries import analyses
    from launch.queries.question import Question

    return analyses.survival(Question.about(task, where=where), time, event, by, strata)


@question_command(analyse_app)
def glm(
    task: Task,
    outcome: Annotated[
        str, typer.Option(help="A condition (binomial), or a number column (gaussian, poisson).")
    ],
    factors: Factors = "",
    numbers: Annotated[
        str, typer.Option(help="Number columns in bins that enter as numbers: age:8,chol:6.")
    ] = "",
    family: Annotated[Family, typer.Option(help="The outcome's distribution.")] = "binomial",
    references: References = "",
    offset: Annotated[str, typer.Option(help="A number column in bins, added to it.")] = "",
    weights: Annotated[str, typer.Option(help="A number column in bins of weights.")] = "",
    where: Condition = "",
) -> "Question":
    """Logistic, linear or Poisson regression, with standard errors that know the noise.

    From one table of all factors together: a few factors with few levels each. --numbers, --offset
    and --weights are axes of the table too, of as many cells as they have bins.

    Example: wardround analyse glm --task heart_disease --outcome "disease = 1" --factors sex,age
    """
    from launch.queries import analyses
    from launch.queries.question import Question

    question = Question.about(task, where=where)
    return analyses.glm(
        question,
        outcome,
        split(factors),
        family,
        _references(references),
        numbers=split(numbers),
        offset=offset,
        weights=weights,
    )


@question_command(analyse_app)
def cox(
    task: Task,
    time: Time,
    event: Event,
    factors: Factors,
    references: References = "",
    where: Condition = "",
) -> "Question":
    """Hazard ratios of factors (proportional hazards), with standard errors that know the noise.

    From one table of all factors by event and interval: a few factors with few levels each.

    Example: wardround analyse cox --task my_task --time days:6 --event "died = 1" --factors sex,arm
    """
    from launch.queries import analyses
    from launch.queries.question import Question

    question = Question.about(task, where=where)
    return analyses.cox(question, time, event, split(factors), _references(references))


Formula = Annotated[
    str,
    typer.Option(
        help="As R has it: 'num = 1 ~ age + sex * cp + (chol > 240)'. Numbers enter as they are."
    ),
]
Strata = Annotated[
    str, typer.Option(help="Within these each site keeps an intercept, or hazard, of its own.")
]
Weights = Annotated[str, typer.Option(help="A number column of prior weights.")]
Ridge = Annotated[float, typer.Option(help="A ridge penalty, of covariates between -1 and 1.")]
Iterates = Annotated[
    int, typer.Option(help="Sums without noise at most, each an exact release at every site.")
]


@question_command(analyse_app)
def exact_glm(
    task: Task,
    formula: Formula,
    family: Annotated[Family, typer.Option(help="The outcome's distribution.")] = "binomial",
    references: References = "",
    strata: Strata = "",
    weights: Weights = "",
    ridge: Ridge = 0.0,
    iterates: Iterates = 12,
    where: Condition = "",
) -> "Question":
    """Logistic, linear or Poisson regression without noise, where all participants are honest.

    As on pooled data with an intercept for each site. Counts with noise come first, and decide
    whether an exact sum is taken. Takes from every site's lifetime number of exact releases.

    Example: wardround analyse exact-glm --task heart_disease --formula "num = 1 ~ age + sex"
    """
    from launch.queries import exact_analyses
    from launch.queries.question import Question

    return exact_analyses.exact_glm(
        Question.about(task, where=where),
        formula,
        family,
        references=_references(references),
        strata=strata,
        weights=weights,
        ridge=ridge,
        iterates=iterates,
    )


@question_command(analyse_app)
def exact_cox(
    task: Task,
    time: Time,
    event: Event,
    formula: Annotated[str, typer.Option(help="The terms: 'age + sex * arm + offset(known)'.")],
    references: References = "",
    strata: Strata = "",
    weights: Weights = "",
    ridge: Ridge = 0.0,
    iterates: Iterates = 12,
    where: Condition = "",
) -> "Question":
    """Hazard ratios (Cox) without noise, where all participants are honest.

    Ties within public intervals (Breslow), a baseline hazard for each site; intervals with few
    events or departures, by counts with noise, are joined before. Otherwise as exact-glm.

    Example: wardround analyse exact-cox --task t --time days:12 --event "died = 1" --formula "age"
    """
    from launch.queries import exact_analyses
    from launch.queries.question import Question

    return exact_analyses.exact_cox(
        Question.about(task, where=where),
        time,
        event,
        formula,
        references=_references(references),
        strata=strata,
        weights=weights,
        ridge=ridge,
        iterates=iterates,
    )


@question_command(analyse_app)
def exact_survival(
    task: Task,
    time: Time,
    event: Event,
    by: By = "",
    strata: Annotated[
        str, typer.Option(help="The test compares groups within these: a column or a condition.")
    ] = "",
    where: Condition = "",
) -> "Question":
    """Kaplan-Meier curves and a log-rank test without noise, where all participants are honest.

    One sum of events and departures. Intervals in which a group has few of either, by counts with
    noise, are joined before. Otherwise as exact-glm.

    Example: wardround analyse exact-survival --task t --time days:12 --event "died = 1" --by arm
    """
    from launch.queries import exact_analyses
    from launch.queries.question import Question

    return exact_analyses.exact_survival(Question.about(task, where=where), time, event, by, strata)


def _references(text: str) -> dict[str, str]:
    return dict(_reference(part) for part in split(text))


def _reference(text: str) -> tuple[str, str]:
    column, sign, level = text.rpartition("=")
    if not sign:
        raise WardroundError(
            Code.CONFIGURATION, f"--references has {text!r}.", remedy="For example: cp=4,sex=0."
        )
    return column.strip(), level.strip()
