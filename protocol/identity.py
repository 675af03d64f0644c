"""An identity: one Ed25519 key pair (RFC 8032), made where it is used, never leaving it. A site
has one, and a coordinator signs its models' records with another.

Every signature names its purpose, so that a signature for one purpose (a one-time key of secure
aggregation) is not valid for another (an entry of the audit log): it signs
`len(purpose) | purpose | message`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.secret_files import read_secret

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U to be misheard or misread."""
_NEW = "`wardround-site init` makes one with the site."


@dataclass(frozen=True)
class Identity:
    """The private half. `public_key` is 32 raw bytes; `.hex()` of it stands in rosters."""

    _key: Ed25519PrivateKey = field(repr=False)

    @staticmethod
    def generate() -> Identity:
        return Identity(Ed25519PrivateKey.generate())

    @cached_property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def sign(self, purpose: str, message: bytes) -> bytes:
        """64 bytes of signature over purpose and message."""
        return self._key.sign(_signed(purpose, message))

    def save(self, path: Path) -> None:
        """Writes PKCS #8 PEM, readable by the owner only, durably; never over an existing file.

        Raises WardroundError(IDENTITY) where the file exists or cannot be written.
        """
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            durable_files.write(path, pem, replace=False)
        except FileExistsError:
            raise WardroundError(
                Code.IDENTITY,
                f"{path} exists already; an identity is never overwritten.",
                remedy="Move the old key away first if the site is to have a new identity.",
            ) from None
        except OSError as error:
            raise WardroundError(
                Code.IDENTITY, f"{path} cannot be written: {error.strerror}."
            ) from None

    @staticmethod
    def load(path: Path, *, what: str = "identity key", remedy: str = _NEW) -> Identity:
        """Reads what `save` wrote. what: its name in errors. remedy: how to obtain a new one.

        Raises WardroundError(IDENTITY) where `read_secret` does, and where it is no Ed25519 key.
        """
        pem = read_secret(
            path,
            what,
            Code.IDENTITY,
            remedy=remedy,
            exposed="make a new one if others had access",
        )
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise WardroundError(
                Code.IDENTITY, f"{path} is not an unencrypted Ed25519 key in PEM.", remedy=remedy
            )
        return Identity(key)


def verify(public_key: bytes, purpose: str, message: bytes, signature: bytes) -> bool:
    """Whether the holder of `public_key` (32 bytes) signed this message for this purpose."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _signed(purpose, message))
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public_key: bytes) -> str:
    """100 bits of SHA-256 in five groups of four, to be read over the telephone."""
    bits = int.from_bytes(hashlib.sha256(b"wardround fingerprint" + public_key).digest()) >> 156
    letters = "".join(_ALPHABET[(bits >> (5 * place)) & 31] for place in reversed(range(20)))
    return " ".join(letters[start : start + 4] for start in range(0, 20, 4))


def _signed(purpose: str, message: bytes) -> bytes:
    name = purpose.encode()
    return len(name).to_bytes(8) + name + message
