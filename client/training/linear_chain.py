"""A bookkeeping pass written out, for a chain of Linear layers and activations.

Such models are small, and most of their step would be autograd's and hooks' own time. What comes
back to a layer follows from the chain rule, layer by layer. Patients are columns here: in a matrix
product each is then a lane of a vector register (`blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from client.training.layer_gradients import LayerGradient, linear
from client.training.needs import VALUE_BYTES, Losses, Needs, Unsupported

Backward = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""Layer, gradient of its output, its input, its output -> gradient of its input."""
Slopes = Callable[[Tensor], Tensor]
"""Outputs of the model -> what each does to the sum of losses."""
_aten = torch.ops.aten

ACTIVATIONS: dict[type[nn.Module], Backward] = {
    nn.Identity: lambda layer, g, x, y: g,
    nn.ReLU: lambda layer, g, x, y: _aten.threshold_backward(g, y, 0),
    nn.Tanh: lambda layer, g, x, y: _aten.tanh_backward(g, y),
    nn.Sigmoid: lambda layer, g, x, y: _aten.sigmoid_backward(g, y),
    nn.SiLU: lambda layer, g, x, y: _aten.silu_backward(g, x),
    nn.GELU: lambda layer, g, x, y: _aten.gelu_backward(g, x, approximate=layer.approximate),
}
"""By exact type, as for layers with parameters: a subclass may compute something else."""


class LinearChainGradients:
    """A Linear layer, or nn.Sequential of those, activations and other such chains."""

    def __init__(self, module: nn.Module) -> None:
        """Raises Unsupported for any other model, and for one that is trained in part."""
        self._layers = list(_chain(module))
        owned = [p for layer in self._layers for p in layer.parameters()]
        if len({id(p) for p in owned}) < len(owned):
            raise Unsupported("a layer that is called twice")
        if not owned or not all(p.requires_grad for p in owned):
            raise Unsupported("a layer that is trained in part")
        self._first = [type(layer) for layer in self._layers].index(nn.Linear)

    def to_standard_module(self) -> None:
        """It has put nothing into the model."""

    @torch.no_grad()
    def gradients(self, features: Tensor, slopes: Slopes) -> list[LayerGradient]:
        """Of every layer, for (n, p) features of at least one patient.

        Raises Unsupported for features of another shape.
        """
        values = self._values(features)
        gradient = slopes(values[-1].t()).t()
        gradients: list[LayerGradient] = []
        for at in reversed(range(self._first, len(self._layers))):
            layer, received = self._layers[at], values[at]
            if type(layer) is nn.Linear:
                gradients.append(linear(layer, received.t(), gradient.t(), len(features)))
                if at > self._first:
                    gradient = layer.weight.t() @ gradient
            else:
                gradient = ACTIVATIONS[type(layer)](layer, gradient, received, values[at + 1])
        return gradients

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """(n, p) features -> (n, outputs), to the bit what `gradients` computes with."""
        return self._values(features)[-1].t()

    def _values(self, features: Tensor) -> list[Tensor]:
        """What every layer receives and the last one returns, a patient a column."""
        if features.dim() != 2:
            raise Unsupported("features that are not one row a patient")
        values = [features.t()]
        for layer in self._layers:
            if type(layer) is not nn.Linear:
                values.append(layer.forward(values[-1]))  # it has no hooks, which a call looks for
            elif layer.bias is None:
                values.append(layer.weight @ values[-1])
            else:
                values.append(torch.addmm(layer.bias[:, None], layer.weight, values[-1]))
        return values

    def needs(self, features: Tensor, losses: Losses) -> Needs:
        """What a pass takes for each patient, whoever it is."""
        sides = [sum(p.shape) for layer in self._layers for p in layer.parameters() if p.dim() == 2]
        return Needs(VALUE_BYTES * sum(sides), 1)


def _chain(module: nn.Module) -> Iterator[nn.Module]:
    if any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)):
        raise Unsupported("a layer with hooks")
    if type(module) is nn.Sequential:
        for layer in module:
            yield from _chain(layer)
    elif type(module) is nn.Linear or type(module) in ACTIVATIONS:
        if getattr(module, "inplace", False):
            raise Unsupported("an input that is overwritten")
        yield module
    else:
        raise Unsupported(type(module).__name__)
