"""Which tasks are installed: built in, or entry points of the group `wardround.tasks`.

Nothing is ever imported by a name that came over the wire: a name is looked up among these.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from protocol.errors import Code, WardroundError, unknown_name
from protocol.study.study import Scalar, TaskReference

if TYPE_CHECKING:
    from tasks.base import Task

_BUILT_IN = {
    "breast_cancer": "tasks.shipped.breast_cancer:BreastCancer",
    "chest_xray": "tasks.shipped.chest_xray:ChestXray",
    "deterioration": "tasks.shipped.deterioration:Deterioration",
    "dicom_dose": "tasks.shipped.dicom_dose:DicomDose",
    "fusion": "tasks.shipped.fusion:Fusion",
    "heart_disease": "tasks.shipped.heart_disease:HeartDisease",
    "icu_mortality": "tasks.shipped.icu_mortality:IcuMortality",
    "icu_timeseries": "tasks.shipped.icu_timeseries:IcuTimeseries",
    "no_show": "tasks.shipped.no_show:NoShow",
    "readmission": "tasks.shipped.readmission:Readmission",
}


def installed() -> dict[str, str]:
    """Task name -> "module:class"."""
    return dict(sorted((plugin_tasks() | _BUILT_IN).items()))


def plugin_tasks() -> dict[str, str]:
    """The tasks of plug-ins, which cannot replace a built-in task."""
    entries = entry_points(group="wardround.tasks")
    return {entry.name: entry.value for entry in entries if entry.name not in _BUILT_IN}


def load(name: str, options: Mapping[str, Scalar] | None = None) -> Task:
    """The task of that name with these options.

    Raises WardroundError: UNKNOWN_TASK, suggesting the nearest; CONFIGURATION for an option that
    it does not have."""
    # Finding plug-ins reads the disk, which a built-in task can do without.
    tasks = _BUILT_IN if name in _BUILT_IN else installed()
    if name not in tasks:
        message = f"No task named {name!r} is installed here."
        raise unknown_name(Code.UNKNOWN_TASK, message, name, tasks, "Installed")
    module, _, attribute = tasks[name].partition(":")
    task: Task = getattr(import_module(module), attribute)(**(options or {}))
    return task


def load_same(wanted: TaskReference) -> Task:
    """A study's task, if it is installed here with the very source that the study names.

    Raises WardroundError: TASK_CHANGED where it is another release's, and what `load` raises.
    """
    task = load(wanted.name, wanted.options)
    source = task.source_digest()
    if (task.version, source) != (wanted.version, wanted.source):
        raise WardroundError(
            Code.TASK_CHANGED,
            f"The task {task.name} installed here differs from the study's: version "
            f"{task.version} with source {source[:12]} here, version {wanted.version} with source "
            f"{wanted.source[:12]} in the study. An upgrade on one side changes it.",
            remedy="Install the same release of wardround and of the task's package everywhere; a "
            "study that began before an upgrade is submitted again after it.",
        )
    return task


def reference_to(task: Task) -> TaskReference:
    """The study's `task`; options that have their usual value are left out."""
    usual = {option: choices[0] for option, choices in task.choices.items()}
    return TaskReference(
        name=task.name,
        version=task.version,
        source=task.source_digest(),
        options={name: value for name, value in task.options.items() if value != usual[name]},
    )
