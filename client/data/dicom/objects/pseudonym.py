"""Pseudonyms: identifiers of patients, studies and images are stored as keyed hashes.

    pseudonym(text) = HMAC-SHA256(secret, text)     (RFC 2104), 64 hex digits

The secret is made at the site, stays in its state folder, and is the only way from a pseudonym to
what it stands for. One function serves every kind of identifier, so that a table of labels joins
to the images by `images.accession = pseudonym(labels.accession_number)`. A patient's is of the
Patient ID and, where an object states it, its issuer: `pseudonym(id, issuer := 'HOSPITAL')`.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from pathlib import Path

from protocol.errors import Code
from protocol.secret_files import SECRET_BYTES, create_secret, read_secret

FILE = "pseudonym.key"
_PADDING = " \0\t\r\n"


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
        plain = unicodedata.normalize("NFC", text).strip(_PADDING)
        message = b"id:" + plain.encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, message, hashlib.sha256).hex()

    def of_patient(self, patient: str, issuer: str) -> str:
        """64 hex digits of a Patient ID and its issuer, "" for none, as HL7 writes the two: a
        Patient ID is unique within its issuer only (PS3.3, C.7.1.1)."""
        if not (issuer := issuer.strip(_PADDING)):
            return self.of(patient)
        return self.of(f"{patient.strip(_PADDING)}^^^{issuer}")

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
