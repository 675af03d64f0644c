"""The roster of one site, on disk: what its operator confirmed, and what the coordinator signed.

roster.yaml, beside site.yaml, holds the keys that were compared by telephone; `join` and `roster
confirm` write it. state/roster.json holds the coordinator's history, which the daemon extends while
it is connected. Both are read again when they change: a confirmation counts at once.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field, ValidationError

from client.config.known_roster import KnownRoster
from client.config.site_config import INIT, SiteConfig
from protocol import durable_files
from protocol.document import Document
from protocol.errors import Code, WardroundError
from protocol.wire.roster import EMPTY, RosterHistory, RosterNews, SignedChange
from protocol.yaml.documents import read_yaml

FILE = "roster.json"
_HEAD = "# Identity keys by site, as confirmed by telephone; `wardround-site` writes them.\n"


class _Stored(Document):
    """state/roster.json. `trouble`: why the coordinator's latest news were refused."""

    signed: tuple[SignedChange, ...] = Field(default=(), strict=False)
    trouble: str = ""


class SiteRoster:
    """The roster of a site.yaml as it is now. For any thread."""

    def __init__(self, config: SiteConfig) -> None:
        self._config, self._file = config, config.state / FILE
        self._at_load = _identity(config.roster_file)
        self._seen: tuple[object, ...] | None = None
        self._known = KnownRoster(config.roster)

    @property
    def signer(self) -> bytes | None:
        """The coordinator's public signing key; None where a bundle of 0.1.0 brought none."""
        try:
            return bytes.fromhex(signing_key_file(self._config).read_text().strip())
        except (OSError, ValueError):
            return None

    def now(self) -> KnownRoster:
        """Raises WardroundError: CONFIGURATION or STATE where a file is unreadable."""
        confirmed, stored = _identity(self._config.roster_file), _identity(self._file)
        if (confirmed, stored) != self._seen:
            record = self._stored()
            self._known = KnownRoster(
                self._config.roster if confirmed == self._at_load else self._confirmed(),
                EMPTY.extended(None, record.signed),
                record.trouble,
            )
            self._seen = (confirmed, stored)
        return self._known

    def receive(self, news: RosterNews) -> None:
        """Takes in what the coordinator says of its roster, durably, or notes why it is refused.

        Raises WardroundError: IDENTITY or MESSAGE for a roster that is refused, which then changes
        nothing; STATE where the file cannot be written.
        """
        known, signer = self.now(), self.signer
        if signer is None:
            return
        try:
            history = news.added_to(known.history, signer)
        except WardroundError as error:
            if error.message != known.trouble:
                self._store(known.history, error.message)
            raise
        if history is not known.history or known.trouble:
            self._store(history, "")

    def key_to_confirm(self, site: str) -> str:
        """A site's key as the coordinator signed it. Raises WardroundError(USAGE) where it has
        none."""
        known = self.now()
        if site not in known.history.keys or site == self._config.site:
            raise WardroundError(
                Code.USAGE,
                f"The coordinator's roster names no site {site}.",
                remedy=f"Waiting to be confirmed: {', '.join(known.to_confirm()) or 'none'}.",
            )
        return known.history.keys[site]

    def confirm(self, site: str, key: str) -> None:
        """Counts a site's key as compared by telephone, from now on.

        Raises WardroundError(CONFIGURATION) where roster.yaml cannot be written.
        """
        _write_confirmed(self._config, dict(self.now().confirmed) | {site: key})

    def _confirmed(self) -> dict[str, str]:
        """roster.yaml, which a command has replaced since site.yaml was loaded."""
        if self._config.roster_file is None:
            return self._config.roster
        confirmed = read_yaml(self._config.roster_file, INIT)
        return {str(site): str(key) for site, key in confirmed.items()}

    def _stored(self) -> _Stored:
        try:
            return _Stored.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return _Stored()
        except (OSError, ValidationError):
            raise WardroundError(
                Code.STATE,
                f"{self._file} cannot be read.",
                remedy="Restore it from a backup, or remove it: the coordinator sends it again.",
            ) from None

    def _store(self, history: RosterHistory, trouble: str) -> None:
        try:
            durable_files.write(self._file, text(history, trouble))
        except OSError as error:
            raise WardroundError(
                Code.STATE,
                f"{self._file} cannot be written: {error.strerror}.",
                remedy="Check free space and permissions; the coordinator sends it again.",
            ) from None


def signing_key_file(config: SiteConfig) -> Path:
    """Where the public half of the key that signs the coordinator's models and roster is kept."""
    return config.coordinator.root_certificate.with_name("coordinator-signing-key.pub")


def text(history: RosterHistory, trouble: str = "") -> bytes:
    """The text of state/roster.json."""
    return _Stored(signed=history.signed, trouble=trouble).model_dump_json().encode()


def roster_text(roster: dict[str, str]) -> bytes:
    """The text of roster.yaml for site -> public identity key in hex."""
    lines = [f'{json.dumps(site)}: "{key}"\n' for site, key in sorted(roster.items())]
    return (_HEAD + "".join(lines)).encode()


def _write_confirmed(config: SiteConfig, roster: dict[str, str]) -> None:
    """Replaces roster.yaml. Raises WardroundError(CONFIGURATION) where site.yaml holds the roster
    itself, or the file cannot be written."""
    if config.roster_file is None:
        raise WardroundError(
            Code.CONFIGURATION,
            "site.yaml holds the roster itself, among a person's own lines.",
            remedy="Write `roster: roster.yaml` there, move the lines to that file, and try again.",
        )
    try:
        durable_files.write(config.roster_file, roster_text(roster))
    except OSError as error:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{config.roster_file} cannot be written: {error.strerror}.",
            remedy="Check free space and the permissions, and try again.",
        ) from None


def _identity(file: Path | None) -> tuple[int, int, int] | None:
    try:
        status = file.stat() if file is not None else None
    except OSError:
        return None
    return status and (status.st_ino, status.st_mtime_ns, status.st_size)
