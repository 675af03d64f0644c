"""Training a large network in part: its last layers, or small matrices beside its own.

What is frozen is in the model's digest and in every released model, and is neither sent nor
noised. Under privacy noise grows with what is trained, so that a few thousand weights of a network
that has learnt from public pictures are often worth more than all of them.
"""

from __future__ import annotations

import math

from torch import Tensor, nn


class Lora(nn.Module):
    """A Linear layer that stands still, plus a product of two thin ones that is trained (Hu et al.
    2022, equation 3). It begins as the layer alone, since the second one begins at zero."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        self._scale = alpha / rank

    def forward(self, values: Tensor) -> Tensor:
        changed: Tensor = self.layer(values) + self.up(self.down(values)) * self._scale
        return changed


def train_only(network: nn.Module, *layers: str) -> nn.Module:
    """Freezes all parameters but those of the named layers ("fc", "encoder.ln"), and returns the
    network. Raises ValueError for a layer that it does not have."""
    chosen = [_layer(network, name) for name in layers]
    network.requires_grad_(False)
    for layer in chosen:
        layer.requires_grad_(True)
    return network


def with_lora(
    network: nn.Module, *layers: str, rank: int = 8, alpha: float = 16.0, trained: tuple[str, ...]
) -> nn.Module:
    """Puts a `Lora` in the place of every Linear whose last name is one of `layers` ("query",
    "value"), freezes the rest but for the layers named in `trained`, and returns the network.

    Raises ValueError where no layer has such a name.
    """
    train_only(network, *trained)
    found = [
        (module, name, child)
        for module in network.modules()
        for name, child in module.named_children()
        if name in layers and type(child) is nn.Linear
    ]
    if missing := set(layers) - {name for _, name, _ in found}:
        raise ValueError(f"the network has no Linear layer named {', '.join(sorted(missing))}")
    for module, name, child in found:
        module.register_module(name, Lora(child, rank, alpha))
    return network


def _layer(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        raise ValueError(f"the network has no layer named {name}") from None
