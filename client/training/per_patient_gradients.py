"""Which way a model's per-patient gradients are made: bookkeeping where it can, Opacus' hooks else.

The choice is tried out on made-up patients before the first real one: what a pass says of each of
them must be what autograd says of their weighted sum. So a layer that is used twice, a weight that
is used beside its layer or a model that mixes patients is found here, and never by a hospital.
"""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from client.training.bookkeeping import BookkeepingModule, HookedModule, Needs, Unsupported
from client.training.layer_gradients import LayerGradient
from client.training.linear_chain import LinearChainGradients
from client.training.sampling import Batch
from protocol.errors import Code, WardroundError
from tasks.base import Task
from tasks.flat_model import FlatModel

Pass = LinearChainGradients | BookkeepingModule | HookedModule

_PATIENTS = 3
_TOLERANCE = 1e-2
"""Of a parameter's gradient, in float32: a mistake would be of the size of the gradient."""


class PatientGradients:
    """Gradients of a batch, patient by patient."""

    def __init__(self, task: Task, model: FlatModel) -> None:
        self._task, self._model = task, model
        self._module: Pass | None = None
        self._needs = Needs(0, 1)

    @property
    def bookkeeping(self) -> bool:
        """Whether the bookkeeping pass is what was chosen."""
        return isinstance(self._module, LinearChainGradients | BookkeepingModule)

    def of(self, batch: Batch, dtype: torch.dtype) -> list[LayerGradient]:
        """Of a batch of at least one patient, computed in `dtype` from float32 activations.

        Raises WardroundError(CONFIGURATION) where the model cannot be trained per patient.
        """
        module = self._chosen(batch.features)
        try:
            return self._pass(module, batch, dtype)
        except Unsupported:
            if isinstance(module, HookedModule):
                raise _untrainable(self._task) from None
        return self._pass(self._hooked(batch.features), batch, dtype)

    def needs(self, features: Tensor) -> Needs:
        """What one patient with such features takes."""
        self._chosen(features)
        return self._needs

    def _pass(self, module: Pass, batch: Batch, dtype: torch.dtype) -> list[LayerGradient]:
        task, labels = self._task, batch.labels
        match module:
            case LinearChainGradients():
                return module.gradients(batch.features, lambda out: task.slopes(out, labels), dtype)
            case BookkeepingModule() | HookedModule():
                return module.gradients(batch.features, lambda out: task.losses(out, labels), dtype)
        assert_never(module)

    def _chosen(self, features: Tensor) -> Pass:
        if self._module is None:
            self._module = self._tried(features) or self._hooked(features)
        return self._module

    def _tried(self, features: Tensor) -> LinearChainGradients | BookkeepingModule | None:
        for kind in (LinearChainGradients, BookkeepingModule):
            try:
                module: LinearChainGradients | BookkeepingModule = kind(self._model.module)
            except Unsupported:
                continue
            if self._agrees(module, features):
                return module
            module.to_standard_module()
        return None

    def _hooked(self, features: Tensor) -> HookedModule:
        if self._module is not None:
            self._module.to_standard_module()
        try:
            module = HookedModule(self._model.module)
        except NotImplementedError:
            raise _untrainable(self._task) from None
        if not self._agrees(module, features):
            module.to_standard_module()
            raise _untrainable(self._task)
        self._module = module
        return module

    def _agrees(self, module: Pass, features: Tensor) -> bool:
        """Whether a pass over made-up patients says what autograd says."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            kept = self._model.flat.clone()
            self._model.flat.add_(torch.randn_like(kept), alpha=0.01)
            made_up = Batch(
                torch.rand(_PATIENTS, *features.shape[1:]),
                (torch.arange(_PATIENTS) % 2).float(),
            )
            try:
                return self._compared(module, made_up, torch.tensor([0.5, 2.0, 1.0]))
            except (Unsupported, RuntimeError, ValueError, NotImplementedError):
                return False
            finally:
                self._model.flat.copy_(kept)

    def _compared(self, module: Pass, batch: Batch, factors: Tensor) -> bool:
        parameters = self._model.parameters
        torch.default_generator.manual_seed(1)
        losses = self._task.losses(self._model.module(batch.features), batch.labels)
        expected = torch.autograd.grad((losses * factors).sum(), parameters)
        torch.default_generator.manual_seed(1)
        gradients = self._pass(module, batch, torch.float32)
        found = {
            id(parameter): total
            for layer in gradients
            for parameter, total in zip(layer.parameters, layer.weighted_sum(factors), strict=True)
        }
        self._needs = module.needs(batch.features, lambda out: self._task.losses(out, batch.labels))
        size = float(torch.stack([one.norm() for one in expected]).norm())
        return all(
            float((found[id(parameter)] - one).norm())
            <= _TOLERANCE * float(one.norm()) + 1e-5 * size
            for parameter, one in zip(parameters, expected, strict=True)
        )


def _untrainable(task: Task) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        f"The model of task {task.name} has no gradients that are one patient's each.",
        remedy="The first dimension of every layer's input must be the patient; Opacus' "
        "ModuleValidator names layers that cannot do it and replacements.",
    )
