"""What a coordinator tells a site whose ledger was lost: the studies that named it, signed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.wire.history import History, PastStudy
from server.coordinator.config import CoordinatorConfig
from server.enrolment.signing_key import signing_key

FOR_GOOD = frozenset({"finished", "cancelled"})
"""Events after which a study never goes on."""


def history(config: CoordinatorConfig, site: str) -> bytes:
    """The signed history of a site, as a file.

    Raises WardroundError(STATE) where a study's folder cannot be read: a history that leaves a
    study out would let the site spend more than it knows of.
    """
    studies = []
    for folder in sorted((config.state / "studies").glob("*")):
        if folder.name.startswith("."):
            continue
        try:
            document = (folder / "study.json").read_bytes()
            named = site in Study.parse(document).sites
            ended = _ended(folder / "events.jsonl") if named else None
        except (OSError, ValueError, KeyError, IndexError, WardroundError) as error:
            raise WardroundError(
                Code.STATE,
                f"The study in {folder} cannot be read ({type(error).__name__}).",
                remedy="Restore it from a backup.",
            ) from None
        if named:
            studies.append(PastStudy(document=document.decode(), ended=ended))
    made = datetime.now(UTC).isoformat(timespec="seconds")
    whole = History(site=site, made=made, studies=tuple(studies))
    return whole.signed(signing_key(config.folder))


def _ended(events: Path) -> str | None:
    """When the study ended for good, if it has."""
    lines = events.read_bytes().splitlines() if events.exists() else []
    last = json.loads(lines[-1]) if lines else {"type": ""}
    return str(last["time"]) if last["type"] in FOR_GOOD else None
