"""Watching a released model: are its scores, and what it is given, still as they were?

    references = [*histograms_of(Path("outputs/training")), *histograms_of(Path("outputs/inputs"))]
    question = drift(Question.about("heart_disease"), Scored(model=..., since=..., until=...),
                     references)

A reference is what was released before: the evaluation of the study that trained the model, a query
for histograms, or an earlier period. Comparing with it costs no privacy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
from protocol.study.analysis import Drift
from protocol.study.query import Bins, Cells, Query, Reference, Scored
from protocol.study.study import Study
from protocol.untrusted import parsing
from tasks.query_schema import PREDICTED, asked_schema, check

SCORE_BINS = 16
"""At most, of a histogram of scores that is compared."""
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Released:
    """A histogram of one column that was released before, by a study of so many sites."""

    task: str
    sites: int
    cells: Cells
    reference: Reference


def watched(question: Question, scored: Scored, inputs: Sequence[str] = ()) -> Question:
    """Histograms of what the model said in a period, and of these columns, `Question.axis` each:
    the first period, with which later ones can be compared.

    Raises WardroundError as `Question.axis` does, and REFUSED_STUDY for the label, which nobody
    knows when a model is used."""
    low, high = question.task.outcome.score_range
    for name in question.task.outcome.score_columns:
        edges = tuple(float(edge) for edge in np.linspace(low, high, SCORE_BINS + 1))
        axis = Bins(column=PREDICTED + name, edges=edges)
        question = question.of(Cells(name=axis.column, axes=(axis,)))
    for text in inputs:
        axes = (question.axis(text),)
        question = question.of(Cells(name=axes[0].column, axes=axes))
    _check(question, scored)
    title = question.title or f"What a model of {question.task.name} says"
    return replace(question, scored=scored, title=title)


def drift(question: Question, scored: Scored, references: Sequence[Released]) -> Question:
    """The same cells as those of the references, counted in a period and compared with them.

    Raises WardroundError: CONFIGURATION for a reference of another task, or none at all,
    REFUSED_STUDY for a column that the task lacks."""
    if not references:
        raise WardroundError(
            Code.CONFIGURATION,
            "There is nothing to compare with.",
            remedy="Give --reference with the folder of a study or query whose histograms were "
            "released; or leave it out to release the first period.",
        )
    for one in references:
        if one.task != question.task.name:
            raise WardroundError(
                Code.CONFIGURATION,
                f"A reference is of the task {one.task}, not of {question.task.name}.",
                remedy="Name the study that trained the model, or queries about its task.",
            )
        question = question.of(one.cells)
    _check(question, scored)
    title = question.title or f"Drift of a model of {question.task.name}"
    analysis = Drift(references=tuple(one.reference for one in references))
    return replace(question, scored=scored, title=title, analysis=analysis)


def _check(question: Question, scored: Scored) -> None:
    query = Query(statistics=question.statistics, scored=scored)
    check(query, asked_schema(query, question.task.schema, question.task.outcome))


def histograms_of(folder: Path) -> list[Released]:
    """The histograms of one column each that a study or query released, from study.json and
    summary.json in its folder.

    Raises WardroundError: NO_DATA where a file cannot be read or holds no such histogram,
    MALFORMED_DATA where it is damaged."""
    study = Study.parse(_content(folder / "study.json"))
    with parsing(
        f"{folder / 'summary.json'} is no summary of a study, or a damaged one.",
        Code.MALFORMED_DATA,
        "Name the folder that `wardround run` or `wardround query` wrote.",
    ):
        summary = json.loads(_content(folder / "summary.json"))
        if summary["study"] != study.digest:
            raise ValueError
        found = _answered(study, study.query, summary) if study.query else _scores(study, summary)
    if not found:
        raise WardroundError(
            Code.NO_DATA,
            f"{folder} holds no released histogram of one column.",
            remedy="A study releases its scores where it is evaluated, and has done so since this "
            "release, except for masks; a query for a histogram releases a column.",
        )
    return found


def _answered(study: Study, query: Query, summary: Mapping[str, Any]) -> list[Released]:
    """A count that is hidden is somewhere from 0 to `least_count`."""
    found: list[Released] = []
    if query.where is not None:
        return found
    for statistic, answer in zip(query.statistics, summary["answers"], strict=True):
        if not isinstance(statistic, Cells) or len(statistic.axes) != 1 or statistic.where:
            continue
        if statistic.quantiles:  # its rows are the quantiles
            continue
        hidden, noise = float(query.least_count), (answer["within_95"] / _NORMAL_95) ** 2
        counts = [float(row.get("value", hidden / 2)) for row in answer["rows"]]
        variances = [noise + (hidden**2 / 12 if "hidden" in row else 0) for row in answer["rows"]]
        reference = Reference(counts=tuple(counts), variances=tuple(variances))
        found.append(Released(study.task.name, len(study.roster), statistic, reference))
    return found


def _scores(study: Study, summary: Mapping[str, Any]) -> list[Released]:
    """Of the last evaluation: scores whatever the label was, in fewer bins. One histogram for each
    column of scores of which the evaluation tells."""
    if (opened := summary.get("scores")) is None:
        return []
    bins, found = study.evaluation.bins, []
    starts = np.linspace(0, bins, min(SCORE_BINS, bins) + 1).round().astype(int)
    noise = float(opened["variance"]) * np.diff(starts)
    for name, one in _by_score(study.outcome, np.array(opened["counts"]), bins).items():
        shares = np.add.reduceat(one.counts, starts[:-1])
        axis = Bins(column=PREDICTED + name, edges=tuple(map(float, one.edges[starts])))
        variances = map(float, noise * one.variances)
        reference = Reference(counts=(*map(float, shares), 0.0), variances=(*variances, 0.0))
        cells = Cells(name=axis.column, axes=(axis,))
        found.append(Released(study.task.name, len(study.roster), cells, reference))
    return found


@dataclass(frozen=True)
class _Scores:
    """(bins,) noised patients by score, the (bins + 1,) edges, and how many times the variance of
    one released cell each has."""

    counts: npt.NDArray[np.float64]
    edges: npt.NDArray[np.float64]
    variances: float


def _by_score(of: OutcomeKind, opened: npt.NDArray[np.float64], bins: int) -> dict[str, _Scores]:
    """By column of scores, of those that an evaluation tells of. Of several labels the histogram of
    each is of the patients in whom that one was known."""
    low, high = of.score_range
    even, names = np.linspace(low, high, bins + 1), of.score_columns
    match of:
        case Binary():
            return {names[0]: _Scores(opened.reshape(2, bins).sum(axis=0), even, 2)}
        case Regression():
            return {names[0]: _Scores(opened.reshape(bins, bins).sum(axis=0), even, bins)}
        case EventCount():
            table, edges = opened.reshape(-1, bins), np.linspace(0, 1, bins + 1) ** 2 * high
            return {names[0]: _Scores(table.sum(axis=0), edges, len(table))}
        case Multiclass() | Ordinal():
            by_class, edges = of.by_probability(opened, bins)
            return {n: _Scores(one, edges, 2) for n, one in zip(names, by_class, strict=True)}
        case MultiLabel():
            by_label = opened.reshape(of.labels, 2, bins).sum(axis=1)
            return {n: _Scores(one, even, 2) for n, one in zip(names, by_label, strict=True)}
        case TimeToEvent():
            return {names[-1]: _Scores(*of.by_survival(opened, bins))}
        case Segmentation():
            return {}
        case never:
            assert_never(never)


def not_compared(question: Question) -> str:
    """In words, which of the model's scores are compared with nothing, and why; "" for none."""
    of = question.task.outcome
    compared = {axis.column for one in question.statistics if isinstance(one, Cells)
                for axis in one.axes if isinstance(axis, Bins)}  # fmt: skip
    left = [name for name in of.score_columns if PREDICTED + name not in compared]
    if not left:
        return ""
    match of:
        case TimeToEvent():
            why = "a study's evaluation tells of the survival of the last interval alone"
        case Segmentation():
            why = "a study's evaluation of masks releases no histogram of what the model says"
        case Binary() | Regression() | EventCount() | Multiclass() | Ordinal() | MultiLabel():
            why = "no reference has a histogram of them"
        case never:
            assert_never(never)
    return (
        f"Not compared: {', '.join(left)}, since {why}. Release them for a first period (leave "
        "--reference out), and give that period as a reference later."
    )


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA,
            f"{file} cannot be read: {error.strerror}.",
            remedy="Name the folder that `wardround run` or `wardround query` wrote.",
        ) from None
