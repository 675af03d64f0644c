"""A bookkeeping pass: gradients of every patient from one forward and one backward pass.

The backward pass goes through activations only; what every layer received and what came back to it
is noted, and weight gradients are made from that, once, already clipped (Bu et al. 2023). It is an
Opacus GradSampleModule like the one with hooks, which does the models that this one cannot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from opacus.grad_sample import AbstractGradSampleModule, GradSampleModule
from torch import Tensor, nn

from client.layer_gradients import LayerGradient, Rows, positions, rule_for

Losses = Callable[[Tensor], Tensor]
"""Outputs of the model -> (n,) losses, one a patient."""


class Unsupported(Exception):
    """This model, or what it did with this batch, is not for a bookkeeping pass."""


@dataclass(frozen=True)
class Needs:
    """Of one patient: bytes of memory, roughly, and the most positions that share a weight."""

    bytes: int
    positions: int


_BYTES = 32
"""A value that goes into or comes back to a layer: itself, what autograd keeps beside it, and
gradients that are kept (`layer_gradients._KEPT` allows more of them, but only of small layers)."""


@dataclass
class _Call:
    """One call of a layer in the forward pass, completed in the backward pass."""

    layer: nn.Module
    input: Tensor
    version: int
    gradient: LayerGradient | None = None


class BookkeepingModule(AbstractGradSampleModule):  # type: ignore[misc]
    """A model whose every trainable parameter belongs to one layer of a known type."""

    def __init__(self, module: nn.Module) -> None:
        """Raises Unsupported for a model with other trainable parameters, or shared ones."""
        super().__init__(module, batch_first=True, loss_reduction="sum")
        owners: dict[int, nn.Module] = {}
        for layer in module.modules():
            for parameter in layer.parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                if id(parameter) in owners or rule_for(layer) is None:
                    raise Unsupported(type(layer).__name__)
                owners[id(parameter)] = layer
        self._trainable = [p for p in module.parameters() if p.requires_grad]
        layers = {id(layer): layer for layer in owners.values()}
        if any(not p.requires_grad for layer in layers.values() for p in layer.parameters()):
            raise Unsupported("a layer that is trained in part")
        self._layers = len(layers)
        self._calls: list[_Call] = []
        self._dtype: torch.dtype | None = None
        self._handles = [
            layer.register_forward_hook(self._forward_hook) for layer in layers.values()
        ]
        self.needs = Needs(0, 1)
        """Of the last pass."""

    def remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()

    def gradients(
        self, features: Tensor, losses: Losses, dtype: torch.dtype
    ) -> list[LayerGradient]:
        """Of every layer, for a batch of at least one patient, computed in `dtype`.

        Raises Unsupported where a layer was called twice, or not at all, or something overwrote
        its input.
        """
        with self._recording(dtype):
            losses(self(features)).sum().backward()  # type: ignore[no-untyped-call]
            calls = list(self._calls)
        if len(calls) != self._layers or len({id(call.layer) for call in calls}) != self._layers:
            raise Unsupported("a layer that is called twice, or not at all")
        found = [call.gradient for call in calls if call.gradient is not None]
        if len(found) != len(calls):
            raise Unsupported("a layer that the losses do not depend on")
        return found

    @contextlib.contextmanager
    def _recording(self, dtype: torch.dtype) -> Iterator[None]:
        """Weights stand still, so that autograd makes no gradient of them."""
        self._dtype = dtype
        self.needs = Needs(0, 1)
        for parameter in self._trainable:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            self._dtype = None
            self._calls.clear()
            for parameter in self._trainable:
                parameter.requires_grad_(True)

    def _forward_hook(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Any:
        if self._dtype is None or not torch.is_grad_enabled():
            return None
        if not output.requires_grad:
            output = _Anchor.apply(output, torch.ones((), requires_grad=True))
        call = _Call(layer, inputs[0].detach(), inputs[0]._version)
        self._calls.append(call)
        output.register_hook(lambda gradient: self._arrived(call, gradient))  # type: ignore[no-untyped-call]
        return output

    def _arrived(self, call: _Call, gradient: Tensor) -> None:
        """Made at once, so that what is no longer needed is freed while backward goes on."""
        rule, dtype = rule_for(call.layer), self._dtype
        if rule is None or dtype is None or call.gradient is not None:
            raise Unsupported("a second backward pass")
        if call.input._version != call.version:
            raise Unsupported("an input that is overwritten")
        if len(gradient) != len(call.input):
            raise Unsupported("a layer whose first dimension is not the patient")
        with torch.no_grad():
            call.gradient = rule(call.layer, call.input, gradient, dtype)
        sizes = call.input[0].numel(), gradient[0].numel()
        self.needs = Needs(
            self.needs.bytes + _BYTES * sum(sizes),
            max(self.needs.positions, positions(call.layer, gradient[0])),
        )
        call.input = torch.empty(0)


class _Anchor(torch.autograd.Function):
    """Ties the first layer's output, which depends on no gradient, to the graph."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor) -> Tensor:
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


class HookedModule(GradSampleModule):  # type: ignore[misc]
    """Opacus' own hooks, seen the same way: any layer, at several times the memory and time."""

    def __init__(self, module: nn.Module) -> None:
        """Raises NotImplementedError for a layer without per-sample gradients."""
        super().__init__(module, loss_reduction="sum", strict=True)
        self._trainable = [p for p in module.parameters() if p.requires_grad]
        self.disable_hooks()
        self.needs = Needs(8 * sum(p.numel() for p in self._trainable), 1)

    def gradients(
        self, features: Tensor, losses: Losses, dtype: torch.dtype
    ) -> list[LayerGradient]:
        """Raises Unsupported where a parameter's gradients are not one a patient."""
        self.enable_hooks()
        try:
            for parameter in self._trainable:
                parameter.grad = parameter.grad_sample = None  # type: ignore[attr-defined]
            losses(self(features)).sum().backward()  # type: ignore[no-untyped-call]
        finally:
            self.disable_hooks()
        found: list[LayerGradient] = []
        for parameter in self._trainable:
            rows = parameter.grad_sample  # type: ignore[attr-defined]
            if not isinstance(rows, Tensor) or len(rows) != len(features):
                raise Unsupported("a parameter without one gradient for each patient")
            found.append(Rows([parameter], [rows], dtype))
            parameter.grad_sample = None  # type: ignore[attr-defined]
        return found
