"""Gaussian noise: standard normal values, and sums released with them on a grid.

Values come from a ziggurat (Marsaglia and Tsang 2000): the area under f(x) = exp(-x^2 / 2) is cut
into LAYERS of one size, a layer is drawn, and a point of it; nearly every point lies where the
whole layer does, which one comparison tells. A layer takes 10 bits of a word, the point 54 others.

A float sampler knows only some floats, and which sums it reaches from a float tells that float's
low bits (Mironov 2012). So nothing is released as it falls: `noised` rounds the sum and the noise
to one grid before they meet. The sum lying on the grid, that is the same as rounding their total,
which is the Gaussian mechanism and a function of its output alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.privacy.randomness import Floats, Stream

Integers = npt.NDArray[np.int64]

LAYERS = 1 << 10
EDGE = 4.038849846109505
"""Where the tail begins: with it, the highest layer ends at f(0), to 1e-13."""
SLACK = 2.0**-12
"""How much further two neighbouring sums may lie apart, for being rounded to the grid."""
_LAYER_BITS = 10
_POINT = 2.0**53
_BLOCK = 1 << 14
"""Values made at a time: scratch memory stays in the cache."""


def gaussian(count: int, stream: Stream | None = None) -> Floats:
    """(count,) independent standard normal values."""
    source = stream or Stream()
    table = _ziggurat()
    values = np.empty(count)
    scratch = np.empty((4, min(count, _BLOCK)))
    where: list[Integers] = []
    layers: list[Integers] = []
    for start in range(0, count, _BLOCK):
        part = values[start : start + _BLOCK]
        words, layer, point, of_layer = scratch[:, : len(part)]
        words, layer = words.view(np.int64), layer.view(np.int64)
        source.fill(words.view(np.uint64))
        np.bitwise_and(words, LAYERS - 1, out=layer)
        np.right_shift(words, _LAYER_BITS, out=words)
        np.copyto(point, words)
        np.take(table.unit, layer, out=of_layer, mode="wrap")
        np.multiply(point, of_layer, out=part)
        np.abs(point, out=point)
        np.take(table.sure, layer, out=of_layer, mode="wrap")
        doubtful = np.flatnonzero(point >= of_layer)
        where.append(doubtful + start)
        layers.append(layer[doubtful])
    if where:
        doubtful = np.concatenate(where)
        values[doubtful] = _settled(values[doubtful], np.concatenate(layers), source)
    return values


def noised(sums: Floats, noise: Floats, deviation: float, step: float) -> Floats:
    """(n,) sums -> multiples of `step`, with `noise` of this standard deviation.

    sums: below 2^51 steps with their noise. step: a power of two, as `grid` gives it.
    """
    # Numbers from 2^52 to 2^53 are whole, so that adding this and taking it off rounds to steps.
    whole = 1.5 * 2.0**52 * step
    found = np.add(sums, whole, dtype=np.float64)
    noise = noise * deviation
    noise += whole
    noise -= whole
    found += noise
    found -= whole
    return found


def grid(clip_norm: float, dimensions: int) -> float:
    """The step to which sums of vectors of this norm may be rounded.

    Rounding moves each of two neighbouring sums by sqrt(d) / 2 steps at most, so that they lie
    within clip_norm (1 + SLACK): noise for that norm is noise for them.
    """
    return 2.0 ** math.floor(math.log2(clip_norm * SLACK / math.sqrt(dimensions)))


class _Ziggurat(NamedTuple):
    """edge: (LAYERS + 1,) where each layer ends, the first being as wide as its tail makes it.
    height: (LAYERS + 1,) f there. unit: (LAYERS,) what one of the 2^53 points of a layer's half is
    wide. sure: (LAYERS,) the points that lie under f whatever their height."""

    edge: Floats
    height: Floats
    unit: Floats
    sure: Floats


@lru_cache(maxsize=1)
def _ziggurat() -> _Ziggurat:
    area = EDGE * math.exp(-0.5 * EDGE**2) + math.sqrt(math.pi / 2) * math.erfc(EDGE / math.sqrt(2))
    edges = [area / math.exp(-0.5 * EDGE**2), EDGE]
    while len(edges) < LAYERS:
        above = math.exp(-0.5 * edges[-1] ** 2) + area / edges[-1]
        edges.append(math.sqrt(-2.0 * math.log(above)))
    edge = np.array([*edges, 0.0])
    height = np.exp(-0.5 * edge**2)
    return _Ziggurat(edge, height, edge[:-1] / _POINT, edge[1:] / edge[:-1] * _POINT)


def _settled(values: Floats, layers: Integers, source: Stream) -> Floats:
    """(n,) values that may lie outside f: as they are, of the tail, or drawn again."""
    table = _ziggurat()
    low, high = table.height[layers], table.height[layers + 1]
    under = low + (high - low) * source.uniform(len(values)) < np.exp(-0.5 * values**2)
    tail = layers == 0
    values[tail] = np.copysign(_tail(int(tail.sum()), source), values[tail])
    again = ~(under | tail)
    values[again] = gaussian(int(again.sum()), source)
    return values


def _tail(count: int, source: Stream) -> Floats:
    """(count,) values of a normal distribution beyond EDGE (Marsaglia 1964)."""
    values = np.empty(0)
    while len(values) < count:
        beyond, height = -np.log(source.uniform(2 * count)).reshape(2, count)
        beyond /= EDGE
        values = np.append(values, EDGE + beyond[2.0 * height > beyond * beyond])
    return values[:count]
