"""Opacus' optimiser with noise from the operating system, for the steps of mode local.

Opacus takes longer to load than the rest of a small study: it is imported where a study needs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from opacus.optimizers import DPOptimizerFastGradientClipping

from client.training.algorithms.descent import Descent
from protocol.privacy.gaussian import SLACK, gaussian, grid, noised
from protocol.privacy.randomness import Floats, Stream
from protocol.secagg.fixed_point import SITE_SLACK

_NOISED = 1 << 17
"""Values noised at a time: the float64 noise of a whole model would be the largest thing here."""


class Noise:
    """Standard normal values, each given once. Those of a small model's steps are made together,
    since a call for few of them is mostly its own cost."""

    def __init__(self, expected: int) -> None:
        """`expected`: values that will be asked for in all, to make no more than those."""
        self._expected = expected
        self._made = np.empty(0)
        self._stream = Stream()

    def __call__(self, count: int) -> Floats:
        """(count,), at most _NOISED."""
        if self._stream.forked():
            self._made = np.empty(0)
        if len(self._made) < count:
            size = max(count, min(_NOISED, self._expected))
            self._made = gaussian(size, self._stream)
        values, self._made = self._made[:count], self._made[count:]
        self._expected -= count
        return values


class PatientOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]  # Opacus has no types
    """Opacus' optimiser for gradients that come clipped and summed, in `summed_grad` (Abadi et al.
    2016, Algorithm 1), with noise from the operating system: Opacus' secure mode needs a package no
    longer published. Noise is for C and what float64 and the grid may add to it, so that the noise
    multiplier that is accounted for is what it says."""

    def __init__(self, descent: Descent, noise: Noise, **options: Any) -> None:
        super().__init__(descent, **options)
        self._noise = noise
        self._step = grid(self.max_grad_norm, sum(p.numel() for p in self.params))
        self._deviation = self.noise_multiplier * self.max_grad_norm * (1 + SITE_SLACK + SLACK)

    def accumulate(self) -> None:
        """The sum is there already: one sample is one step."""

    def add_noise(self) -> None:
        for p in self.params:
            sums = p.summed_grad.cpu().numpy()
            released = np.empty(len(sums), np.float32)
            for start in range(0, len(sums), _NOISED):
                part = sums[start : start + _NOISED]
                released[start : start + _NOISED] = noised(
                    part, self._noise(len(part)), self._deviation, self._step
                )
            p.grad = torch.from_numpy(released).view(p.shape).to(p.device)
