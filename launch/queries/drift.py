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

from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
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
            "release; a query for a histogram releases a column.",
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
    column of scores; none where a label may be missing, of whom the histogram would not tell."""
    if (opened := summary.get("scores")) is None:
        return []
    bins, of = study.evaluation.bins, study.outcome
    counts = np.array(opened["counts"], dtype=np.float64)
    low, high = of.score_range
    edges = np.linspace(low, high, bins + 1)
    match of:
        case Binary():
            by_score, added = counts.reshape(2, bins).sum(axis=0)[None], 2
        case Regression():
            by_score, added = counts.reshape(bins, bins).sum(axis=0)[None], bins
        case Multiclass() | Ordinal():
            (by_score, edges), added = of.by_probability(counts, bins), 2
        case MultiLabel() | EventCount() | TimeToEvent() | Segmentation():
            return []
        case never:
            assert_never(never)
    joined = next(n for n in range(min(SCORE_BINS, bins), 0, -1) if bins % n == 0)
    variance = float(opened["variance"]) * added * bins / joined
    found = []
    for name, of_column in zip(of.score_columns, by_score, strict=True):
        shares = of_column.reshape(joined, -1).sum(axis=1)
        axis = Bins(column=PREDICTED + name, edges=tuple(map(float, edges[:: bins // joined])))
        reference = Reference(
            counts=(*map(float, shares), 0.0), variances=(*[variance] * joined, 0.0)
        )
        found.append(
            Released(
                study.task.name, len(study.roster), Cells(name=axis.column, axes=(axis,)), reference
            )
        )
    return found


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA,
            f"{file} cannot be read: {error.strerror}.",
            remedy="Name the folder that `wardround run` or `wardround query` wrote.",
        ) from None
