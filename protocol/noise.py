"""Randomness for privacy: from the operating system, never from a seed that anyone could know.

Each call keys ChaCha20 with 256 bits of os.urandom and reads its keystream (5 GB/s on one core).
No global seed reaches this file: with one seed over two rounds the noise would cancel exactly.
"""

from __future__ import annotations

import math
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from protocol.errors import Code, WardroundError

_BLOCK = 1 << 14
"""Gaussian values made at a time, an even number: scratch memory stays in the cache."""


class Stream:
    """A stream of independent uniform bits. `key`: 32 bytes, given by tests only."""

    def __init__(self, key: bytes | None = None) -> None:
        cipher = Cipher(algorithms.ChaCha20(key or os.urandom(32), bytes(16)), mode=None)
        self._cipher = cipher.encryptor()

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """(count,) uniform on 0 .. 2^64 - 1."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), dtype=np.uint64)

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """(count,) uniform in (0, 1], to a relative precision of 2^-52 down to 2^-64.

        The plain 53-bit uniform is a multiple of 2^-53, which would cut Gaussian tails at 8.6.
        """
        values = self.words(count).astype(np.float64)
        values += 0.5
        values *= 2.0**-64
        return values


def gaussian(count: int, stream: Stream | None = None) -> npt.NDArray[np.float64]:
    """(count,) independent standard normal values.

    Each is the sum of two by Box and Muller (1958) over the root of 2, so that its float pattern
    cannot be traced back to its four uniforms (Holohan and Braghin 2021, section 4.2; Mironov 2012
    shows the attack on plain float noise). A cosine's value has the sine's for a partner, which is
    independent of it: whoever knew both would have two of four uniforms, 2^128 pairs, to try.
    """
    import torch  # whose cosine is twice as fast; not for those who only want a sample

    source = stream or Stream()
    values = np.empty(count + count % 2)
    for start in range(0, count, _BLOCK):
        part = values[start : start + _BLOCK]
        half = len(part) // 2
        radius, angle = source.uniform(2 * len(part)).reshape(2, len(part))
        np.log(radius, out=radius)
        radius *= -1.0
        np.sqrt(radius, out=radius)
        side = angle - 0.5
        angle *= 2.0 * math.pi
        cosine = torch.from_numpy(angle).cos_().numpy()
        sine = np.copysign(np.sqrt(1.0 - cosine * cosine), side, out=side)
        for found, into in ((cosine, part[:half]), (sine, part[half:])):
            found *= radius
            np.add(found[:half], found[half:], out=into)
    return values[:count]


def poisson_sample(
    patients: int, sampling_rate: float, stream: Stream | None = None
) -> npt.NDArray[np.bool_]:
    """(patients,) bool: each drawn by itself, with probability floor(q 2^64) / 2^64 <= q."""
    if not 0 < sampling_rate <= 1:
        raise WardroundError(Code.CONFIGURATION, "The sampling rate must be above 0, at most 1.")
    if sampling_rate == 1:
        return np.ones(patients, dtype=np.bool_)
    threshold = np.uint64(math.floor(math.ldexp(sampling_rate, 64)))
    drawn: npt.NDArray[np.bool_] = (stream or Stream()).words(patients) < threshold
    return drawn
