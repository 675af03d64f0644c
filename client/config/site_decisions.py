"""What a site knows of the coordinator's decisions about models: state/decisions.json.

The daemon extends it while it is connected; every entry is signed by the coordinator, names the one
before it, and is never forgotten: a model that was withdrawn stays withdrawn here, whatever a
coordinator says later or leaves out.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from client.config.site_config import SiteConfig
from client.config.site_roster import SiteRoster
from protocol import durable_files
from protocol.document import Document
from protocol.errors import Code, WardroundError
from protocol.models.decision import DecisionHistory, DecisionNews, SignedEntry

FILE = "decisions.json"


class _Stored(Document):
    signed: tuple[SignedEntry, ...] = Field(default=(), strict=False)


class SiteDecisions:
    """The record of a site.yaml as it is now. One thread extends it; any process may read it."""

    def __init__(self, config: SiteConfig) -> None:
        self._file, self._roster = decisions_file(config), SiteRoster(config)
        self._read: tuple[tuple[int, int, int], bytes | None, DecisionHistory] | None = None

    @property
    def hears(self) -> bool:
        """Whether there is a key of the coordinator here to check its entries with."""
        return self._roster.signer is not None

    def now(self) -> DecisionHistory:
        """Raises WardroundError(STATE) where the file is damaged, or of another coordinator."""
        signer = self._roster.signer
        try:
            status = self._file.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._read is None or self._read[:2] != (seen, signer):
                stored = _Stored.model_validate_json(self._file.read_bytes())
                history = DecisionHistory().extended(signer or b"", stored.signed)
                self._read = (seen, signer, history)
            return self._read[2]
        except FileNotFoundError:
            return DecisionHistory()
        except (OSError, ValidationError, WardroundError):
            raise WardroundError(
                Code.STATE,
                f"{self._file} is damaged, or another coordinator's.",
                remedy="Restore it from a backup, or remove it: the coordinator sends it again "
                "while the daemon runs.",
            ) from None

    def receive(self, news: DecisionNews) -> None:
        """Takes in what the coordinator says, durably.

        Raises WardroundError: IDENTITY or MESSAGE for what is refused, which then changes nothing;
        STATE where the file cannot be read or written.
        """
        signer = self._roster.signer
        if signer is None:
            return
        known = self.now()
        history = news.added_to(known, signer)
        if history.number == known.number:
            return
        stored = _Stored(signed=history.signed)
        try:
            durable_files.write(self._file, stored.model_dump_json().encode())
        except OSError as error:
            raise WardroundError(
                Code.STATE,
                f"{self._file} cannot be written: {error.strerror}.",
                remedy="Check free space and permissions; the coordinator sends it again.",
            ) from None

    def turned_down(self, model: str) -> str:
        """Who has rejected or withdrawn a model, in words; "" where nobody has. model: the digest
        of its bundle. Raises as `now`."""
        last = self.now().last(model)
        if last is None or last.decision.verdict == "approved":
            return ""
        return f"{last.decision.reviewer} has {last.decision.verdict} it"


def decisions_file(config: SiteConfig) -> Path:
    """Where it is kept."""
    return config.state / FILE
