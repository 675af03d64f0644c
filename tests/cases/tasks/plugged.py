"""Makes the tasks of `wound_tasks` an installed plug-in, and runs studies with them in process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.config import compose
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import WardroundError
from server.outcome import Outcome
from server.rounds.listener import Listeners
from tasks import registry
from tasks.schema import Table
from tests.cases.tasks import wound_tasks
from tests.cases.tasks.wound_tasks import (
    Attention,
    BigScore,
    NaNLoss,
    NaNScore,
    StayDays,
    Wound,
    WoundClass,
)

TASKS = (Wound, WoundClass, StayDays, BigScore, NaNScore, NaNLoss, Attention)


def install(folder: Path) -> None:
    """Writes into `folder` what pip leaves of a package with these tasks as entry points."""
    info = folder / "own_tasks-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-tasks\nVersion: 0.1\n")
    points = "".join(f"{task.name} = {wound_tasks.__name__}:{task.__name__}\n" for task in TASKS)
    (info / "entry_points.txt").write_text(f"[wardround.tasks]\n{points}")


@dataclass(frozen=True)
class Ran:
    """A study's outcome, or in `error` why there is none: "code: words", or, of what the product
    did not raise itself, "traceback type: words"."""

    outcome: Outcome | None = None
    error: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the outcome; none where there is none."""
        found = self.outcome.metrics if self.outcome else {}
        return {name: round(float(of.value), 3) for name, of in found.items()}

    def __repr__(self) -> str:
        return self.error or f"trained: {self.metrics}"


def run(name: str, *words: str, tables: Mapping[str, Table] | None = None) -> Ran:
    """A study of the task, configured by `words`, on its public data or on these tables."""
    try:
        config = compose.load([f"task={name}", *words, "tracking=off"])
        task = registry.load(config.task.name)
        cohorts = cohorts_of(task, tables or task.public_sites(data_root()), split_plan(config))
        study = build_study(config, task, declared_patients(cohorts))
        return Ran(InProcessFederation(cohorts).run(study, task, Listeners()))
    except WardroundError as error:
        return Ran(error=f"{error.code.value}: {error.message} {error.remedy or ''}")
    except Exception as error:
        return Ran(error=f"traceback {type(error).__name__}: {error}")
