"""Pseudonyms: identifiers of patients, studies and images are stored as keyed hashes.

    pseudonym(text) = HMAC-SHA256(secret, text)     (RFC 2104), 64 hex digits

The secret is made at the site, stays in its state folder, and is the only way from a pseudonym to
what it stands for. One function serves every kind of identifier, so that a table of labels joins
to the images by `images.accession = pseudonym(labels.accession_number)`.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from pathlib import Path

from protocol.errors import Code
from protocol.secret_files import SECRET_BYTES, create_secret, read_secret

FILE = "pseudonym.key"


class Pseudonyms:
    """The site's secret, and the pseudonyms made with it."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    @property
    def check(self) -> str:
        """A fingerprint of the secret, stored in the index to notice another secret."""
        return hmac.digest(self.secret, b"wardround pseudonym check", hashlib.sha256).hex()

    def of(self, text: str) -> str:
        """64 hex digits. Padding around `text` is no part of it, and neither is the way in which
        accents are composed (PS3.5, section 6.2 pads values; Unicode NFC)."""
        plain = unicodedata.normalize("NFC", text).strip(" \0\t\r\n")
        message = b"id:" + plain.encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, message, hashlib.sha256).hex()

    @staticmethod
    def create(state: Path) -> Pseudonyms:
        """Makes a secret, durably and for the owner only, unless there is one; and loads it."""
        create_secret(state / FILE)
        return Pseudonyms.load(state)

    @staticmethod
    def load(state: Path) -> Pseudonyms:
        """Raises WardroundError(STATE) where it is missing, damaged, or open to other users."""
        secret = read_secret(
            state / FILE,
            "secret of pseudonyms",
            Code.STATE,
            remedy="Put it back from a backup: a new one would give every patient a new name.",
            size=SECRET_BYTES,
        )
        return Pseudonyms(secret)
