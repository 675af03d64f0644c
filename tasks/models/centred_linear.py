"""A linear model that also learns, under the same privacy, the mean of its features.

Features with a large common mean waste privacy: noise is as large as the longest gradient, and most
of each gradient is the mean. Here the centre c is one more parameter. Half the squared distance of
a row to c is added to the loss; its gradient (c - row) moves c towards the mean within the ordinary
noised sum of a round, without a release of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHARE = 0.3
"""Length of the gradient for c of a row at distance 1, as a part of the clip norm. The gradient for
the weights is at most 1 at the start."""
_SLOWNESS = 0.01
"""c moves by this times what the weights move by: at learning rates of 75 to 150, it nears the
mean by a fifth to nearly all of the way a round."""


class CentredLinear(nn.Module):
    """(B, F) -> (B, outputs + 1): the logits of the centred row of norm 1, and the loss that moves
    c; both parts start at zero, whatever the seed."""

    def __init__(self, width: int, outputs: int = 1) -> None:
        super().__init__()
        self.centre = nn.Linear(1, width, bias=False)
        self.linear = nn.Linear(width, outputs)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, rows: Tensor) -> Tensor:
        middle = self.centre(torch.ones_like(rows[:, :1])) * _SLOWNESS
        away = rows - middle
        unit = nn.functional.normalize(away.detach(), dim=1)
        distance = (away**2).sum(dim=1, keepdim=True) * (_SHARE / (2 * _SLOWNESS))
        return torch.cat([self.linear(unit), distance], dim=1)
