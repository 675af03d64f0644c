"""Where training starts: from a public score, or from a prevalence that the literature tells.

A public score is made of published points, without any training. Its log odds / SCALE stand as the
last feature of a row, and its published weight as that feature's first weight: before the first
step the model is the public score, and training under privacy learns what to change about it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

SCALE = 5.0
"""Log odds are divided by this and clipped to [-1, 1]."""


def with_score(
    rows: npt.NDArray[np.floating], log_odds: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """(N, F) features and (N,) log odds -> (N, F + 1)."""
    known = np.clip(log_odds[:, None] / SCALE, -1, 1)
    return np.concatenate([rows, known], axis=1).astype(np.float32)


def from_score(width: int) -> nn.Linear:
    """A linear head on `width` features that starts at the public score, the last of them."""
    linear = nn.Linear(width, 1)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    with torch.no_grad():
        linear.weight[0, -1] = SCALE
    return linear


def from_prevalence(width: int, prevalence: float) -> nn.Linear:
    """A linear head that starts by giving everyone the same probability."""
    linear = nn.Linear(width, 1)
    nn.init.zeros_(linear.weight)
    nn.init.constant_(linear.bias, math.log(prevalence / (1 - prevalence)))
    return linear


def probability(log_odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log odds -> probability."""
    return np.asarray(1 / (1 + np.exp(-log_odds)))
