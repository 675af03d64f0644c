"""Ready-made questions: would there be enough patients, how good is the data, how much dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from launch.queries.drift import Released
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.statistics.harmonisation.between_sites import groups
from protocol.study.analysis import Harmonisation
from protocol.study.query import Bins, Cells, Differing, Query
from tasks import query_schema
from tasks.query_schema import check

DOSE = "dicom_dose"
_DOSES = {
    "ctdi_vol": "0/5/10/15/20/30/40/60/100",
    "dlp": "0/100/200/400/600/800/1200/2000/4000",
    "exposure": "0/1/2/5/10/20/50/100/200/500/1000",
}
"""Edges, in mGy, mGy.cm and mA.s."""


def feasibility(task: str, where: str = "", by: Sequence[str] = ()) -> Question:
    """How many patients would a study have, in all and by these columns (age and sex, where the
    task has them)."""
    question = Question.about(task, where=where, title=f"Feasibility: {task}")
    known = query_schema.columns(question.schema)
    axes = tuple(by) or tuple(name for name in ("age", "sex") if name in known)
    question = question.count()
    return question.table(*axes) if axes else question


def quality(task: str, where: str = "", columns: Sequence[str] = ()) -> Question:
    """What share of each column is missing or out of its public range, and how common each
    category is, the label's above all. One budget is split over all columns."""
    question = Question.about(task, where=where, title=f"Data quality: {task}")
    schema = question.schema
    for name in columns or query_schema.columns(schema):
        column = query_schema.find(schema, name)
        if column.kind == "category":
            question = question.histogram(name)
        else:
            inside = Bins(column=name, edges=(column.low, column.high), outside=True)
            question = question.of(Cells(name=name, axes=(inside,)))
    return question


def sites_that_differ(task: str, references: Sequence[Released]) -> Question:
    """How many sites differ from all together in each of these columns, by more than noise, and how
    far they lie from one another; every site sees for itself in which. references: what `quality`
    or histograms released before.

    Raises WardroundError: CONFIGURATION for a reference of another task, REFUSED_STUDY for a column
    that the task lacks."""
    question = Question.about(task, title=f"Data quality by site: {task}")
    for one in references:
        if one.task != task:
            raise WardroundError(
                Code.CONFIGURATION,
                f"A reference is of the task {one.task}, not of {task}.",
                remedy="Name the folder of a `wardround query quality` about this task.",
            )
        (axis,) = one.cells.axes
        counts, variances = np.array(one.reference.counts), np.array(one.reference.variances)
        statistic = Differing(
            name=one.cells.name,
            axis=axis,
            released=one.reference,
            groups=groups(counts, variances, one.sites),
        )
        question = question.of(statistic)
    check(Query(statistics=question.statistics), question.schema)
    return replace(question, analysis=Harmonisation())


def dose(where: str = "", by: Sequence[str] = ("region", "vendor")) -> Question:
    """Patients' radiation dose, CTDIvol and DLP of CT and exposure of radiographs, by region of the
    body and vendor; each patient by his newest image that says it."""
    question = Question.about(DOSE, where=where, title="Radiation dose by protocol and vendor")
    question = question.table(*by, name=f"patients by {' and '.join(by)}")
    for column, edges in _DOSES.items():
        known, axis = f"not {column} is missing", f"{column}:{edges}"
        question = question.quantiles(axis, (0.5, 0.75, 0.95), where=known)
        for other in by:
            question = question.table(axis, other, where=known)
    return question
