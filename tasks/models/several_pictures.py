"""One answer of several pictures of a patient: each goes through one network, and what it makes of
them is pooled.

The patient stays the unit: all pictures of a patient are one record, whose gradient is clipped
once. A place without a picture holds zeros and counts for nothing.
"""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor, nn

from tasks.schema import Pooling


def there(pictures: Tensor) -> Tensor:
    """(B, M, ...) -> (B, M) bool: where there is a picture, for one that is there is never black
    all over."""
    return pictures.flatten(2).amax(2) > 0


def pooled(values: Tensor, present: Tensor, pooling: Pooling) -> Tensor:
    """(B, M, K) values of each place, (B, M) bool where there is a picture -> (B, K): their mean,
    or the largest of each column; zeros where there is no picture at all."""
    seen = present[:, :, None]
    match pooling:
        case "mean":
            number = seen.sum(1).clamp(min=1)
            return torch.where(seen, values, 0.0).sum(1) / number
        case "max":
            largest = torch.where(seen, values, -torch.inf).amax(1)
            return torch.where(seen.any(1), largest, 0.0)
    assert_never(pooling)


class Pooled(nn.Module):
    """(B, M, rows, columns) grey levels in [0, 255], or (B, M, rows, columns, 3), M pictures of
    each patient -> (B, outputs)."""

    def __init__(self, network: nn.Module, pooling: Pooling, head: nn.Module | None = None) -> None:
        """network: (n, rows, columns) pictures -> (n, K), of each picture alone. head: (B, K) ->
        (B, outputs); without one the network's own outputs are pooled."""
        super().__init__()
        self.network, self.pooling = network, pooling
        self.head = nn.Identity() if head is None else head

    def forward(self, pictures: Tensor) -> Tensor:
        present = there(pictures)
        of_each = self.network(pictures.flatten(0, 1)).unflatten(0, present.shape)
        answer: Tensor = self.head(pooled(of_each, present, self.pooling))
        return answer
