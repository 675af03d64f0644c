"""The last word to a study's sites: that it has ended, or rests. Each is told once it is there.

A site that misses it would keep the study's plan reserved. So whom it has yet to reach is in a
file, written before the study's end is: whoever starts again goes on telling.
"""

from __future__ import annotations

import json
from pathlib import Path

from protocol import durable_files
from protocol.document import canonical
from protocol.errors import WardroundError
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.messages import Ending
from server.rounds.transport import Fleet

_SECONDS = 10.0
"""For which a site's answer is waited for."""


def send(study: Study, fleet: Fleet, sites: frozenset[str], ending: Ending) -> frozenset[str]:
    """Tells those of `sites` that are there; the ones that have noted it."""
    close = messages.frame(messages.Close(study=study.digest, outcome=ending))
    here = sorted(fleet.online() & sites)
    noted = set[str]()
    for site, received in fleet.ask(dict.fromkeys(here, close), _SECONDS):
        try:
            answer = None if received is None else messages.parse(received)
        except WardroundError:
            continue
        if isinstance(answer, messages.Standing) and answer.state == "closed":
            noted.add(site)
    return frozenset(noted)


class Farewell:
    """Whom of a study's sites the last word has yet to reach."""

    def __init__(self, path: Path, study: Study) -> None:
        """Raises OSError, and ValueError where the file is damaged."""
        self._path, self._study = path, study
        found = json.loads(path.read_bytes()) if path.exists() else []
        self.untold = frozenset(found) & set(study.sites)

    def prepare(self) -> None:
        """All sites are to be told; durable on return. Raises OSError."""
        self._write(frozenset(self._study.sites))

    def withdraw(self) -> None:
        """The study goes on: nobody is to be told any longer. Raises OSError."""
        self._write(frozenset())

    def send(self, fleet: Fleet, ending: Ending) -> None:
        """Tells those that are there. Raises OSError."""
        if told := send(self._study, fleet, self.untold, ending):
            self._write(self.untold - told)

    def _write(self, untold: frozenset[str]) -> None:
        if untold:
            durable_files.write(self._path, canonical(sorted(untold)) + b"\n")
        else:
            self._path.unlink(missing_ok=True)
        self.untold = untold
