"""Numbers of few bits for a sum: rotated, so that all are of one size, and rounded at random.

Stochastic rounding keeps the mean: a value between two integers becomes the upper one with a
probability of its distance from the lower. A rotation makes every coordinate of a vector v about
|v| / sqrt(W) large, whatever v: each is sub-Gaussian with variance |v|^2 / W at most over the
random signs (Suresh et al. 2017, section 3; Hoeffding), so that one public range suits all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from protocol.errors import Code, WardroundError

F = TypeVar("F", np.float32, np.float64)
Draw = Callable[[int], npt.NDArray[np.uint64]]
"""A number n -> (n,) uniform words of 64 bits."""
GRID_BITS = 24
"""Of the fraction that stochastic rounding sees: a mean is off by 2^-25 at most."""
LARGEST = 2.0**38
_BLOCK = 1 << 16


def round_randomly(values: npt.NDArray[np.float64], draw: Draw) -> npt.NDArray[np.int64]:
    """(n,) float64 -> (n,) integers below or above them, of the same mean.

    Values are first put on the grid of 2^-24, and all else is exact: (x + u) >> 24 with u uniform
    on 0 .. 2^24 - 1. Raises WardroundError(INTERNAL) for NaN, an infinity or more than 2^38.
    """
    if not bool(np.all(np.abs(values) <= LARGEST)):  # False for a NaN
        raise WardroundError(Code.INTERNAL, "A value to be rounded is not finite, or too large.")
    rounded = np.empty(len(values), dtype=np.int64)
    for start in range(0, len(values), _BLOCK):
        part = rounded[start : start + _BLOCK]
        part[:] = np.rint(values[start : start + _BLOCK] * 2.0**GRID_BITS)
        part += draw((len(part) + 1) // 2).view(np.uint32)[: len(part)] >> (32 - GRID_BITS)
        part >>= GRID_BITS
    return rounded


def window(size: int) -> int:
    """W, the largest power of two that is not above `size` (1 or more)."""
    return 1 << (size.bit_length() - 1)


def rotated(values: npt.NDArray[F], key: bytes) -> npt.NDArray[F]:
    """(n,) -> (n,), turned by an orthogonal matrix that the public 32-byte key chooses.

    Random signs and a Walsh-Hadamard transform of the first W coordinates, then of the last W:
    no padding, and every coordinate is in one of the two. Not finite values stay so.
    """
    turned = values.copy()
    for part, signs in _halves(turned, key):
        part *= signs
        _transform(part)
    return turned


def rotated_back(values: npt.NDArray[F], key: bytes) -> npt.NDArray[F]:
    """The inverse of `rotated`, but for rounding in floating point."""
    turned = values.copy()
    for part, signs in reversed(_halves(turned, key)):
        _transform(part)
        part *= signs
    return turned


def _halves(values: npt.NDArray[Any], key: bytes) -> list[tuple[Any, npt.NDArray[np.int8]]]:
    """The first and the last W coordinates, as views, each with its (W,) signs."""
    size = window(len(values)) if len(values) else 0
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    found = []
    for part in (values[:size], values[len(values) - size :]):
        bits = np.frombuffer(stream.update(bytes((size + 7) // 8)), dtype=np.uint8)
        signs = np.unpackbits(bits, count=size).view(np.int8)
        signs *= -2
        signs += 1
        found.append((part, signs))
    return found


def _transform(values: npt.NDArray[Any]) -> None:
    """The orthonormal Walsh-Hadamard transform in place, its own inverse. Additions in a fixed
    order: the same bits on every machine."""
    half = len(values) // 2
    with np.errstate(over="ignore", invalid="ignore"):
        while half:
            pairs = values.reshape(-1, 2, half)
            low, high = pairs[:, 0], pairs[:, 1]
            difference = low - high
            low += high
            high[...] = difference
            half //= 2
        values *= values.dtype.type(1 / math.sqrt(max(1, len(values))))
