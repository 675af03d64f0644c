"""One risk a patient, which moves the hazards of all intervals alike.

The log odds of the hazard of interval k are b_k + x w: proportional odds (Cox 1972, section 6). So
a linear model of F features has F + K parameters, not F times K, and noise falls on fewer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SLOWNESS = 2.0
"""The intervals' own part is divided by it. A patient goes through several of them, so that their
gradient would be longer than that of the features."""


class SharedRisk(nn.Module):
    """(B, F) -> (B, K) logits of hazards. It begins with the same hazard for all patients and
    intervals, from the literature."""

    def __init__(self, width: int, intervals: int, hazard: float) -> None:
        super().__init__()
        self.risk = nn.Linear(width, 1, bias=False)
        self.intervals = nn.Linear(1, intervals, bias=False)
        nn.init.zeros_(self.risk.weight)
        nn.init.zeros_(self.intervals.weight)
        self._first = math.log(hazard / (1 - hazard))

    def forward(self, rows: Tensor) -> Tensor:
        own: Tensor = self.intervals(torch.ones_like(rows[:, :1]))
        risk: Tensor = self.risk(rows)
        return risk + own / _SLOWNESS + self._first
