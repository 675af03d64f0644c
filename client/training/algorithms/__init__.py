"""What a site does with its steps: one algorithm, one file, chosen by the study."""

from __future__ import annotations

from typing import assert_never

from client.training.algorithms.ditto import Ditto
from client.training.algorithms.fedavg import FedAvg
from client.training.algorithms.fedbn import FedBN
from client.training.algorithms.fedprox import FedProx
from client.training.algorithms.scaffold import Scaffold
from protocol.study import algorithms as documents
from protocol.study.study import Study
from tasks.flat_model import FlatModel

__all__ = ["FedAvg", "algorithm"]


def algorithm(study: Study, model: FlatModel) -> FedAvg:
    """The study's algorithm over this model. Raises WardroundError(REFUSED_STUDY) where the model
    has nothing that the algorithm works on."""
    plan, optimisation = study.optimisation.local, study.optimisation
    match plan:
        case documents.FedAvgOptions():
            return FedAvg()
        case documents.FedProxOptions():
            return FedProx(plan.mu)
        case documents.ScaffoldOptions():
            return Scaffold(optimisation.local_steps * optimisation.local_lr)
        case documents.FedBNOptions():
            return FedBN.over(model)
        case documents.DittoOptions():
            return Ditto(plan)
    assert_never(plan)
