"""What a model said and was given, kept at this site to be counted for drift, and counted.

One prediction of each patient and month is kept (`PredictionState.add`), under a keyed hash of the
patient's name, where policy.predict says `watch: true` for the model. It leaves as noised counts
alone, by a query that is approved and debited as any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from client.cohorts.loading import build_query_contributor, objecting_names
from client.cohorts.query_counts import QueryContributor
from client.config.site_config import SiteConfig
from client.governance.patient_split import PatientSplit
from client.prediction.allowed_model import AllowedModel
from client.prediction.predictions import Prediction
from client.prediction.state import FILE, PredictionState
from protocol.errors import Code, WardroundError
from protocol.study.query import Scored
from protocol.study.study import Study
from tasks.base import Task
from tasks.query_schema import PREDICTED, scored_schema
from tasks.schema import PATIENT, Table


def to_keep(
    config: SiteConfig, model: AllowedModel, predictions: Sequence[Prediction]
) -> Iterator[tuple[bytes, str]]:
    """Of each prediction the patient's keyed hash, and as JSON what was said and given; nothing
    where the policy does not let the model be watched.

    Raises WardroundError(STATE) where the site's secret cannot be read."""
    if not model.rules.watch:
        return
    split, task = PatientSplit.load(config.state), model.task
    names = [PREDICTED + name for name in task.outcome.score_columns]
    for one in predictions:
        said = dict(zip(names, one.scores, strict=True)) | dict(one.given)
        yield split.name(task.name, one.patient), json.dumps(said)


def answering(config: SiteConfig, task: Task, study: Study) -> QueryContributor:
    """Who counts for a query: the records of the task's view, or what a model said of patients.

    Raises WardroundError as `build_query_contributor` does, STATE and NO_DATA."""
    if study.query is None or study.query.scored is None:
        return build_query_contributor(config, task, study)
    table = _kept(config, task, study.query.scored)
    contributor = QueryContributor.of(study, scored_schema(task.schema, task.outcome), table)
    config.policy.check_patients(contributor.records.patients)
    return contributor


def _kept(config: SiteConfig, task: Task, scored: Scored) -> Table:
    split = PatientSplit.load(config.state)
    objecting = {split.name(task.name, name) for name in objecting_names(config)}
    rows = []
    if (config.state / FILE).exists():
        with PredictionState.open(config.state) as state:
            rows = state.watched(scored.model, scored.since, scored.until)
    kept = [(patient.hex(), json.loads(said)) for patient, said in rows if patient not in objecting]
    if not kept:
        raise WardroundError(
            Code.NO_DATA,
            "This site has kept no prediction of that model in that period.",
            remedy="It keeps them from when policy.predict says watch: true for the model.",
        )
    names = [column.name for column in scored_schema(task.schema, task.outcome).columns]
    columns = {name: [said.get(name) for _, said in kept] for name in names}
    patients = np.array([patient for patient, _ in kept], dtype=object)
    return {PATIENT: patients} | {n: np.array(of, dtype=object) for n, of in columns.items()}
