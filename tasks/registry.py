"""Which tasks are there: built in, entry points of the group `wardround.tasks`, or registered by
this process itself.

Nothing is ever imported by a name that came over the wire: a name is looked up among these.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from protocol.errors import Code, WardroundError, unknown_name
from protocol.study.study import Scalar, TaskReference

if TYPE_CHECKING:
    from tasks.base import Task

BUILT_IN = {
    "breast_cancer": "tasks.shipped.breast_cancer:BreastCancer",
    "chest_xray": "tasks.shipped.chest_xray:ChestXray",
    "deterioration": "tasks.shipped.deterioration:Deterioration",
    "diabetes_progression": "tasks.shipped.diabetes_progression:DiabetesProgression",
    "dicom_dose": "tasks.shipped.dicom_dose:DicomDose",
    "digits": "tasks.shipped.digits:Digits",
    "findings": "tasks.examples.findings:Findings",
    "fusion": "tasks.shipped.fusion:Fusion",
    "heart_disease": "tasks.shipped.heart_disease:HeartDisease",
    "icu_mortality": "tasks.shipped.icu_mortality:IcuMortality",
    "icu_timeseries": "tasks.shipped.icu_timeseries:IcuTimeseries",
    "length_of_stay": "tasks.examples.length_of_stay:LengthOfStay",
    "lung_fields": "tasks.examples.lung_fields:LungFields",
    "nodules": "tasks.examples.nodules:Nodules",
    "no_show": "tasks.shipped.no_show:NoShow",
    "readmission": "tasks.shipped.readmission:Readmission",
    "readmission_levels": "tasks.examples.readmission_levels:ReadmissionLevels",
    "trial_survival": "tasks.examples.trial_survival:TrialSurvival",
}


_registered: dict[str, type[Task]] = {}
"""Tasks of this process alone."""
Kind = TypeVar("Kind", bound="type[Task]")


def installed() -> dict[str, str]:
    """Task name -> "module:class"."""
    return dict(sorted((plugin_tasks() | BUILT_IN).items()))


def plugin_tasks() -> dict[str, str]:
    """The tasks that others made, which cannot replace a built-in task."""
    entries = {entry.name: entry.value for entry in entry_points(group="wardround.tasks")}
    own = {name: f"{kind.__module__}:{kind.__qualname__}" for name, kind in _registered.items()}
    return {name: value for name, value in (entries | own).items() if name not in BUILT_IN}


def register(task: Kind) -> Kind:
    """Makes a task known to this process, by its name, as if it were installed; to be called, or
    written above the class as a decorator. A second task of that name takes the first one's place.

    Other processes, those of hospitals among them, need it installed. Raises
    WardroundError(CONFIGURATION) where it is no task, has no name, or that of a built-in one.
    """
    name = getattr(task, "name", None)
    if not _is_task(task) or not isinstance(name, str):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{getattr(task, '__name__', task)} is no class of a task with a name.",
            remedy="Derive it from wardround.Task, and give it a `name`, a `schema` and a `model`.",
        )
    if name in BUILT_IN:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{task.__name__} has the name of the built-in task {name}.",
            remedy="Give it another `name`.",
        )
    _registered[name] = task
    return task


def register_file(where: str) -> str:
    """Registers the task that a Python file defines, and returns its name. where: the file's path,
    with ":Class" behind it where it defines several.

    Raises WardroundError(CONFIGURATION) where there is no such file, it cannot be imported, or does
    not define one task.
    """
    path, _, wanted = where.partition(".py:")
    file = Path(path if path.endswith(".py") else f"{path}.py").expanduser().resolve()
    if not file.is_file():
        raise WardroundError(
            Code.CONFIGURATION,
            f"There is no file {file}.",
            remedy="Name the Python file of a task; `wardround task new NAME` writes one.",
        )
    module = sys.modules.get(file.stem)
    if module is None or getattr(module, "__file__", None) != str(file):
        if module is not None or file.stem in sys.stdlib_module_names:
            raise WardroundError(
                Code.CONFIGURATION,
                f"{file.name} has the name of a Python module that is in use.",
                remedy="Give the file another name.",
            )
        module = ModuleType(file.stem)
        module.__file__ = str(file)
        sys.modules[file.stem] = module
        try:
            SourceFileLoader(file.stem, str(file)).exec_module(module)
        except Exception as error:
            del sys.modules[file.stem]
            _refuse_broken(file.name, error)
    found = {
        name: kind
        for name, kind in vars(module).items()
        if _is_task(kind) and kind.__module__ == file.stem and not inspect.isabstract(kind)
    }
    if wanted:
        found = {name: kind for name, kind in found.items() if name == wanted}
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise WardroundError(
            Code.CONFIGURATION,
            f"{file.name} defines {len(found)} tasks{' of that name' if wanted else ''}: {names}.",
            remedy=f"Name one: task={file.name}:CLASS. A task has a `model` and derives from Task.",
        )
    (kind,) = found.values()
    name: str = register(kind).name
    return name


def load(name: str, options: Mapping[str, Scalar] | None = None) -> Task:
    """The task of that name with these options.

    Raises WardroundError: UNKNOWN_TASK, suggesting the nearest; CONFIGURATION for an option that
    it does not have, and where its package is broken."""
    kind = _registered.get(name) or _imported(name)
    try:
        return kind(**(options or {}))
    except WardroundError:
        raise
    except Exception as error:
        _refuse_broken(f"The task {name}", error)


def _imported(name: str) -> type[Task]:
    # Finding plug-ins reads the disk, which a built-in task can do without.
    tasks = BUILT_IN if name in BUILT_IN else installed()
    if name not in tasks:
        message = f"No task named {name!r} is installed here."
        raise unknown_name(Code.UNKNOWN_TASK, message, name, tasks, "Installed")
    module, _, attribute = tasks[name].partition(":")
    try:
        kind: type[Task] = getattr(import_module(module), attribute)
    except Exception as error:
        _refuse_broken(f"The task {name} ({tasks[name]})", error)
    if not _is_task(kind) or getattr(kind, "name", None) != name:
        raise WardroundError(
            Code.CONFIGURATION,
            f"The entry point {name} names {tasks[name]}, which is no task called {name}.",
            remedy="Let entry point and class have one name, in the package's pyproject.toml.",
        )
    return kind


def _is_task(kind: object) -> bool:
    from tasks.base import Task

    return isinstance(kind, type) and issubclass(kind, Task)


def _refuse_broken(what: str, error: Exception) -> NoReturn:
    """One line for what a task's own module or class raised, before it saw any data."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error).strip().partition("\n")[0]
    raise WardroundError(
        Code.CONFIGURATION,
        f"{what} cannot be loaded: {type(error).__name__}: {said} "
        f"({Path(place.filename).name}, line {place.lineno}).",
        remedy="Correct its code, or install the package again with what it needs.",
        detail="".join(traceback.format_exception(error)),
    ) from error


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
