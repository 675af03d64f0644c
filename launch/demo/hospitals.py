"""The demo's hospitals whose data are tables: a CSV file each, keys, policy, and a cohort."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console

from client.data.cohort import Cohort
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from launch.federations.inprocess import cohorts_of, split_of
from launch.studies.public_data import data_root
from protocol.study.study import Evaluation
from tasks.base import Task
from tasks.schema import PATIENT, SPLIT, Table

FRACTION = 0.3
"""Of patients, who evaluate."""


class Hospitals(Protocol):
    """What a demo needs of its hospitals."""

    def make(self, folder: Path, console: Console) -> dict[str, Cohort]:
        """Makes every hospital's folder `folder`/SITE with keys, site.yaml and data.

        Returns what each would train on: the data is public, and the demo compares models on it.
        """

    def examples(self) -> dict[str, bytes]:
        """Files that show what the model was trained on, to lie beside it in MLflow."""


@dataclass(frozen=True)
class TabularHospitals:
    """Hospitals of a task's public tables."""

    task: Task
    evaluation: Evaluation

    def make(self, folder: Path, console: Console) -> dict[str, Cohort]:
        public = self.task.public_sites(data_root())
        tables = {site: with_split(site, table) for site, table in public.items()}
        cohorts = cohorts_of(self.task, tables, self.evaluation)
        folder.joinpath("data").mkdir(exist_ok=True, mode=0o700)
        for site, table in tables.items():
            data = folder / "data" / f"{site}.csv"
            write_csv(table, data)
            new_site.init(folder / site, answers(site, self.task, data))
        return cohorts

    def examples(self) -> dict[str, bytes]:
        """None: a row of a table is a patient."""
        return {}


def answers(site: str, task: Task, data: Path) -> SiteAnswers:
    """A policy that allows what a demo does, on public data."""
    return SiteAnswers(
        site=site,
        data={task.name: data.absolute()},
        tasks=(task.name,),
        purposes=("research",),
        modes=("none", "local", "distributed"),
        approval="rule",
        delta=1e-3,
        epsilon_per_study=10.0,
        epsilon_lifetime=50.0,
        epsilon_broken=50.0,
        exact_evaluation=True,
        public_data=(task.name,),
        threads=1,
    )


def part_of(site: str, patient: str) -> str:
    """Who trains and who evaluates, for all to know: only so can the federated model be compared
    with others on the very same patients."""
    return "train" if split_of(site)(patient) < 1 - FRACTION else "evaluation"


def with_split(site: str, table: Table) -> Table:
    """The table with a column that says who trains and who evaluates."""
    parts = [part_of(site, str(patient)) for patient in table[PATIENT]]
    return {**table, SPLIT: np.array(parts, dtype=object)}


def write_csv(table: Mapping[str, Iterable[Any]], path: Path) -> None:
    """A missing value is an empty field."""
    columns = [list(values) for values in table.values()]
    with path.open("w", newline="") as file:
        path.chmod(0o600)
        writer = csv.writer(file)
        writer.writerow(table)
        for row in zip(*columns, strict=True):
            writer.writerow("" if value is None or value != value else value for value in row)
