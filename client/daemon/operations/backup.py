"""A site's backup: rules, keys, roster, certificates, the ledger with its audit log, which pictures
were released or withheld by hand, models of its own, and what was scored with the reports that
wait. Not in it: data, pictures, caches, and the head of the audit log.

Without that head, and because the ledger in it is marked as a copy, a restored site answers nothing
until its operator has confirmed what was accepted since (`Ledger.acknowledge`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from client.config.site_config import SiteConfig
from client.data.dicom.index import image_decisions
from client.enrolment.new_site import SITE_YAML
from client.governance.database import SiteState
from client.prediction import state as prediction_state
from client.training.algorithm_state import PERSONAL
from protocol.errors import Code, WardroundError
from protocol.operations import backup_archive

_OWN = ("*.yaml", "*.pem", "*.pub", "*.sql")
"""In the site's folder."""
_DATABASE = "state.sqlite"


def backup(folder: Path, config: SiteConfig, state: SiteState, target: Path) -> None:
    """Writes a backup of the site in `folder` while its daemon runs.

    Raises WardroundError: USAGE where `target` exists or cannot be written, CONFIGURATION where
    keys or state lie outside the folder, LEDGER.
    """
    folder = folder.resolve()
    for path in (config.identity, config.node_key, config.state):
        if not path.resolve().is_relative_to(folder):
            raise WardroundError(
                Code.CONFIGURATION,
                f"{path} lies outside {folder}: a restored site would not find it.",
                remedy="Move it into the site's folder, and correct site.yaml.",
            )
    named = [path for pattern in _OWN for path in folder.glob(pattern)]
    named += [config.identity, config.node_key, config.coordinator.root_certificate]
    named += config.identity.parent.glob(f"{config.identity.name}.*")
    named += [*config.state.glob("*.key"), *(config.state / PERSONAL).rglob("*")]
    files: dict[str, Path] = {
        path.resolve().relative_to(folder).as_posix(): path
        for path in named
        if path.is_file() and path.resolve().is_relative_to(folder)
    }
    with tempfile.TemporaryDirectory(dir=config.state, prefix=".backup-") as place:
        copy = Path(place) / _DATABASE
        state.backup(copy)
        inside = config.state.resolve().relative_to(folder)
        files[(inside / _DATABASE).as_posix()] = copy
        decisions = Path(place) / image_decisions.FILE
        if image_decisions.backup(config.state, decisions):
            files[(inside / image_decisions.FILE).as_posix()] = decisions
        predictions = Path(place) / prediction_state.FILE
        if prediction_state.backup(config.state, predictions):
            files[(inside / prediction_state.FILE).as_posix()] = predictions
        backup_archive.write(target, "site", config.site, files)


def restore(source: Path, folder: Path) -> SiteConfig:
    """Makes the site of a backup again in a new folder. Raises WardroundError: as
    `backup_archive.restore`, CONFIGURATION where its site.yaml is none of this release."""
    backup_archive.restore(source, "site", folder)
    return SiteConfig.load(folder / SITE_YAML)
