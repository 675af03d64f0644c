"""Pseudonyms: what identifies a patient, study or image becomes a keyed hash before it is stored.

    pseudonym(text) = HMAC-SHA256(secret, text)     (RFC 2104), 64 hex digits

The secret is made at the site, stays in its state folder, and is the only way from a pseudonym to
what it stands for. One function serves every kind of identifier, so that a table of labels joins
to the images by `images.accession = pseudonym(labels.accession_number)`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from contextlib import suppress
from pathlib import Path

from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.secret_files import refuse_shared

FILE = "pseudonym.key"


class Pseudonyms:
    """The site's secret, and the names that it gives."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    @property
    def check(self) -> str:
        """Names the secret without telling it: kept in the index to notice another one."""
        return hmac.digest(self.secret, b"wardround pseudonym check", hashlib.sha256).hex()

    def of(self, text: str) -> str:
        """64 hex digits. Padding around `text` is no part of it, and neither is the way in which
        accents are composed (PS3.5, section 6.2 pads values; Unicode NFC)."""
        plain = unicodedata.normalize("NFC", text).strip(" \0\t\r\n")
        message = b"id:" + plain.encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, message, hashlib.sha256).hex()

    @staticmethod
    def create(state: Path) -> Pseudonyms:
        """Makes a secret, durably and for the owner only, or keeps the one that is there."""
        if not (state / FILE).exists():
            with suppress(FileExistsError):  # another process was quicker
                durable_files.write(state / FILE, os.urandom(32), replace=False)
        return Pseudonyms.load(state)

    @staticmethod
    def load(state: Path) -> Pseudonyms:
        """Raises WardroundError(STATE) where it is missing, damaged, or open to other users."""
        path = state / FILE
        refuse_shared(path, "secret of pseudonyms")
        secret = path.read_bytes()
        if len(secret) != 32:
            raise WardroundError(
                Code.STATE,
                f"The secret of pseudonyms {path} is damaged.",
                remedy="Put it back from a backup: a new one would give every patient a new name.",
            )
        return Pseudonyms(secret)
