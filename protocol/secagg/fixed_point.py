"""Clipped sums as integers mod 2^k, and how far one patient can move those integers.

In mode distributed the clip norm C becomes the integer `scale` S, and rounding is part of what
privacy is computed from (`sensitivity`). Updates of the other modes: `vector_layout.encode_update`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError

WordBits = Literal[32, 64]
Rounding = Literal["none", "patient", "site"]
Integers = npt.NDArray[np.int64]
MAX_SCALE = 2**30
_ROWS = 1 << 21
"""Float64 values of per-patient gradients rounded at a time (16 MiB)."""
AMPLITUDE_BITS = 10
SITE_TERMS = 2**34
SITE_PATIENTS = 2**16
"""In one sample at one site; and positions (pixels, time steps) may share a weight:"""
SITE_POSITIONS = 2**17
SITE_SLACK = 0.004
"""What a float64 sum of clipped gradients may add to the clip norm, as `CertifiedSum`
(client/training/clipping.py) proves of at most so many patients and positions; 2 K SITE_TERMS u is
2^-8 = .0039. `sensitivity` "site" has it, and so has the noise of mode local."""
WRAP_BITS = 40
"""A sum wraps around with probability below 2^-40 over all attempts of a study."""


def to_words(values: npt.NDArray[np.signedinteger[Any]], word_bits: WordBits) -> npt.NDArray[Any]:
    """Integers -> the same mod 2^k as uint32 or uint64."""
    match word_bits:
        case 32:
            return values.astype(np.uint32)
        case 64:
            return values.astype(np.uint64)
    assert_never(word_bits)


@dataclass(frozen=True)
class Sensitivity:
    """Most that adding or removing one patient changes the integers, in both norms."""

    l1: float
    l2: float


def sensitivity(
    scale: float, dimension: int, rounding: Rounding, slack: float = 0.0
) -> Sensitivity:
    """Of a clipped sum whose clip norm is `scale`, (dimension,) integers.

    none: contributions are integers already, of norm scale at most. patient: each is rounded by
    itself, moving it by sqrt(d)/2 at most. site: the sum is rounded once; two neighbouring sums
    move apart by 1 a coordinate at most. slack: what float arithmetic may add, relative to scale.
    l1 <= sqrt(d) l2 (Cauchy-Schwarz), and l1 <= l2^2 for integers.
    """
    l2 = scale * (1 + slack) + rounding_moves(rounding, dimension)
    return Sensitivity(l1=min(math.sqrt(dimension) * l2, l2 * l2), l2=l2)


def rounding_moves(rounding: Rounding, dimension: int) -> float:
    """How far rounding may move two neighbouring sums of (dimension,) integers apart, in L2."""
    match rounding:
        case "none":
            return 0.0
        case "patient":
            return math.sqrt(dimension) / 2
        case "site":
            return math.sqrt(dimension)
    assert_never(rounding)


def rounding_slack(rounding: Rounding) -> float:
    """What float arithmetic may add to the clip norm of a sum that is rounded so."""
    match rounding:
        case "none" | "patient":
            return 0.0
        case "site":
            return SITE_SLACK
    assert_never(rounding)


def clip_and_round(
    gradients: npt.NDArray[np.floating[Any]], clip_norm: float, scale: int
) -> Integers:
    """Per-patient gradients (n, d) -> their clipped, rounded sum: (d,) integers.

    Every row is scaled so that norm clip_norm becomes `scale`, clipped to it, and rounded to the
    nearest integers; its integer norm is then enforced, exactly, to be at most
    scale + sqrt(d)/2 (`sensitivity` "patient"). A row with a non-finite value counts as zero.
    """
    _check_scale(clip_norm, scale)
    rows, columns = gradients.shape
    bound = int(sensitivity(scale, columns, "patient").l2 ** 2)
    total = np.zeros(columns, dtype=np.int64)
    step = max(1, _ROWS // max(1, columns))
    for start in range(0, rows, step):
        block = gradients[start : start + step].astype(np.float64)
        block[~np.isfinite(block).all(axis=1)] = 0.0
        block *= scale / clip_norm
        with np.errstate(over="ignore"):
            norms = np.sqrt(np.einsum("ij,ij->i", block, block))
        block *= np.minimum(1.0, scale / np.maximum(norms, scale))[:, None]
        integers = np.rint(block).astype(np.int64)
        integers[np.einsum("ij,ij->i", integers, integers) > bound] = 0
        total += integers.sum(axis=0)
    return total


def round_sum(clipped: npt.NDArray[np.floating[Any]], clip_norm: float, scale: int) -> Integers:
    """A site's sum of clipped gradients (d,) -> (d,) integers (`sensitivity` "site").

    The caller has clipped; a non-finite coordinate becomes 0 and the rest saturates at 2^62.
    """
    _check_scale(clip_norm, scale)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = clipped * np.float64(scale / clip_norm)
        np.rint(scaled, out=scaled)
        if not float(np.dot(scaled, scaled)) < 2.0**124:  # some are NaN, or too large for integers
            np.clip(np.nan_to_num(scaled, copy=False), -(2.0**62), 2.0**62, out=scaled)
    integers: Integers = scaled.astype(np.int64)
    return integers


def max_sampled(patients: int, sampling_rate: float, attempts: int) -> int:
    """Patients that a Poisson sample exceeds with probability below 2^-41 over all attempts
    (Bernstein's inequality)."""
    mean = patients * sampling_rate
    level = math.log(attempts * 2.0 ** (WRAP_BITS + 1))
    spread = level / 3 + math.sqrt(level**2 / 9 + 2 * mean * (1 - sampling_rate) * level)
    return min(patients, math.ceil(mean + spread))


def clipped_sum_bits(
    *,
    scale: int,
    dimension: int,
    most_patients: int,
    noise_multiplier: float,
    least_sites: int,
    colluding_sites: int,
    attempts: int,
) -> int:
    """The bits of the smallest word in which no sum of clipped gradients of a study wraps, but with
    probability below 2^-41.

    The noise of all of U has variance mu |U| / (|U| - x), largest at |U| = m.
    """
    _check_scale(1.0, scale)
    variance = (noise_multiplier * scale) ** 2 * least_sites / max(1, least_sites - colluding_sites)
    signal = most_patients * sensitivity(scale, dimension, "site").l2
    return sum_bits(signal, variance, dimension, attempts)


def skellam_tail(variance: float, level: float) -> float:
    """What a Skellam variable of variance v exceeds with probability below 2 e^-level, on either
    side (Bernstein; its log moment generating function is v (cosh t - 1) <= v t^2 / (2 - 2t/3))."""
    return math.sqrt(2 * variance * level) + level / 3


def sum_bits(signal: float, variance: float, dimension: int, attempts: int) -> int:
    """The same for coordinates of `signal` at most, with Skellam noise of this variance."""
    level = math.log(2 * dimension * attempts * 2.0 ** (WRAP_BITS + 1))
    largest = signal + skellam_tail(variance, level)
    return (math.floor(largest) + 1).bit_length() + 1


def whole_words(bits: int) -> WordBits:
    """The smallest whole word of so many bits or more. Raises WardroundError(CONFIGURATION) where
    even 64 bits do not do."""
    if bits <= 32:
        return 32
    if bits <= 63:
        return 64
    raise WardroundError(
        Code.CONFIGURATION,
        "Sum and noise of one attempt could overflow even 64 bits.",
        remedy="Lower aggregation.scale (`accounting.recommended_scale`).",
    )


def _check_scale(clip_norm: float, scale: int) -> None:
    if not (math.isfinite(clip_norm) and clip_norm > 0 and 1 <= scale <= MAX_SCALE):
        raise WardroundError(
            Code.CONFIGURATION,
            f"The clip norm must be above 0 and the scale between 1 and 2^30 (it is {scale}).",
        )
