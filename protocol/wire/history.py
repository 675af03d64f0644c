"""The coordinator's signed history: which studies named a hospital, and when each ended.

A site whose ledger was put back from a backup learns from it what it may have accepted since. It
may add studies to what the ledger charges, and never removes one: a coordinator that leaves a study
out is found where the operator knows of it, one that adds a study makes the site spend more.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import ValidationError, field_validator

from protocol.document import Document, canonical
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify
from protocol.study.study import Name, Study

PURPOSE = "wardround history"
_LIMIT = 256 << 20


class PastStudy(Document):
    """`document`: canonical JSON of a study. `ended`: when, in ISO 8601 with its zone; None while
    it may go on."""

    document: str
    ended: str | None

    @field_validator("ended")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is not None and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("a time needs its zone")
        return value


class History(Document):
    """All studies that named `site`, as of `made`."""

    site: Name
    made: str
    studies: tuple[PastStudy, ...]

    def signed(self, key: Identity) -> bytes:
        """The file."""
        text = canonical(self.model_dump()).decode()
        signature = key.sign(PURPOSE, text.encode()).hex()
        return canonical({"text": text, "signature": signature})

    @staticmethod
    def load(path: Path, site: str, public_key: bytes) -> History:
        """Raises WardroundError: USAGE for a file that is no history of this site, IDENTITY where
        the coordinator of this site did not sign it."""
        again = "Ask the coordinator's operator for `wardround coordinator history`."
        try:
            with path.open("rb") as file:
                signed = _Signed.model_validate_json(file.read(_LIMIT))
            history = History.model_validate_json(signed.text)
            signature = bytes.fromhex(signed.signature)
        except OSError as error:
            raise WardroundError(
                Code.USAGE, f"{path} cannot be read: {error.strerror}.", remedy=again
            ) from None
        except (ValidationError, ValueError):
            raise WardroundError(Code.USAGE, f"{path} is no history.", remedy=again) from None
        if not verify(public_key, PURPOSE, signed.text.encode(), signature):
            raise WardroundError(
                Code.IDENTITY,
                f"{path} is not signed by this site's coordinator.",
                remedy="Call its operator; where its key is new, join with a new bundle first.",
            )
        if history.site != site:
            raise WardroundError(
                Code.USAGE, f"{path} is the history of {history.site}, not of {site}.", remedy=again
            )
        return history

    def since(self, time: datetime) -> list[Study]:
        """Studies that may have gone on after `time`. Raises WardroundError as `Study.parse`."""
        return [
            Study.parse(past.document.encode())
            for past in self.studies
            if past.ended is None or datetime.fromisoformat(past.ended) >= time
        ]


class _Signed(Document):
    text: str
    signature: str
