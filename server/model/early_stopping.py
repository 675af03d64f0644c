"""Early stopping: when the pooled metric has not improved for a while, close with the best model.

It uses only metrics that the study opens anyway, so it is post-processing of sums that the sites
were debited for. A study that stops early leaves the rest of its plan undebited, and the ledgers
close at what was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from protocol.outcomes.estimates import Estimate
from protocol.study.algorithms import StopRule
from protocol.vectors import Vector


@dataclass
class EarlyStopping:
    """The state of early stopping. `best`: (P,) float32, the model with the best metric so far;
    `stale`: evaluations since. Everything here stands in the checkpoint."""

    plan: StopRule | None
    value: float | None = None
    best: torch.Tensor | None = None
    stale: int = 0

    @property
    def over(self) -> bool:
        """Whether patience is spent."""
        return self.plan is not None and self.stale >= self.plan.patience

    def update(self, metrics: Mapping[str, Estimate], scored: Vector) -> None:
        """Records the metrics of the model `scored`. An undefined metric is no improvement."""
        if self.plan is None:
            return
        metric = metrics.get(self.plan.metric)
        if metric is None or not self._better(self.plan, metric.value):
            self.stale += 1
            return
        self.value, self.best, self.stale = metric.value, torch.tensor(scored), 0

    def _better(self, plan: StopRule, value: float) -> bool:
        if self.value is None:
            return True
        gain = value - self.value if plan.rises else self.value - value
        return gain > plan.least
