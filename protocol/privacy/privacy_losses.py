"""Privacy loss distributions of dp-accounting: their epsilon, on a coarser grid, and as bytes.

A distribution gives a mass to each loss l, a multiple of the grid's interval, and to an infinite
one, in each direction (a patient removed, a patient added).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

_LARGEST = 700.0
"""Of losses that float64 can tell from infinite ones by e^l."""
_HEAD, _DIRECTION = struct.Struct("<d?"), struct.Struct("<qdQ")


def epsilon_of(losses: Any) -> Callable[[float], float]:
    """delta -> the least epsilon >= 0 of a dense distribution; inf where none below 700 does.

    What dp-accounting's `get_epsilon_for_delta` finds loss by loss, with the sums made once:
    a calibration asks thousands of times.
    """
    directions = [_epsilon_of(losses._pmf_remove)]
    if not losses._symmetric:
        directions.append(_epsilon_of(losses._pmf_add))
    return lambda delta: max(one(delta) for one in directions)


def coarser(losses: Any, interval: float) -> Any:
    """The same on a grid of `interval`, which is that of `losses` times a power of two; it
    dominates them, alone and in every composition.

    A mass p at l between two losses a <= l <= b of the coarse grid is divided between them so that
    p and p e^-l stay what they are. The hockey-stick divergence is a mean of functions convex in
    e^-l, also with other distributions composed to it: by Jensen's inequality it only grows, and
    not at all at multiples of `interval` (Doroshenko et al. 2022, "connect the dots").
    """
    return _of_each(losses, lambda pmf: _coarser(pmf, interval))


def dense(losses: Any) -> Any:
    """The same with every loss of the grid between the lowest and the highest."""
    return _of_each(losses, lambda pmf: pmf.to_dense_pmf())


def encode(losses: Any) -> bytes:
    """A dense distribution as bytes, exactly: little-endian interval (float64) and whether both
    directions are the same; of each direction the lowest loss (int64, in intervals), the mass at
    infinity (float64), the number of losses (uint64) and their masses (float64)."""
    both = [losses._pmf_remove] if losses._symmetric else [losses._pmf_remove, losses._pmf_add]
    parts = [_HEAD.pack(both[0]._discretization, losses._symmetric)]
    for pmf in both:
        parts.append(_DIRECTION.pack(pmf._lower_loss, pmf._infinity_mass, pmf.size))
        parts.append(np.asarray(pmf._probs, dtype="<f8").tobytes())
    return b"".join(parts)


def decode(text: bytes) -> Any:
    """What `encode` made bytes of."""
    from dp_accounting.pld import pld_pmf, privacy_loss_distribution

    interval, symmetric = _HEAD.unpack_from(text)
    pmfs, place = [], _HEAD.size
    for _ in range(1 if symmetric else 2):
        lowest, infinite, size = _DIRECTION.unpack_from(text, place)
        place += _DIRECTION.size
        masses = np.frombuffer(text, "<f8", size, place).astype(np.float64)
        place += masses.nbytes
        pmfs.append(pld_pmf.DensePLDPmf(interval, lowest, masses, infinite, True))
    return privacy_loss_distribution.PrivacyLossDistribution(*pmfs)


def _epsilon_of(pmf: Any) -> Callable[[float], float]:
    """From the largest loss down, `upper` and `lower` add up the masses p and p e^-l: at a loss l,
    delta is upper - e^l lower, and between two losses epsilon is where that falls to delta."""
    losses = (pmf._lower_loss + np.arange(pmf.size - 1, -1, -1)) * pmf._discretization
    beyond = int(np.searchsorted(-losses, -_LARGEST))
    losses = np.maximum(losses[beyond:], -_LARGEST)  # what counts too little makes epsilon larger
    masses = pmf._probs[::-1]
    infinite = pmf._infinity_mass + masses[:beyond].sum()
    upper = np.cumsum(np.concatenate(([infinite], masses[beyond:])))
    lower = np.cumsum(np.concatenate(([0.0], masses[beyond:] * np.exp(-losses))))
    at = np.maximum.accumulate(upper[:-1] - np.exp(losses) * lower[:-1])

    def epsilon(delta: float) -> float:
        if infinite > delta:
            return math.inf
        place = int(np.searchsorted(at, delta, side="right"))
        if upper[place] <= lower[place] + delta:
            return 0.0
        return math.log((upper[place] - delta) / lower[place])

    return epsilon


def _coarser(pmf: Any, interval: float) -> Any:
    from dp_accounting.pld import pld_pmf

    steps = round(interval / pmf._discretization)
    if steps == 1:
        return pmf
    lowest, skipped = divmod(pmf._lower_loss, steps)
    cells = -(-(skipped + pmf.size) // steps)
    masses = np.zeros((cells, steps))
    masses.reshape(-1)[skipped : skipped + pmf.size] = pmf._probs
    raised = np.expm1(-pmf._discretization * np.arange(steps)) / np.expm1(-interval)
    spread = np.zeros(cells + 1)
    spread[:-1] += masses @ (1 - raised)
    spread[1:] += masses @ raised
    return pld_pmf.DensePLDPmf(interval, lowest, spread, pmf._infinity_mass, True)


def _of_each(losses: Any, change: Callable[[Any], Any]) -> Any:
    """The distribution with both directions changed."""
    remove = change(losses._pmf_remove)
    if losses._symmetric:
        return type(losses)(remove)
    return type(losses)(remove, change(losses._pmf_add))
