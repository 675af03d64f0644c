"""Bundles that the daemon fetches from the coordinator: state/models/DIGEST.safetensors, 0600.

Only of models that site.yaml allows and that a reviewer approved whose key is pinned here. A bundle
is verified once it is whole, and again whenever it is used; one of a model that was withdrawn, or
is not allowed any more, is removed.
"""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path
from typing import Self

from client.config.known_reviewers import counting
from client.config.site_config import SiteConfig
from client.config.site_decisions import SiteDecisions
from client.config.site_roster import SiteRoster
from client.log_events import event
from client.transport.fleet_config import FleetConfig
from client.transport.http_connection import CallInterrupted
from client.transport.model_download import ModelDownload
from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.models.bundle import Bundle
from protocol.models.decision import OpenedEntry
from protocol.wire.offered_models import file_of

FOLDER = "models"
EVERY = 15.0
"""Seconds between two looks for what is missing."""
_PART = ".part"
_BY_NAME = re.compile(r"(.+)@approved")


def approved(config: SiteConfig) -> dict[str, OpenedEntry]:
    """Of the models that the policy allows those that were approved last, by a reviewer whose key
    is pinned here. Raises WardroundError: STATE, CONFIGURATION."""
    known, decisions = counting(config), SiteDecisions(config).now()
    found = {digest: decisions.last(digest) for digest in config.policy.predict.models}
    return {
        digest: one
        for digest, one in found.items()
        if one is not None and not one.objection(digest, known)
    }


def bundle_file(config: SiteConfig, model: str) -> Path:
    """The file of a bundle. model: a path; or NAME@approved for that of the version of a model that
    was approved last, of those that the policy allows.

    Raises WardroundError: NO_DATA where it has not come, and what `approved` raises.
    """
    asked = _BY_NAME.fullmatch(model)
    if asked is None or Path(model).exists():
        return Path(model)
    of_name = {d: one for d, one in approved(config).items() if one.decision.model == asked[1]}
    latest = max(of_name, key=lambda digest: of_name[digest].entry.number, default=None)
    if latest is None:
        raise WardroundError(
            Code.REFUSED_POLICY,
            f"No version of {asked[1]} is approved and allowed here.",
            remedy="policy.predict.models in site.yaml lists digests; the daemon hears of decisions"
            " while it is connected.",
            rule="predict.models",
        )
    path = file_of(config.state / FOLDER, latest)
    if not path.exists():
        raise WardroundError(
            Code.NO_DATA,
            f"{asked[1]}/{of_name[latest].decision.version} has not come from the coordinator yet.",
            remedy="The daemon fetches it while it is connected; or name a file that `wardround "
            "export` wrote.",
        )
    return path


class FetchedModels:
    """Keeps the folder as it should be, in a thread of its own inside `with`."""

    def __init__(self, config: SiteConfig, fleet: FleetConfig) -> None:
        self._config, self._folder = config, config.state / FOLDER
        self._download, self._ending = ModelDownload(fleet), threading.Event()
        self._refused = set[str]()
        """Digests under which something else came; not asked for again by this process."""
        self._said = ""
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._download.close()
        self._thread.join(timeout=5)

    def look(self) -> None:
        """Once: removes what is not approved, and fetches what is missing.

        Raises WardroundError, OSError, CallInterrupted: what came of a bundle so far is kept."""
        durable_files.make_folder(self._folder)
        wanted = [file_of(self._folder, digest) for digest in approved(self._config)]
        for path in set(self._folder.iterdir()) - {p for w in wanted for p in (w, _partial(w))}:
            path.unlink()
            event("model removed", model=path.stem[:12])
        for path in wanted:
            if not path.exists() and path.stem not in self._refused:
                self._fetch(path)

    def _fetch(self, path: Path) -> None:
        partial = _partial(path)
        if not self._download.fetch(path.stem, partial):
            return
        try:
            found = Bundle.read(partial, SiteRoster(self._config).signer or b"")
            if found.digest != path.stem:
                raise WardroundError(Code.WEIGHTS, "Another model came than the one asked for.")
        except WardroundError as error:
            self._refused.add(path.stem)
            partial.unlink()
            event("model refused", logging.WARNING, model=path.stem[:12], code=error.code.value)
            return
        durable_files.move(partial, path)
        event("model fetched", model=found.name, digest=path.stem[:12])

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                self.look()
                self._said = ""
            except CallInterrupted:
                return
            except (WardroundError, OSError) as error:
                self._tell(error)
            self._ending.wait(EVERY)

    def _tell(self, error: WardroundError | OSError) -> None:
        """Once, until another error or a success."""
        why = error.message if isinstance(error, WardroundError) else str(error.strerror)
        if why != self._said:
            self._said = why
            event("model not fetched", logging.WARNING, why=why)


def _partial(path: Path) -> Path:
    return path.with_suffix(_PART)
