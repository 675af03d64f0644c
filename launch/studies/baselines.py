"""Was federating worth it? The same training at one hospital alone, and on all data pooled.

Only where all data is public and here. Every model is scored on the same patients, those who
evaluate at any site, and each gets the federated study's own privacy budget, with steps that suit
its patients (`baseline_steps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from client.data.cohort import Cohort
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Patients
from launch.config.schema import AlgorithmConfig, Config, RobustConfig, StopConfig
from launch.federations.inprocess import InProcessFederation
from launch.studies.baseline_steps import suited
from launch.studies.starting_model import starting_weights
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.outcomes.base import Scores
from protocol.vectors import Vector
from server.outcome import Baselines
from server.rounds.listener import Listeners
from tasks.base import Task
from tasks.flat_model import FlatModel

PUBLIC = "nothing: the public score"
"""What stands in the place of what a model was trained on."""


@dataclass(frozen=True)
class BaselineScore:
    """The two figures of the kind of outcome by which models are compared, the more important
    first; of several models their mean, and the `lowest` and `highest` of the first. `which` is
    one of `server.outcome.BASELINES`; `untrained`: how many of them privacy left untrained."""

    which: str
    name: str
    figures: Mapping[str, float]
    lowest: float
    highest: float
    untrained: int = 0

    @property
    def first(self) -> str:
        """The name of the more important figure."""
        return next(iter(self.figures))


def compare(
    config: Config,
    task: Task,
    cohorts: Mapping[str, Cohort],
    declared: Mapping[str, int],
    federated: Vector,
    which: Sequence[str] = ("local", "pooled"),
) -> list[BaselineScore]:
    """The task's public score where it knows one, one hospital alone (mean over hospitals),
    federated, all data pooled, as `which` asks.

    A hospital too small to learn anything at this epsilon counts with the model it began with.

    declared: site -> training patients that the study declared. federated: (P,) float32.
    """
    pooled = pool(cohorts)
    patients = Patients(pooled).evaluation
    labels = patients.labels.numpy().astype(np.float64)
    learner, start = DPTrainer(task, config.seed), starting_weights(config)

    def judge(which: str, name: str, models: list[Vector], untrained: int = 0) -> BaselineScore:
        scored = [learner.scores(weights, patients) for weights in models]
        return score(which, name, scored, untrained)

    def score(which: str, name: str, scored: list[Scores], untrained: int = 0) -> BaselineScore:
        each = [task.outcome.figures_of(scores, labels) for scores in scored]
        first = [figures[task.outcome.compared[0]] for figures in each]
        mean = {key: float(np.mean([of[key] for of in each])) for key in task.outcome.compared}
        return BaselineScore(which, name, mean, min(first), max(first), untrained)

    def train(name: str, cohort: Cohort, size: int) -> Vector | None:
        def alone(config: Config, part: Cohort) -> Vector:
            share = len(part.members("train")) / max(1, len(cohort.members("train")))
            study = build_study(config, task, {name: max(1, round(size * share))})
            federation = InProcessFederation({name: part})
            return federation.run(study, task, Listeners(), start=start).weights

        try:
            return alone(suited(_alone(config), cohort, alone, worth), cohort)
        except WardroundError as error:
            if error.code is not Code.EPSILON_UNREACHABLE:
                raise
            return None

    def worth(weights: Vector, cohort: Cohort) -> float:
        held = Patients(cohort).evaluation
        scores = learner.scores(weights, held)
        observed = held.labels.numpy().astype(np.float64)
        return task.outcome.figures_of(scores, observed)[task.outcome.compared[0]]

    def trained(which: str, name: str, weights: list[Vector | None]) -> BaselineScore:
        first = FlatModel(task, config.seed).weights() if start is None else start
        models = [first if w is None else w for w in weights]
        return judge(which, name, models, sum(w is None for w in weights))

    rows = []
    if pooled.public is not None:
        first = pooled.first(pooled.members("evaluation"), "evaluation")
        rows.append(score("public", PUBLIC, [pooled.public[first]]))
    if "local" in which:
        alone = [train(site, cohort, declared[site]) for site, cohort in cohorts.items()]
        rows.append(trained("local", "one hospital alone", alone))
    rows.append(judge("federated", "federated", [federated]))
    if "pooled" in which:
        whole = train("pooled", pooled, sum(declared.values()))
        rows.append(trained("pooled", "all data pooled", [whole]))
    return rows


def figures_of(rows: Sequence[BaselineScore]) -> Baselines:
    """The rows as tracking and summary.json take them."""
    return Baselines(
        {
            row.which: dict(row.figures)
            | (
                {f"lowest_{row.first}": row.lowest, f"highest_{row.first}": row.highest}
                if row.which == "local"
                else {}
            )
            for row in rows
        }
    )


def pool(cohorts: Mapping[str, Cohort]) -> Cohort:
    """All sites' patients as one cohort, each in the part that he has at his site."""
    parts = list(cohorts.values())
    starts = np.cumsum([0, *(part.patients for part in parts[:-1])])
    return Cohort(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([p.patient + start for p, start in zip(parts, starts, strict=True)]),
        np.concatenate([_at_site(part.identity, k) for k, part in enumerate(parts)]),
        np.concatenate([part.u for part in parts]),
        np.concatenate([part.in_training for part in parts]),
        np.concatenate([part.train for part in parts]),
        np.concatenate([part.evaluation for part in parts]),
        public=_public(parts),
    )


def _at_site(identity: npt.NDArray[np.uint64], site: int) -> npt.NDArray[np.uint64]:
    """Whoever is at two sites counts as two patients."""
    return identity ^ np.array([0, site], np.uint64)


def _public(parts: Sequence[Cohort]) -> npt.NDArray[np.float64] | None:
    known = [part.public for part in parts if part.public is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _alone(config: Config) -> Config:
    """The same study for a single site in this process, scored only here."""
    return replace(
        config,
        federation=replace(config.federation, name="inprocess", masked=False),
        aggregation=replace(config.aggregation, least_sites=1, colluding_sites=0),
        evaluation=replace(config.evaluation, release="off", every=0, subgroups={}, hospitals={}),
        algorithm=AlgorithmConfig(),
        stop=StopConfig(),
        robust=RobustConfig(),
    )
