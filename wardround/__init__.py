"""wardround from Python: what notebooks and scripts import.

    import wardround

    config = wardround.configure(["task=breast_cancer", "privacy=distributed", "privacy.epsilon=1"])
    task = wardround.load_task("breast_cancer")
    finished = wardround.run_inprocess(config, task, task.public_sites(wardround.data_root()))

Each name is one of another room's, imported when it is first used, so that `import wardround` takes
no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wardround.rooms import require_own_rooms

if TYPE_CHECKING:
    from client.cohorts.quality_page import grid as quality_grid
    from client.data.quality import assess as assess_quality
    from client.data.sources.settings import Sources
    from client.data.view_reader import read as read_view
    from client.training.dp_trainer import DPTrainer
    from client.training.sampling import Patients
    from launch.authoring.dry_run import check_task
    from launch.config.compose import load as configure
    from launch.federations.inprocess import InProcessFederation, cohorts_of
    from launch.queries.analyses import cox, glm, survival, table_one
    from launch.queries.ask import Where, ask
    from launch.queries.exact_analyses import exact_cox, exact_glm, exact_survival
    from launch.queries.query_builder import Price, build_query
    from launch.queries.question import Question
    from launch.studies.baselines import compare, pool
    from launch.studies.public_data import data_root
    from launch.studies.result_view import show, show_comparison
    from launch.studies.run import declared_patients, run_inprocess, split_plan
    from launch.studies.study_builder import build_study
    from protocol.errors import WardroundError
    from protocol.outcomes.binary import Binary, histogram, roc_auc
    from protocol.outcomes.events import EventCount
    from protocol.outcomes.multiclass import Multiclass
    from protocol.outcomes.multilabel import MultiLabel
    from protocol.outcomes.ordinal import Ordinal
    from protocol.outcomes.regression import Regression
    from protocol.outcomes.segmentation import Segmentation
    from protocol.outcomes.time_to_event import TimeToEvent
    from protocol.study.study import Study
    from server.rounds.listener import Listeners
    from server.tracking.registered_model import load
    from tasks.base import Task
    from tasks.flat_model import FlatModel
    from tasks.registry import load as load_task
    from tasks.registry import register
    from tasks.schema import Column, Image, Schema, Table

__all__ = [
    "Binary",
    "Column",
    "EventCount",
    "FlatModel",
    "Image",
    "InProcessFederation",
    "DPTrainer",
    "Listeners",
    "MultiLabel",
    "Multiclass",
    "Ordinal",
    "Patients",
    "Price",
    "Question",
    "Regression",
    "Schema",
    "Segmentation",
    "Sources",
    "Study",
    "Table",
    "Task",
    "TimeToEvent",
    "WardroundError",
    "Where",
    "ask",
    "assess_quality",
    "build_query",
    "build_study",
    "check_task",
    "cohorts_of",
    "compare",
    "configure",
    "cox",
    "data_root",
    "declared_patients",
    "exact_cox",
    "exact_glm",
    "exact_survival",
    "glm",
    "histogram",
    "load",
    "load_task",
    "pool",
    "quality_grid",
    "read_view",
    "register",
    "roc_auc",
    "run_inprocess",
    "show",
    "show_comparison",
    "split_plan",
    "survival",
    "table_one",
]

_HOME = {
    "Binary": "protocol.outcomes.binary",
    "Column": "tasks.schema",
    "EventCount": "protocol.outcomes.events",
    "FlatModel": "tasks.flat_model",
    "Image": "tasks.schema",
    "InProcessFederation": "launch.federations.inprocess",
    "DPTrainer": "client.training.dp_trainer",
    "Listeners": "server.rounds.listener",
    "MultiLabel": "protocol.outcomes.multilabel",
    "Multiclass": "protocol.outcomes.multiclass",
    "Ordinal": "protocol.outcomes.ordinal",
    "Patients": "client.training.sampling",
    "Price": "launch.queries.query_builder",
    "Question": "launch.queries.question",
    "Regression": "protocol.outcomes.regression",
    "Schema": "tasks.schema",
    "Segmentation": "protocol.outcomes.segmentation",
    "Sources": "client.data.sources.settings",
    "Study": "protocol.study.study",
    "Table": "tasks.schema",
    "Task": "tasks.base",
    "TimeToEvent": "protocol.outcomes.time_to_event",
    "WardroundError": "protocol.errors",
    "Where": "launch.queries.ask",
    "ask": "launch.queries.ask",
    "assess_quality": "client.data.quality:assess",
    "build_query": "launch.queries.query_builder",
    "build_study": "launch.studies.study_builder",
    "check_task": "launch.authoring.dry_run",
    "cohorts_of": "launch.federations.inprocess",
    "compare": "launch.studies.baselines",
    "configure": "launch.config.compose:load",
    "cox": "launch.queries.analyses",
    "data_root": "launch.studies.public_data",
    "declared_patients": "launch.studies.run",
    "exact_cox": "launch.queries.exact_analyses",
    "exact_glm": "launch.queries.exact_analyses",
    "exact_survival": "launch.queries.exact_analyses",
    "glm": "launch.queries.analyses",
    "histogram": "protocol.outcomes.binary",
    "load": "server.tracking.registered_model",
    "load_task": "tasks.registry:load",
    "pool": "launch.studies.baselines",
    "quality_grid": "client.cohorts.quality_page:grid",
    "read_view": "client.data.view_reader:read",
    "register": "tasks.registry",
    "roc_auc": "protocol.outcomes.binary",
    "run_inprocess": "launch.studies.run",
    "show": "launch.studies.result_view",
    "show_comparison": "launch.studies.result_view",
    "split_plan": "launch.studies.run",
    "survival": "launch.queries.analyses",
    "table_one": "launch.queries.analyses",
}
"""Name -> "module" that has it, or "module:name" where it is called otherwise there."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wardround' has no attribute {name!r}")
    require_own_rooms()
    module, _, there = _HOME[name].partition(":")
    value = getattr(import_module(module), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
