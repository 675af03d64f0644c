"""A site's model under Opacus: gradients of every patient, clipping, noise.

One `DPTrainer` stays warm over all rounds. Losses are summed, never averaged, and denominators are
public, so that the size of a batch leaves no trace (Opacus issues 571 and 819). What leaves a
learner is a flat vector, never a module: a pickled module carries `p.grad_sample` with it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar, assert_never, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.training.algorithms.descent import PLAIN, Descent
from client.training.blocks import ALONE
from client.training.clipping import CertifiedSum, patient_rows
from client.training.devices.activation_memory import bytes_of_one
from client.training.devices.choice import CPU
from client.training.devices.memory import give_back, ran_out
from client.training.per_patient_gradients import PatientGradients, replacement
from client.training.sampling import Batch, Records
from protocol.errors import Code, WardroundError
from protocol.secagg.fixed_point import SITE_POSITIONS, clip_and_round, round_sum
from protocol.study.algorithms import LocalOptimiser
from protocol.study.study import Privacy, SumRounding
from protocol.vectors import Vector
from tasks.base import Task
from tasks.flat_model import FlatModel

_log = logging.getLogger("wardround.site")

Made = TypeVar("Made")
Sampler = Callable[[], Records]
"""Draws one Poisson sample of patients, one record of each."""
Adjust = Callable[[Tensor, Tensor], None]
"""(P,) weights and (P,) their gradient, which it changes in place just before a step: proximal
terms and control variates. Private gradients are clipped and noised by then: what it adds is never
clipped (inside the loss, hooks drop it), and must not depend on patients."""


def go_on() -> None:
    """Between two steps of a computation that need not give way to others."""


_SCORES = 1 << 22
"""Numbers of scores that are held at once, 16 MiB."""


class DPTrainer:
    """Trains and scores one task's model at one site."""

    def __init__(
        self,
        task: Task,
        seed: int,
        memory: int = 1 << 30,
        device: torch.device = CPU,
        give_way: Callable[[], None] = go_on,
    ) -> None:
        """`memory`: bytes that per-patient gradients may take; larger batches go in parts. Records
        stay on the processor, and go to the device in the parts in which they are computed.
        give_way: called before each of those.

        Raises WardroundError(CONFIGURATION) where the model cannot be trained per patient.
        """
        self.task = task
        self.model = FlatModel(task, seed)
        self.model.to(device)
        self.model.module.train()
        self._parameters = self.model.parameters
        self._weights = nn.Parameter(self.model.flat)
        """All parameters at once: they are views of it."""
        self._gradients = PatientGradients(task, self.model, memory)
        self._memory, self._give_way = memory, give_way
        self._fitting: int | None = None
        """Patients whose plain gradient fits the memory, once that is known."""
        self._most = 1 << 62
        """Patients of a block at most, since memory ran out with more."""
        self._used = ALONE
        """The blocks of the sum in hand."""

    def try_out(self, invented: Tensor, *, trains: bool = True, in_floats: bool) -> None:
        """Settles how per-patient gradients and scores are made, from (N, ...) features of nobody
        and the weights that the model began with: before anything that a coordinator sent, and
        whether or not a sample has patients, since no answer may depend on either.

        trains: whether gradients are summed with noise, and not scores alone. in_floats: whether
        sums are made in floating point (`Study.sums_in_floats`). Raises WardroundError
        (CONFIGURATION) where the model cannot be trained per patient, where one patient's term
        would depend on anything but that patient and the model, or where the model has more
        positions than such sums are proved for.
        """
        if (found := self._gradients.forbidden(invented, trains=trains)) is not None:
            _, own = replacement(self.model.module) or (
                "",
                "Remove or replace the layer (dropout and the like have to go), or choose a study "
                "that claims no epsilon.",
            )
            raise WardroundError(
                Code.CONFIGURATION,
                f"In the model of task {self.task.name}, {found}: no claim of privacy holds.",
                remedy=own,
            )
        settle = self._gradients.settle if trains else self._gradients.settle_scores
        if (layer := settle(invented)) is not None:
            raise WardroundError(
                Code.CONFIGURATION,
                f"In the model of task {self.task.name}, what reaches {layer} from one patient "
                "depends on who else is in the sample, on this machine: no claim of privacy holds.",
                remedy="Replace the layer before it, or choose a study that claims no epsilon.",
            )
        positions = self._gradients.needs(tuple(invented.shape[1:])).positions if in_floats else 1
        if positions > SITE_POSITIONS:
            raise WardroundError(
                Code.CONFIGURATION,
                f"A layer of task {self.task.name} has {positions} positions; sums in "
                f"floating point are exact enough for {SITE_POSITIONS}.",
                remedy="Choose a smaller picture, or mode distributed with a model of at most a "
                "thousand parameters.",
            )

    def clipped_sum(
        self,
        weights: Vector,
        batch: Records,
        clip_norm: float,
        scale: int,
        rounding: SumRounding = "patient",
    ) -> npt.NDArray[np.int64]:
        """One sum of clipped, scaled and rounded per-patient gradients, (P,) int64, no noise.

        patient: every patient adds an integer vector whose norm is bounded as `clip_and_round`
        says. site: the sum is rounded once (`CertifiedSum`, `round_sum`). Raises
        WardroundError(CONFIGURATION) for a model that this cannot be done with, whoever's patients.
        """
        self.model.load(weights)
        match rounding:
            case "patient":
                return self._in_memory(lambda: self._rounded(batch, clip_norm, scale))
            case "site":
                return round_sum(self._certified(batch, clip_norm).cpu().numpy(), clip_norm, scale)
        assert_never(rounding)

    def _rounded(self, batch: Records, clip_norm: float, scale: int) -> npt.NDArray[np.int64]:
        size = self.model.layout.size
        total = np.zeros(size, dtype=np.int64)
        for block, patients in self._blocks(batch, 8 * size):
            rows = patient_rows(self._gradients.of(block), self._parameters)
            total += clip_and_round(rows[:patients], clip_norm, scale)
        return total

    def private_steps(
        self,
        weights: Vector,
        sample: Sampler,
        steps: int,
        lr: float,
        batch: float,
        plan: Privacy,
        adjust: Adjust | None = None,
        rule: LocalOptimiser = PLAIN,
    ) -> Vector:
        """`steps` of DP-SGD at this site alone, with the full noise; returns new - old weights.

        `batch` is the public expected number of patients in a sample (q times declared patients).
        """
        from client.training.algorithms.patient_optimizer import (  # loads Opacus
            Noise,
            PatientOptimizer,
        )

        self.model.load(weights)
        optimiser = PatientOptimizer(
            Descent(self._weights, lr, rule),
            Noise(steps * self.model.layout.size),
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip_norm,
            expected_batch_size=batch,
            loss_reduction="mean",
        )
        if adjust is not None:
            optimiser.attach_step_hook(lambda _: self._adjusted(adjust))
        for _ in range(steps):
            optimiser.zero_grad()
            summed = self._certified(sample(), plan.clip_norm)
            self._weights.summed_grad = summed  # type: ignore[attr-defined]  # Opacus adds it
            optimiser.step()
        optimiser.zero_grad()
        return self._difference(weights)

    def _certified(self, batch: Records, clip_norm: float) -> Tensor:
        """(P,) float64, the sum of clipped gradients over a batch's blocks."""
        return self._in_memory(lambda: self._summed(batch, clip_norm))

    def _summed(self, batch: Records, clip_norm: float) -> Tensor:
        positions = self._gradients.needs(batch.shape).positions
        summed = CertifiedSum(self._parameters, clip_norm, len(batch), positions)
        for block, patients in self._blocks(batch):
            summed.add(self._gradients.of(block), patients)
        return summed.flat

    def _in_memory(self, compute: Callable[[], Made]) -> Made:
        """What `compute` makes of all blocks of a sample; begun again in smaller blocks, of which a
        patient has the same bits, where memory runs out.

        Blocks in which the bits may be others are for the next attempt: otherwise what a patient
        adds would depend on how much memory the others left. Raises WardroundError(STATE) then, and
        where there are none.
        """
        while True:
            try:
                return compute()
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
            give_back()  # here, where nothing holds the error and what its frames hold
            if not self._in_smaller_blocks():
                self._gradients.narrow()
                raise _short_of_memory()
            _log.warning("memory ran out: begun again with %d patients at a time", self._most)

    def _in_smaller_blocks(self) -> bool:
        if self._used.largest == self._used.multiple:
            return False
        self._most = self._used.largest // 2
        return True

    def _adjusted(self, adjust: Adjust) -> None:
        if self._weights.grad is not None:
            adjust(self.model.flat, self._weights.grad)

    def plain_steps(
        self,
        weights: Vector,
        sample: Sampler,
        steps: int,
        lr: float,
        adjust: Adjust | None = None,
        rule: LocalOptimiser = PLAIN,
        *,
        mixed: bool = False,
    ) -> Vector:
        """`steps` on the mean loss of each sample, no privacy; returns new - old weights. A sample
        that does not fit the memory goes through the model in parts, whose gradients add up.

        mixed: products in bfloat16 where torch can. Raises WardroundError(DIVERGED) where the
        weights stop being finite.
        """
        self.model.load(weights)
        optimiser = Descent(self._weights, lr, rule)
        for _ in range(steps):
            drawn = sample()
            if not len(drawn):
                continue
            self._weights.grad = self._mean_gradient(drawn, mixed=mixed)
            if adjust is not None:
                self._adjusted(adjust)
            optimiser.step()
        optimiser.zero_grad()
        difference = self._difference(weights)
        if not np.isfinite(difference).all():
            raise WardroundError(
                Code.DIVERGED,
                "Local training diverged: weights are no longer finite.",
                remedy="Lower optimisation.local_lr or the number of local steps.",
            )
        return difference

    def _mean_gradient(self, batch: Records, *, mixed: bool) -> Tensor:
        """(P,) of the mean loss over a batch of at least one patient."""
        if self._fitting is None:
            each = bytes_of_one(self.model.module, batch.shape)
            self._fitting = max(1, self._memory // each)
        total: Tensor | None = None
        for part in batch.parts(self._fitting):
            self._give_way()
            flat = self._plain_gradient(part, len(batch), mixed=mixed)
            total = flat if total is None else total.add_(flat)
        return cast(Tensor, total)

    def _plain_gradient(self, part: Batch, patients: int, *, mixed: bool) -> Tensor:
        """(P,) what a part adds to the mean gradient; in smaller parts where memory runs out."""
        here = part.on(self.model.device)
        try:
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=mixed):
                outputs = self.model.module(here.features)
            losses = self.task.losses(outputs.float(), here.labels)
            gradients = torch.autograd.grad(losses.sum() / patients, self._parameters)
            return torch.cat([one.flatten() for one in gradients])
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
        give_back()
        if len(part) == 1:
            raise _short_of_memory()
        self._fitting = -(-len(part) // 2)
        _log.warning("memory ran out: %d patients at a time from now on", self._fitting)
        first, *others = part.parts(self._fitting)
        total = self._plain_gradient(first, patients, mixed=mixed)
        for other in others:
            total.add_(self._plain_gradient(other, patients, mixed=mixed))
        return total

    def _blocks(self, batch: Records, row_bytes: int = 0) -> Iterator[tuple[Batch, int]]:
        """A batch as blocks that fit the memory, and how many patients each has."""
        each = self._gradients.needs(batch.shape).bytes + row_bytes
        fitting = min(self._memory // each, self._most)
        self._used = self._gradients.blocks(batch.shape).within(fitting)
        return self._in_turn(batch)

    def _in_turn(self, batch: Records) -> Iterator[tuple[Batch, int]]:
        for block in self._used.of(batch):
            self._give_way()
            yield block

    def scores(self, weights: Vector, records: Records | Tensor) -> npt.NDArray[np.float32]:
        """N records, or their (N, ...) features -> (N,) or (N, ...) scores, cut to the range of the
        task's outcome; one that is no number becomes its middle."""
        shape = (0, *self.task.outcome.scores_of_one)
        parts = (scores for scores, _ in self.scored(weights, records))
        return np.concatenate([np.empty(shape, np.float32), *parts])

    def scored(
        self, weights: Vector, records: Records | Tensor
    ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """The same with their labels, in order, so many at a time that masks of a whole cohort are
        never held at once; zeros for labels of features alone."""
        self.model.load(weights)
        everyone = (
            Batch(records, torch.zeros(len(records))) if isinstance(records, Tensor) else records
        )
        together = max(1, _SCORES // math.prod(self.task.outcome.scores_of_one))
        for start in range(0, len(everyone), together):
            part = everyone.between(start, min(start + together, len(everyone)))
            yield self._in_memory(partial(self._scored, part)), part.labels.numpy()

    def _scored(self, everyone: Records) -> npt.NDArray[np.float32]:
        outcome = self.task.outcome
        low, high = outcome.score_range
        scores = np.empty((len(everyone), *outcome.scores_of_one), np.float32)
        start, (outputs, blocks) = 0, self._gradients.scoring()
        self._used = blocks.within(self._most)
        with torch.no_grad():
            for block, patients in self._in_turn(everyone):
                of_block = self.task.scores(outputs(block.features))
                of_block = of_block.nan_to_num((low + high) / 2).clamp(low, high)
                scores[start : start + patients] = of_block[:patients].cpu()
                start += patients
        return scores

    def _difference(self, weights: Vector) -> Vector:
        difference: Vector = self.model.flat.cpu().numpy() - weights
        return difference


def _short_of_memory() -> WardroundError:
    return WardroundError(
        Code.STATE,
        "Memory ran out in the middle of a sum, in the smallest blocks of patients that give the "
        "same bits.",
        remedy="Raise policy.memory (on a GPU policy.device_memory), or lower "
        "policy.studies_at_once. The next attempt takes smaller blocks where it can.",
    )
