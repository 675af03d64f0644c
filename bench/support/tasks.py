"""Tasks of the benchmarks, installed as any plug-in is: an entry point of `wardround.tasks`."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tasks.base import Task
from tasks.schema import PATIENT, Column, Schema, Table

PATIENTS = 40
LARGE, AS_MANY = "west", 400
"""The site of `Unequal` with more patients, and how many times as many."""

_DISTRIBUTIONS = itertools.count()

EIGHT = ("east", "middle", "north", "northeast", "northwest", "south", "southeast", "west")


class NoOp(Task):
    """Logistic regression of 14 parameters on 40 patients a site: as near to nothing as it gets."""

    name = "bench_noop"
    title = "Nothing"
    sites: tuple[str, ...] = ("east", "north", "south", "west")
    schema = Schema(
        tuple(Column(f"x{k}", "a number", low=-1, high=1, flag_missing=False) for k in range(13)),
        "label",
        "1: yes, 0: no",
    )

    def model(self) -> nn.Module:
        linear = nn.Linear(self.schema.width, 1)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        return linear

    def public_sites(self, root: Path | None = None) -> Mapping[str, Table]:
        """Sites of patients that are nobody."""
        drawn = np.random.default_rng(0)
        return {site: self._table(drawn) for site in self.sites}

    def _table(self, drawn: np.random.Generator) -> Table:
        names = np.array([f"nobody-{k:02d}" for k in range(PATIENTS)], dtype=object)
        table = {PATIENT: names, self.schema.label: np.arange(PATIENTS) % 2 * 1.0}
        return table | {c.name: drawn.uniform(-1, 1, PATIENTS) for c in self.schema.columns}


class _Wide(nn.Module):
    def __init__(self, parameters: int) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.01 * torch.randn(parameters, generator=drawn))

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :1] * self.weight[0]


class ElevenMillion(NoOp):
    """A model of 11 million parameters, the size of a ResNet-18."""

    name = "bench_11m"
    title = "Eleven million parameters"

    parameters = 11_000_000

    def model(self) -> nn.Module:
        return _Wide(self.parameters)


class TenThousand(ElevenMillion):
    """A model of ten thousand parameters."""

    name = "bench_10k"
    title = "Ten thousand parameters"
    parameters = 10_000


class NoOpOfEight(NoOp):
    """At eight sites."""

    name, sites = "bench_noop_8", EIGHT


class TenThousandOfEight(TenThousand):
    """At eight sites."""

    name, sites = "bench_10k_8", EIGHT


class ElevenMillionOfEight(ElevenMillion):
    """At eight sites."""

    name, sites = "bench_11m_8", EIGHT


SIZED: dict[tuple[int, int], type[NoOp]] = {
    (4, 14): NoOp,
    (4, 10_000): TenThousand,
    (4, 11_000_000): ElevenMillion,
    (8, 14): NoOpOfEight,
    (8, 10_000): TenThousandOfEight,
    (8, 11_000_000): ElevenMillionOfEight,
}
"""(sites, parameters) -> a task."""


class Unequal(NoOp):
    """A small network; one site has four hundred times the patients of the others."""

    name = "bench_unequal"
    title = "One large site"

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.schema.width, 64), nn.ReLU(), nn.Linear(64, 1))

    def public_sites(self, root: Path | None = None) -> Mapping[str, Table]:
        """Four sites of patients that are nobody."""
        sites = dict(super().public_sites(root))
        large = {name: np.tile(values, AS_MANY) for name, values in sites[LARGE].items()}
        numbers = range(PATIENTS * AS_MANY)
        large[PATIENT] = np.array([f"nobody-{n}" for n in numbers], dtype=object)
        return sites | {LARGE: large}


class Trial(NoOp):
    """Four sites of 10,000 patients who were followed for up to 20 months, with 20 covariates."""

    name = "bench_trial"
    title = "A large trial"
    schema = Schema(
        (
            *(Column(f"x{k}", "a number", low=-1, high=1, flag_missing=False) for k in range(20)),
            Column("months", "followed for", low=0, high=20, flag_missing=False),
        ),
        "died",
        "1: died, 0: left or lived",
    )

    def _table(self, drawn: np.random.Generator) -> Table:
        patients = 10_000
        names = np.array([f"nobody-{k:05d}" for k in range(patients)], dtype=object)
        table = {f"x{k}": drawn.uniform(-1, 1, patients) for k in range(20)}
        risk = np.array(list(table.values())).T @ np.linspace(-0.5, 0.5, 20)
        until = drawn.exponential(10 * np.exp(-risk))
        left = np.minimum(drawn.uniform(2, 30, patients), 20.0)
        followed = {"months": np.minimum(until, left), "died": (until <= left) * 1.0}
        return {PATIENT: names} | table | followed


def install(folder: Path, *tasks: type[Task]) -> dict[str, str]:
    """Makes tasks (those of this file, if none are named) known to this process, and to children
    with the environment returned.

    `folder` takes the metadata of an installed distribution; it must outlive both. Its name is its
    own: of two with one name, Python sees the first alone.
    """
    name = f"wardround_bench_{next(_DISTRIBUTIONS)}"
    metadata = folder / f"{name}-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(
        "[wardround.tasks]\n"
        + "".join(
            f"{task.name} = {task.__module__}:{task.__name__}\n"
            for task in tasks or (NoOp, ElevenMillion)
        )
    )
    sys.path.append(str(folder))
    paths = [str(Path(__file__).parents[1]), str(folder), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
