"""FedProx (Li et al. 2020, equation 2): the loss plus mu / 2 |w - w_t|^2.

The gradient of that term, mu (w - w_t), is public given the steps so far: it is added after
clipping and noise and costs no privacy. In the loss itself, per-sample hooks would drop it (no
layer made it) and ghost clipping would clip it with each patient's gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from client.training.algorithms.fedavg import FedAvg, Steps, Trained
from protocol.vectors import Vector


@dataclass(frozen=True)
class FedProx(FedAvg):
    """mu: how strongly a step is drawn back to the model of the round."""

    mu: float

    def train(self, body: Vector, own: Vector | None, steps: Steps) -> Trained:
        anchor = torch.from_numpy(body)
        return Trained(steps(body, lambda weights: (weights - anchor) * self.mu))
