"""Discrete Laplace noise whose shares are drawn apart and add up (distributed, pure epsilon).

P(k) = (1 - a) / (1 + a) a^|k| with a = exp(-epsilon / scale), the geometric mechanism of Ghosh,
Roughgarden and Sundararajan (2009): no mechanism of the same epsilon is closer to a count.

It is the difference of two geometric variables, and a geometric variable is the sum of h negative
binomial ones of shape 1/h (infinitely divisible; Goryczka and Xiong 2017, section 4; Balle, Bell,
Gascon and Nissim 2020, section 4). So each of |U| sites adds X - Y with X, Y of shape r =
1 / (|U| - x): the shares of any |U| - x honest sites make one discrete Laplace variable, and those
of x others are known to them at best, at worst more noise.

Drawn by inversion of a table of 128-bit integers, floor(2^128 F(k)), against 128 bits of the
operating system's randomness. The table is computed to 60 decimal digits, whose error stays far
below 2^-128, so each integer is off by less than 1 (by the floor) and the last one is 2^128 - 1:
the probabilities of the at most 2^20 entries differ from the true ones by less than 2^-128 each
and by 2^-128 beyond the table, in total variation by less than 2^-107 (`ERROR`).

How one share alone protects (if secure aggregation broke): its distribution p is log-convex and
falling on k >= 0, since its characteristic function C / (b - cos t)^r is for r < 1 a positive
mixture of those of discrete Laplace variables, 1 / (b + u - cos t) with weight u^-r du (Stieltjes).
So g(s) = log p(0) / p(s) is what moving by s can cost at most, and g is concave: split over two
cells, s costs 2 g(s / 2) at most.
"""

from __future__ import annotations

import bisect
import math
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from protocol.privacy.randomness import Stream

ERROR = 2.0**-107
"""Total variation distance of a drawn negative binomial variable from the true one, at most."""
LONGEST = 10_000.0
"""scale / epsilon, at most: tables stay below 2^20 entries (89 scale / epsilon)."""
_DIGITS = 60
_WORD = 1 << 128


def share(
    epsilon: float, scale: float, honest: int, count: int, stream: Stream | None = None
) -> npt.NDArray[np.int64]:
    """(count,) integers: one site's share of noise for `scale` in L1, one of `honest` that do."""
    table = _table(epsilon, scale, honest)
    words = (stream or Stream()).words(4 * count)
    draws = [
        bisect.bisect_right(table, (int(high) << 64) | int(low))
        for high, low in zip(words[0::2], words[1::2], strict=True)
    ]
    pairs = np.array(draws, dtype=np.int64).reshape(count, 2)
    return np.asarray(pairs[:, 0] - pairs[:, 1], dtype=np.int64)


@lru_cache(maxsize=8)
def _table(epsilon: float, scale: float, honest: int) -> list[int]:
    """floor(2^128 F(k)) for k = 0, 1, ...: F of a negative binomial of shape 1 / honest."""
    with localcontext() as context:
        context.prec = _DIGITS
        ratio = (-Decimal(epsilon) / Decimal(scale)).exp()
        shape = 1 / Decimal(honest)
        word = Decimal(_WORD)
        probability = (1 - ratio) ** shape
        below, table, k = probability, [], 0
        while True:
            table.append(min(int(below * word), _WORD - 1))
            if table[-1] == _WORD - 1:
                return table
            probability *= ratio * (k + shape) / (k + 1)
            below += probability
            k += 1


def share_epsilon(epsilon: float, scale: float, honest: int) -> float:
    """What one share alone costs a patient, who moves one cell by `scale`, or, where that is more
    than 1, two cells by `scale` together. Rounded up."""
    if honest == 1:
        return epsilon
    parts = 1 if scale == 1 else 2
    step = math.ceil(scale / parts)
    single = _negative_binomial(math.exp(-epsilon / scale), 1 / honest, step)
    still = float(np.dot(single, single))
    moved = float(np.dot(single[:-step], single[step:]))
    return parts * math.log(still / moved) * (1 + 1e-9)


def distribution(
    epsilon: float, scale: float, shape: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Values and their probabilities, of the sum of shares whose shapes add up to `shape`; the
    tails left out hold less than 1e-12. For intervals and pictures, not for privacy."""
    reach = tail(epsilon, scale, shape, 1e-13)
    size = 2 * reach + 1
    angle = 2 * math.pi * np.arange(size) / size
    ratio = math.exp(-epsilon / scale)
    transform = ((1 - ratio) ** 2 / (1 - 2 * ratio * np.cos(angle) + ratio**2)) ** shape
    wrapped = np.clip(np.fft.ifft(transform).real, 0.0, None)
    return np.arange(-reach, reach + 1), np.roll(wrapped, reach)


def tail(epsilon: float, scale: float, shape: float, probability: float) -> int:
    """A t with P(|noise| >= t) <= probability, for shares of `shape` in all (Chernoff's bound at
    e^u = a^(-1/2): E e^(uN) = ((1 - a)^2 / ((1 - a e^u)(1 - a e^-u)))^shape)."""
    ratio = math.exp(-epsilon / scale)
    root = math.sqrt(ratio)
    moment = 2 * math.log1p(-ratio) - math.log1p(-root) - math.log1p(-(ratio * root))
    level = shape * moment + math.log(2 / probability)
    return math.ceil(level / (epsilon / (2 * scale)))


def _negative_binomial(ratio: float, shape: float, step: int) -> npt.NDArray[np.float64]:
    """(K,) probabilities from 0 on, to where they no longer count, and `step` more."""
    reach = step + math.ceil(45.0 / -math.log(ratio))
    k = np.arange(1, reach + 1, dtype=np.float64)
    factors = np.log(ratio * (k - 1 + shape) / k)
    logs = np.concatenate([[0.0], np.cumsum(factors)]) + shape * math.log1p(-ratio)
    return np.asarray(np.exp(logs), dtype=np.float64)
