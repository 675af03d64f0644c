"""Ditto (Li et al. 2021, Algorithm 1): beside the shared model, each site trains its own.

The site's own model v minimises its own loss plus lambda / 2 |v - w|^2, w the model of the round:
    v <- v - lr (g(v) + lambda (v - w)).
It never leaves the site and nothing that leaves depends on it, so its steps are plain ones in every
mode and no ledger is debited for them. When the study ends it stays in the site's state folder.

Its scores are another matter. A score histogram of the shared model charges a patient who evaluates
for the one count that he adds; a patient who only trains moves it through the shared model alone,
which is private already. Scored with v, every count of the site depends on each patient who trained
v, without noise and without bound: the sensitivity of the histogram is no longer one patient's
count. So in private modes personal scores stay at the site, which sees them beside its model; in
mode none, where nothing is claimed, a study may ask for the pooled histogram of personal scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from client.training.algorithms.fedavg import FedAvg, OwnSteps
from protocol.study import algorithms as documents
from protocol.vectors import Vector


@dataclass(frozen=True)
class Ditto(FedAvg):
    """plan: steps, learning rate and attraction (lambda) of the site's own model."""

    plan: documents.DittoOptions

    def beside(self, weights: Vector, own: Vector | None, steps: OwnSteps) -> Vector | None:
        """The own model starts where the shared one does (the paper's v = w at round 0)."""
        start = weights if own is None else own
        anchor, attraction = torch.from_numpy(weights), self.plan.attraction
        moved = steps(start, self.plan.steps, self.plan.lr, lambda v: (v - anchor) * attraction)
        return start + moved

    def scored(self, weights: Vector, own: Vector | None) -> Vector:
        return own if self.plan.scores_own and own is not None else weights

    def personal(self, weights: Vector, own: Vector | None) -> Vector | None:
        return own
