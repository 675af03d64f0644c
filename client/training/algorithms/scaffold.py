"""SCAFFOLD (Karimireddy et al. 2020, Algorithm 1, option II).

With c the server's control variate and c_i this site's, each of K steps is
    y <- y - lr (g(y) + c - c_i),
and afterwards c_i+ = c_i - c + (x - y) / (K lr). Sent are y - x and, scaled by K lr so that it is
as large as an update, c_i+ - c_i. In mode local g is the noised gradient, so that y, and with it
every c_i, is post-processing of what the site was debited for. In mode distributed y - x would be
the site's own share of a sum, with too little noise to steer later rounds by: the study refuses.

A site that has kept nothing starts from c_i = 0, which is also what is left when its state is lost:
the mean of all c_i then differs from c for good, which costs accuracy and no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from client.training.algorithms.fedavg import FedAvg, Steps, Trained
from protocol.vectors import Vector


@dataclass(frozen=True)
class Scaffold(FedAvg):
    """span: K lr, local steps times their learning rate."""

    span: float

    def train(self, body: Vector, own: Vector | None, steps: Steps) -> Trained:
        """body: (2 P,) float32, the model and behind it the server's control variate."""
        model, control = body[: len(body) // 2], body[len(body) // 2 :]
        mine = np.zeros_like(control) if own is None else own
        drift = torch.from_numpy(control - mine)
        difference = steps(model, lambda weights: drift)
        moved = -control - difference / np.float32(self.span)
        return Trained(difference, moved * np.float32(self.span), mine + moved)
