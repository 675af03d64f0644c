"""How much memory one patient takes on the way through a model that trains without privacy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.random_streams import own_streams

_COPIES = 3
"""A layer's output, its gradient, and what autograd keeps beside it."""


def bytes_of_one(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes, roughly, of all that the layers give for one patient; at least 1.

    shape: of one patient's features.
    """
    found: list[int] = []
    device = next((p.device for p in module.parameters()), None)

    def seen(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            found.append(output.nbytes)

    handles = [layer.register_forward_hook(seen) for layer in module.modules()]
    try:
        with torch.no_grad(), own_streams(0):
            module(torch.zeros(1, *shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return max(1, _COPIES * sum(found))
