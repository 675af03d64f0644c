"""Skellam noise on integers: the difference of two Poisson variables, drawn by exact rejection.

Skellam variables add up: shares of variance mu / h from h sites are one of variance mu. They are
drawn here so exactly that the error can be carried in the proof (`DIVERGENCE`).

Poisson(rate) by a table of blocks. The integers around the mode are cut into blocks of 2^w. A block
is drawn with a probability that is an integer over 2^64, an integer of the block with w uniform
bits, and it is kept with probability p(k) / (height of its block), the height being computed from
that same integer. So neither the table's rounding nor the uniforms' granularity biases the result;
what does is the error of log p(k) in floating point alone. Most draws are kept without computing
p(k): the uniform lies below the smallest p of the block, at one of its ends since p is unimodal.
log p(k) = -stirling(k) - deviance(k, rate) - log(2 pi k) / 2 (Loader 2000).
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.privacy.randomness import Stream

RELATIVE_ERROR = 3e-14
"""Of the probability of any value of a Poisson draw within 8 deviations, at most."""
DIVERGENCE = 1e-30
"""Kullback-Leibler divergence of a drawn share from Skellam: two draws, each h^2 / 2 at most for h
the root mean square of its relative errors, below 1e-15 (tests/protocol/privacy/test_skellam.py).
The tails cut off at 13 deviations hold less than 1e-35."""
MAX_VARIANCE = 2.0**51
_REACH = 13.0
_BATCH = 1 << 18
_SMALL = 64
_NEAR = 0.4
_TERMS = 22
"""Of the series up to _NEAR: what is left out is below _NEAR^44 of its first term, 4e-18."""


def skellam(variance: float, count: int, stream: Stream | None = None) -> npt.NDArray[np.int64]:
    """(count,) independent Skellam integers of mean 0 and this variance.

    Raises WardroundError(CONFIGURATION) for a variance that is negative, NaN or above 2^51.
    """
    if not 0 <= variance <= MAX_VARIANCE:
        raise WardroundError(
            Code.CONFIGURATION,
            "The variance of a share of noise must be at least 0 and at most 2^51.",
            remedy="Lower aggregation.scale.",
        )
    if variance == 0:
        return np.zeros(count, dtype=np.int64)
    source = stream or Stream()
    values = np.empty(count, dtype=np.int64)
    for start in range(0, count, _BATCH):
        part = values[start : start + _BATCH]
        drawn = poisson(variance / 2, 2 * len(part), source)
        np.subtract(drawn[: len(part)], drawn[len(part) :], out=part)
    return values


def poisson(rate: float, count: int, stream: Stream) -> npt.NDArray[np.int64]:
    """(count,) Poisson integers, 0 < rate <= 2^50."""
    table = _table(rate)
    values = np.empty(count, dtype=np.int64)
    done = 0
    while done < count:
        tries = count - done + (count - done) // 16 + 16
        block = np.searchsorted(table.upper, stream.words(tries), side="right")
        offset = stream.words(tries) & np.uint64((1 << table.bits) - 1)
        k = table.start[block] + offset.astype(np.int64)
        height = stream.uniform(tries)
        keep = height < table.sure[block]
        unsure = np.flatnonzero(~keep)
        ratio = log_probability(k[unsure], rate) - table.ceiling[block[unsure]]
        keep[unsure] = np.log(height[unsure]) < ratio
        kept = k[keep][: count - done]
        values[done : done + len(kept)] = kept
        done += len(kept)
    return values


def log_probability(k: npt.NDArray[np.int64], rate: float) -> npt.NDArray[np.float64]:
    """log of rate^k e^-rate / k! times sqrt(2 pi rate): near 0 about the mode, where a larger
    number would cost digits. -inf for k < 0."""
    x = np.maximum(k, 1).astype(np.float64)
    value = -_stirling(k) - _deviance(x, rate) - 0.5 * np.log(x / rate)
    zero = 0.5 * math.log(2 * math.pi * rate) - rate
    return np.where(k > 0, value, np.where(k == 0, zero, -np.inf))


def _deviance(x: npt.NDArray[np.float64], rate: float) -> npt.NDArray[np.float64]:
    """x log(x / rate) + rate - x >= 0, by series where the terms would cancel (Loader 2000, 6):
    with v = (x - rate) / (x + rate), log(x / rate) = 2 atanh(v)."""
    difference = x - rate
    v = difference / (x + rate)
    near = np.abs(v) < _NEAR
    square = np.where(near, v * v, 0.0)
    series = np.zeros_like(x)
    for power in range(_terms(float(square.max(initial=0.0))), 0, -1):
        series = square * (series + 1.0 / (2 * power + 1))
    far = x * np.log(x / rate) - difference
    return np.where(near, difference * v + 2.0 * x * v * series, far)


def _terms(square: float) -> int:
    """As many as leave out no more than _TERMS of them do at _NEAR."""
    if square < 1e-9:
        return 2
    return math.ceil(_TERMS * 2 * math.log(_NEAR) / math.log(square))


class _ProbabilityTable(NamedTuple):
    """bits: w. upper: (b,) cumulative probabilities times 2^64. start: first integer of a block.
    ceiling: log of the block's height. sure: a height below which every integer is kept."""

    bits: int
    upper: npt.NDArray[np.uint64]
    start: npt.NDArray[np.int64]
    ceiling: npt.NDArray[np.float64]
    sure: npt.NDArray[np.float64]


@lru_cache(maxsize=64)
def _table(rate: float) -> _ProbabilityTable:
    deviation = math.sqrt(rate)
    bits = max(0, math.floor(math.log2(deviation / 16))) if deviation > 16 else 0
    width = 1 << bits
    low = max(0, math.floor(rate - _REACH * deviation - 40))
    high = math.ceil(rate + _REACH * deviation + 80)
    start = np.arange(low, high + 1, width, dtype=np.int64)
    last = start + (width - 1)
    mode = np.clip(math.floor(rate), start, last)
    top = log_probability(mode, rate)
    bottom = np.minimum(log_probability(start, rate), log_probability(last, rate))
    mass = np.exp(top - top.max())
    # Integer probabilities: rounded up, so that no tail block vanishes, and the largest takes what
    # is left. `slack` then lifts all heights together above every p(k), by 1e-9 more than needed.
    parts = [math.ceil(float(share) * 2.0**63 / mass.sum()) * 2 for share in mass]
    parts[int(mass.argmax())] += 2**64 - sum(parts)
    probability = np.array([part * 2.0**-64 for part in parts])
    height = np.log(probability)
    height += float(np.max(top - height)) + 1e-9
    upper = np.cumsum(np.array(parts[:-1], dtype=np.uint64), dtype=np.uint64)
    return _ProbabilityTable(bits, upper, start, height, np.exp(bottom - height) * (1 - 1e-9))


@lru_cache(maxsize=1)
def _stirling_table() -> npt.NDArray[np.float64]:
    """log k! - log(sqrt(2 pi k) (k/e)^k) for k < 64, from exact factorials."""
    with localcontext() as context:
        context.prec = 50
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582")
        values = [Decimal(0)]
        for k in range(1, _SMALL):
            whole = Decimal(math.factorial(k)).ln() - (2 * pi * k).ln() / 2
            values.append(whole - k * Decimal(k).ln() + k)
        return np.array([float(value) for value in values])


def _stirling(k: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The remainder of Stirling's formula (Loader 2000, equation 7)."""
    x = np.maximum(k, _SMALL).astype(np.float64)
    y = 1.0 / (x * x)
    large = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / x
    small = _stirling_table()[k.clip(0, _SMALL - 1)]
    return np.where(k < _SMALL, small, large)
