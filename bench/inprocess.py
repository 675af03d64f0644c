"""A round of the heart model with all sites in one process, and of Flower's simulation on Ray.

    python bench/inprocess.py

Fed-Heart-Disease (WARDROUND_DATA, `wardround data fetch heart_disease`), logistic regression, mode
distributed, q = .2, no evaluation between. Four sites are the four hospitals; a hundred are the
same four again and again. One thread. Seconds are wall clock from the report of the first round to
that of the last, over the rounds between: accounting and all. Flower's side, in the same run: its
own `run_simulation` with FedAvg as it comes over four nodes; each takes one step of SGD on a sample
of the same size of the same rows, without clipping, noise or masks; its first round, which starts
Ray's workers, is left out too.
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from client.data.cohort import Cohort
from client.training.sampling import Patients
from launch.config.compose import load as configured
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from server.outcome import RoundReport
from support.figure import figure, load
from tasks import registry
from tasks.base import Task

ROUNDS = {4: 200, 100: 40}
RAY_ROUNDS = 6
RATE, LR = 0.2, 0.5


class Marks:
    """A listener that notes when each round was reported."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def round(self, report: RoundReport) -> None:
        self.at.append(time.perf_counter())

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None

    @property
    def seconds(self) -> float:
        """Of a round, the first one left out."""
        return (self.at[-1] - self.at[0]) / (len(self.at) - 1)


def hospitals(sites: int) -> tuple[Task, dict[str, Cohort], Any]:
    config = configured(
        [
            "task=heart_disease",
            "privacy=distributed",
            f"privacy.sampling_rate={RATE}",
            f"rounds={ROUNDS[sites]}",
            "evaluation.every=0",
            "federation=inprocess",
            "tracking=off",
        ]
    )
    task = registry.load("heart_disease")
    tables = list(task.public_sites(data_root()).values())
    several = itertools.cycle(tables)
    named = {f"site-{index:03}": next(several) for index in range(sites)}
    return task, cohorts_of(task, named, split_plan(config)), config


def ours(sites: int) -> float:
    """Seconds a round."""
    task, cohorts, config = hospitals(sites)
    study = build_study(config, task, declared_patients(cohorts))
    marks = Marks()
    InProcessFederation(cohorts).run(study, task, marks)
    return marks.seconds


client = ClientApp()
_WARM: dict[int, tuple[Task, Patients]] = {}


@client.train()
def train(message: Message, context: Context) -> Message:
    """One step of SGD; a worker keeps the hospitals that it has seen."""
    number = int(context.node_config["partition-id"])
    if number not in _WARM:
        task, cohorts, _ = hospitals(4)
        _WARM[number] = task, Patients(sorted(cohorts.items())[number][1])
    task, patients = _WARM[number]
    model = task.model()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    batch = patients.plain_sample(RATE, np.random.default_rng())
    task.losses(model(batch.features), batch.labels).mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=LR)
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": len(batch)}),
        }
    )
    return Message(content, reply_to=message)


def on_ray() -> float:
    """Seconds a round of Flower's simulation, four nodes."""
    at: list[float] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=4, min_available_nodes=4)
        initial = ArrayRecord(registry.load("heart_disease").model().state_dict())
        strategy.start(
            grid,
            initial,
            num_rounds=RAY_ROUNDS,
            evaluate_fn=lambda round_, arrays: at.append(time.perf_counter()),
        )

    run_simulation(server, client, num_supernodes=4)
    rounds = at[1:]  # the first mark is of the initial model
    if len(rounds) != RAY_ROUNDS:
        raise SystemExit("Flower's simulation did not finish.")
    return (rounds[-1] - rounds[0]) / (RAY_ROUNDS - 1)


def main() -> int:
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    four, hundred = ours(4), ours(100)
    ray = on_ray()
    again = ours(4)
    found = (four + again) / 2
    holds = [
        figure("inprocess: a round, 4 sites", 1000 * found, "ms", 10.0, load=load()),
        figure("inprocess: a round, 100 sites", 1000 * hundred, "ms", 100.0, load=load()),
        figure(
            "inprocess: Flower's Ray simulation of a round over ours, 4 sites",
            ray / found,
            "times",
            100.0,
            least=True,
            ray_seconds=round(ray, 3),
            load=load(),
        ),
    ]
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
