"""Randomness for privacy: from the operating system, never from a seed that anyone could know.

Each object keys AES-256 with 256 bits of os.urandom: `Stream` reads the keystream of its counter
mode (NIST SP 800-38A, section 6.5), `PatientDraws` encrypts a block for each patient (section 6.1).
No global seed reaches this file: with one seed over two rounds the noise would cancel exactly.
"""

from __future__ import annotations

import math
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from protocol.errors import Code, WardroundError

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]


class Stream:
    """A stream of independent uniform bits. `key`: 32 bytes, given by tests and where nothing is
    private, so that a run can be repeated.

    A process that is forked from this one goes on with a key of its own: the same bits would make
    the same noise twice, and it would cancel.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._process = os.getpid()
        self._cipher = _keystream(key or os.urandom(32))

    def forked(self) -> bool:
        """Whether the process was forked since the last call: then there is a new key now, and
        whoever keeps numbers made before must not use them."""
        if self._process == os.getpid():
            return False
        self._process, self._cipher = os.getpid(), _keystream(os.urandom(32))
        return True

    def words(self, count: int) -> Words:
        """(count,) uniform on 0 .. 2^64 - 1."""
        words = np.empty(count, dtype=np.uint64)
        self.fill(words)
        return words

    def fill(self, words: Words) -> None:
        """The same, into memory that is there."""
        self.forked()
        self._cipher.update_into(bytes(words.nbytes), words.view(np.uint8).data)

    def uniform(self, count: int) -> Floats:
        """(count,) uniform in (0, 1], to a relative precision of 2^-52 down to 2^-64.

        The plain 53-bit uniform is a multiple of 2^-53, which would cut Gaussian tails at 8.6.
        """
        return _uniform(self.words(count))


def _keystream(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()


class PatientDraws:
    """Random bits of each patient's own: whoever else is there, and in whatever order, a patient's
    are the same under one key. For one use: a second one takes a key of its own."""

    def __init__(self, key: bytes | None = None) -> None:
        """`key`: 32 bytes, given by tests only."""
        self._cipher = Cipher(algorithms.AES(key or os.urandom(32)), modes.ECB())  # noqa: S305 (each block is another patient)

    def words(self, identities: Words) -> Words:
        """(n, 2) identities, no two the same -> (n, 2), uniform on 0 .. 2^64 - 1, independent (but
        for the switch from function to permutation, n^2 / 2^129)."""
        blocks = self._cipher.encryptor().update(identities.tobytes())
        return np.frombuffer(blocks, dtype=np.uint64).reshape(-1, 2)

    def uniform(self, identities: Words) -> Floats:
        """(n, 2) identities -> (n,) uniform in (0, 1], as `Stream.uniform`."""
        return _uniform(self.words(identities)[:, 0])


def _uniform(words: Words) -> Floats:
    values = words.astype(np.float64)
    values += 0.5
    values *= 2.0**-64
    return values


def poisson_sample(words: Words, sampling_rate: float) -> npt.NDArray[np.bool_]:
    """(n,) uniform words, one a patient -> (n,) bool: each patient drawn by its own, with
    probability floor(q 2^64) / 2^64 <= q."""
    if not 0 < sampling_rate <= 1:
        raise WardroundError(Code.CONFIGURATION, "The sampling rate must be above 0, at most 1.")
    if sampling_rate == 1:
        return np.ones(len(words), dtype=np.bool_)
    threshold = np.uint64(math.floor(math.ldexp(sampling_rate, 64)))
    drawn: npt.NDArray[np.bool_] = words < threshold
    return drawn
