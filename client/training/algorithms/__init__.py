"""What a site does with its steps: one algorithm, one file, chosen by the study."""

from __future__ import annotations

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
    if isinstance(plan, documents.FedProx):
        return FedProx(plan.mu)
    if isinstance(plan, documents.Scaffold):
        return Scaffold(optimisation.local_steps * optimisation.local_lr)
    if isinstance(plan, documents.FedBN):
        return FedBN.over(model)
    if isinstance(plan, documents.Ditto):
        return Ditto(plan)
    return FedAvg()
