"""The split of patients into training and evaluation: a number in [0, 1) each, fixed for life.

    u(patient) = first 53 bits of HMAC-SHA256(site secret, patient) / 2^53     (RFC 2104)

Training takes u < 1 - fraction, evaluation the rest. Ledger events carry the band of u that they
touched, so that epsilon composes in parallel over disjoint bands (McSherry 2009, Theorem 4); that
holds only as long as the secret stays the same, so losing it is an error, never a new secret.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocol.errors import Code
from protocol.secret_files import SECRET_BYTES, create_secret, read_secret

FILE = "split.key"


class PatientSplit:
    """The site's split secret, and the number u that it gives to each patient."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @property
    def check(self) -> str:
        """Identifies the secret without revealing it; stored in the database to notice another."""
        return self._hash(b"wardround split check").hex()

    def place(self, patient: str) -> float:
        """Returns u in [0, 1)."""
        word = int.from_bytes(self._hash(b"patient:" + patient.encode())[:8]) >> 11
        return word / 2.0**53

    def name(self, task: str, name: str) -> bytes:
        """Returns a keyed hash (16 bytes) by which a task's view names a patient."""
        return self._hash(f"name:{task}:{name}".encode())[:16]

    def places(self, patients: Sequence[str]) -> npt.NDArray[np.float64]:
        """(N,) names -> (N,) float64 in [0, 1)."""
        return np.fromiter((self.place(p) for p in patients), np.float64, len(patients))

    def seal(self, value: bytes) -> bytes:
        """(32 bytes) by which a value that this site kept outside its ledger is recognised."""
        return self._hash(b"wardround kept value:" + value)

    def _hash(self, message: bytes) -> bytes:
        return hmac.digest(self._secret, message, hashlib.sha256)

    @staticmethod
    def create(folder: Path) -> PatientSplit:
        """Makes a secret, durable and for its owner only, unless there is one."""
        create_secret(folder / FILE)
        return PatientSplit.load(folder)

    @staticmethod
    def load(folder: Path) -> PatientSplit:
        """Raises WardroundError(STATE) where it is missing, damaged, or open to other users."""
        secret = read_secret(
            folder / FILE,
            "split secret",
            Code.STATE,
            remedy="Put it back from a backup: a new one would move patients between bands.",
            size=SECRET_BYTES,
        )
        return PatientSplit(secret)
