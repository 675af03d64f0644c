"""A bookkeeping pass: gradients of every patient from one forward and one backward pass.

The backward pass goes through activations only; what every layer received and what came back to it
is noted, and weight gradients are made from that, once, already clipped (Bu et al. 2023). It is an
Opacus GradSampleModule like the one with hooks, which does the models that this one cannot. A layer
may get several rows of each patient, one after the other (a patient's pictures), which count
together as positions do; that they do stand so, the comparison with autograd tells
(`per_patient_gradients`).
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from opacus.grad_sample import AbstractGradSampleModule, GradSampleModule
from torch import Tensor, nn

from client.training.layer_gradients import LayerGradient, Rows, Rule, positions, rule_for
from client.training.needs import VALUE_BYTES, Losses, Needs, Unsupported

# Opacus' hooks need no gradient with respect to the input, and neither do we.
warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)


class _Call:
    """One call of a layer in the forward pass, completed in the backward pass."""

    def __init__(self, layer: nn.Module, rule: Rule, received: Tensor, patients: int) -> None:
        self.layer, self._rule, self._patients = layer, rule, patients
        self._input: Tensor | None = received.detach()
        self._version = received._version
        self.gradient: LayerGradient | None = None
        self.needs = Needs(0, 1)

    def arrived(self, gradient: Tensor) -> None:
        """Made at once, so that the input is freed while the backward pass continues."""
        received, self._input = self._input, None
        if received is None:
            raise Unsupported("a second backward pass")
        if received._version != self._version:
            raise Unsupported("an input that is overwritten")
        if gradient.shape[0] != received.shape[0] or gradient.shape[0] % self._patients:
            raise Unsupported("a layer whose first dimension is not the patient")
        self.gradient = self._rule(self.layer, received, gradient, self._patients)
        values = (received.numel() + gradient.numel()) // self._patients
        of_weight = positions(self.layer, gradient, self._patients)
        self.needs = Needs(VALUE_BYTES * values, of_weight)


class BookkeepingModule(AbstractGradSampleModule):  # type: ignore[misc]  # Opacus has no types
    """A model whose every trainable parameter belongs to one layer of a known type."""

    def __init__(self, module: nn.Module) -> None:
        """Raises Unsupported for a model with other trainable parameters, or shared ones."""
        super().__init__(module, batch_first=True, loss_reduction="sum")
        self._rules: dict[nn.Module, Rule] = {}
        owned: set[int] = set()
        for layer in module.modules():
            for parameter in layer.parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                rule = rule_for(layer)
                if id(parameter) in owned or rule is None:
                    raise Unsupported(type(layer).__name__)
                owned.add(id(parameter))
                self._rules[layer] = rule
        self._trainable = [p for p in module.parameters() if p.requires_grad]
        if any(not p.requires_grad for layer in self._rules for p in layer.parameters()):
            raise Unsupported("a layer that is trained in part")
        self._calls: list[_Call] = []
        self._patients = 0
        self._anchor = torch.ones((), requires_grad=True)
        self._handles = [layer.register_forward_hook(self._forward_hook) for layer in self._rules]

    def remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()

    def gradients(self, features: Tensor, losses: Losses) -> list[LayerGradient]:
        """Of every layer, for a batch of at least one patient.

        Raises Unsupported where a layer was called twice, or not at all, or something overwrote
        its input.
        """
        return [gradient for _, gradient in self._passed(features, losses)]

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """What the model returns for them."""
        outputs: Tensor = self._module(features)
        return outputs

    def needs(self, features: Tensor, losses: Losses) -> Needs:
        """What a pass over these patients takes for each of them. Raises Unsupported."""
        needs = [call.needs for call, _ in self._passed(features, losses)]
        return Needs(sum(need.bytes for need in needs), max(need.positions for need in needs))

    def _passed(self, features: Tensor, losses: Losses) -> list[tuple[_Call, LayerGradient]]:
        """Weights stand still meanwhile, so that autograd makes no gradient of them."""
        calls = self._calls
        self._patients = len(features)
        for parameter in self._trainable:
            parameter.requires_grad_(False)
        try:
            losses(self._module(features)).sum().backward()
            if not len(calls) == len({call.layer for call in calls}) == len(self._rules):
                raise Unsupported("a layer that is called twice, or not at all")
            done = [(call, call.gradient) for call in calls if call.gradient is not None]
            if len(done) < len(calls):
                raise Unsupported("a layer that the losses do not depend on")
            return done
        finally:
            self._patients = 0
            calls.clear()
            for parameter in self._trainable:
                parameter.requires_grad_(True)

    def _forward_hook(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Any:
        if not self._patients:
            return None
        if not output.requires_grad:
            output = _Anchor.apply(output, self._anchor)
        call = _Call(layer, self._rules[layer], inputs[0], self._patients)
        self._calls.append(call)
        output.register_hook(call.arrived)
        return output


class _Anchor(torch.autograd.Function):
    """Ties the first layer's output, which depends on no gradient, to the graph."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor) -> Tensor:
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


class HookedModule(GradSampleModule):  # type: ignore[misc]  # Opacus has no types
    """Opacus' own hooks, seen the same way: any layer, at several times the memory and time."""

    def __init__(self, module: nn.Module) -> None:
        """Raises NotImplementedError for a layer without per-sample gradients."""
        super().__init__(module, loss_reduction="sum", strict=True)
        self._trainable = [p for p in module.parameters() if p.requires_grad]
        self.disable_hooks()

    def gradients(self, features: Tensor, losses: Losses) -> list[LayerGradient]:
        """Raises Unsupported where a parameter's gradients are not one a patient."""
        self._forget()
        self.enable_hooks()
        try:
            losses(self(features)).sum().backward()
        finally:
            self.disable_hooks()
        gradients: list[LayerGradient] = []
        for parameter in self._trainable:
            rows = parameter.grad_sample  # type: ignore[attr-defined]  # Opacus adds it
            if not isinstance(rows, Tensor) or len(rows) % len(features):
                raise Unsupported("a parameter without one gradient for each patient")
            if len(rows) > len(features):  # of each of a patient's pictures
                rows = rows.unflatten(0, (len(features), -1)).sum(1)
            gradients.append(Rows([parameter], [rows]))
            parameter.grad_sample = None  # type: ignore[attr-defined]  # Opacus adds it
        return gradients

    def _forget(self) -> None:
        """Drops what is left of an earlier pass, which may have ended before its time."""
        for parameter in self._trainable:
            parameter.grad = parameter.grad_sample = None  # type: ignore[attr-defined]  # Opacus adds it
            parameter._forward_counter = 0  # type: ignore[attr-defined]  # Opacus adds it
            vars(parameter).pop("_current_grad_sample", None)
        for layer in self._module.modules():
            vars(layer).pop("activations", None)
            vars(layer).pop("max_batch_len", None)

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """What the model returns for them."""
        outputs: Tensor = self._module(features)
        return outputs

    def needs(self, features: Tensor, losses: Losses) -> Needs:
        return Needs(8 * sum(p.numel() for p in self._trainable), 1)
