"""A site's model under Opacus: per-patient gradients, clipping, noise. The door to Opacus.

One `Learner` stays warm over all rounds. Losses are summed, never averaged, and denominators are
public, so that the size of a batch leaves no trace (Opacus issues 571 and 819). What leaves a
learner is a flat vector, never a module: a pickled module carries `p.grad_sample` with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor

from client.sampling import Batch
from protocol.errors import Code, WardroundError
from protocol.noise import gaussian
from protocol.quantise import clip_and_round
from protocol.study import Privacy
from protocol.vectors import Vector
from tasks.base import Task
from tasks.weights import FlatModel

# Opacus' hooks need no gradient with respect to the input, and neither do we.
warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)

Sampler = Callable[[], Batch]
"""Draws one Poisson sample of patients, one record of each."""


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' DPOptimizer (Abadi et al. 2016, Algorithm 1) with two differences.

    Noise comes from the operating system's generator (Opacus' secure mode needs a package that is
    no longer published), and a patient whose gradient is not finite counts as a zero gradient.
    """

    def clip_and_accumulate(self) -> None:
        sanitise(self.grad_samples)
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        for p in self.params:
            noise = gaussian(p.numel()) * (self.noise_multiplier * self.max_grad_norm)
            p.grad = p.summed_grad + torch.from_numpy(noise).to(p.dtype).view_as(p)


def sanitise(gradients: list[Tensor]) -> None:
    """Sets in place every patient's gradient that is not finite to zero."""
    if not gradients or len(gradients[0]) == 0:
        return
    finite = torch.stack([g.flatten(1).isfinite().all(dim=1) for g in gradients]).all(0)
    if not bool(finite.all()):
        for gradient in gradients:
            gradient[~finite] = 0.0


class Learner:
    """Trains and scores one task's model at one site."""

    def __init__(self, task: Task, seed: int, memory: int = 1 << 30) -> None:
        """`memory`: bytes that per-sample gradients may take; larger batches go in parts.

        Raises WardroundError(CONFIGURATION) where the model cannot be trained per patient.
        """
        self.task = task
        self.model = FlatModel(task, seed)
        try:
            self._module = GradSampleModule(self.model.module, loss_reduction="sum", strict=True)
        except NotImplementedError:
            raise WardroundError(
                Code.CONFIGURATION,
                f"The model of task {task.name} has a layer without per-sample gradients.",
                remedy="Opacus' ModuleValidator names the layer and a replacement.",
            ) from None
        self._module.train()
        self._physical = max(1, memory // (8 * self.model.layout.size))

    def _backward(self, batch: Batch) -> None:
        losses = self.task.losses(self._module(batch.features), batch.labels)
        losses.sum().backward()  # type: ignore[no-untyped-call]

    def clipped_sum(
        self, weights: Vector, batch: Batch, clip_norm: float, scale: int
    ) -> npt.NDArray[np.int64]:
        """One sum of clipped, scaled and rounded per-patient gradients, (P,) int64, no noise.

        Every patient adds an integer vector whose norm is bounded as `clip_and_round` says.
        """
        self.model.load(weights)
        total = np.zeros(self.model.layout.size, dtype=np.int64)
        parameters = self.model.parameters
        for part in batch.parts(self._physical):
            for parameter in parameters:
                parameter.grad = None
                parameter.grad_sample = None  # type: ignore[attr-defined]
            self._backward(part)
            gradients = [p.grad_sample for p in parameters]  # type: ignore[attr-defined]
            sanitise(gradients)
            rows = torch.cat([g.flatten(1) for g in gradients], dim=1)
            total += clip_and_round(rows.numpy(), clip_norm, scale)
        return total

    def private_steps(
        self, weights: Vector, sample: Sampler, steps: int, lr: float, batch: float, plan: Privacy
    ) -> Vector:
        """`steps` of DP-SGD at this site alone, with the full noise; returns new - old weights.

        `batch` is the public expected number of patients in a sample (q times declared patients).
        """
        self.model.load(weights)
        optimiser = PatientOptimizer(
            torch.optim.SGD(self.model.parameters, lr=lr),
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip_norm,
            expected_batch_size=batch,
            loss_reduction="mean",
        )
        for _ in range(steps):
            optimiser.zero_grad()
            parts = list(sample().parts(self._physical))
            for index, part in enumerate(parts):
                if index < len(parts) - 1:
                    optimiser.signal_skip_step(do_skip=True)
                self._backward(part)
                optimiser.step()
                if index < len(parts) - 1:
                    optimiser.zero_grad()
        return self._difference(weights)

    def plain_steps(self, weights: Vector, sample: Sampler, steps: int, lr: float) -> Vector:
        """`steps` of SGD on the mean loss of each sample, no privacy; returns new - old weights.

        Raises WardroundError(DIVERGED) where the weights stop being finite.
        """
        self.model.load(weights)
        parameters = self.model.parameters
        self._module.disable_hooks()
        try:
            for _ in range(steps):
                drawn = sample()
                if not len(drawn):
                    continue
                losses = self.task.losses(self.model.module(drawn.features), drawn.labels)
                gradients = torch.autograd.grad(losses.mean(), parameters)
                with torch.no_grad():
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        parameter.sub_(gradient, alpha=lr)
        finally:
            self._module.enable_hooks()
        difference = self._difference(weights)
        if not np.isfinite(difference).all():
            raise WardroundError(
                Code.DIVERGED,
                "Local training diverged: weights are no longer finite.",
                remedy="Lower optimisation.local_lr or the number of local steps.",
            )
        return difference

    def scores(self, weights: Vector, features: Tensor) -> npt.NDArray[np.float32]:
        """(N, ...) features -> (N,) scores in [0, 1]; a score that is not finite becomes 0.5."""
        self.model.load(weights)
        with torch.no_grad():
            parts = torch.split(features, 4096)
            scores = [self.task.scores(self.model.module(part)) for part in parts]
        flat: npt.NDArray[np.float32] = torch.cat(scores).nan_to_num(0.5).clamp(0, 1).numpy()
        return flat

    def _difference(self, weights: Vector) -> Vector:
        difference: Vector = self.model.flat.numpy() - weights
        return difference
