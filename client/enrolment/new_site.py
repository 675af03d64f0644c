"""Makes a hospital's folder with keys, state and site.yaml, and its enrolment card."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from client.config.site_config import SiteConfig
from client.config.site_roster import roster_text
from client.enrolment.site_template import SiteAnswers, site_yaml
from client.governance.database import SiteState
from client.transport.node_key import create_node_key, load_node_key, public_pem
from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.wire.enrolment import EnrolmentCard

SITE_YAML, ROSTER = "site.yaml", "roster.yaml"


def init(folder: Path, answers: SiteAnswers) -> SiteConfig:
    """Makes the site's folder (0700) with keys (0600), state and site.yaml; all or nothing.

    Raises WardroundError(STATE) where the folder is not empty, (CONFIGURATION) where the answers
    make no valid site.yaml.
    """
    folder = folder.absolute()
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise WardroundError(
            Code.STATE,
            f"{folder} exists already; init never overwrites.",
            remedy="Name a folder that is not there yet.",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise WardroundError(
            Code.STATE,
            f"{folder.parent} cannot be written: {error.strerror}.",
            remedy="Name a folder that this user may make, or correct the permissions.",
        ) from None
    try:
        identity = Identity.generate()
        identity.save(made / "identity.pem")
        create_node_key(made / "node.pem")
        durable_files.write(made / SITE_YAML, site_yaml(answers).encode())
        roster = roster_text({answers.site: identity.public_key.hex()})
        durable_files.write(made / ROSTER, roster)
        try:
            SiteConfig.load(made / SITE_YAML)
        except WardroundError as error:
            message = error.message.replace(str(made), str(folder))
            raise WardroundError(error.code, message, remedy=error.remedy) from None
        SiteState.create(made / "state", answers.site, identity.public_key.hex()).close()
        durable_files.move(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return SiteConfig.load(folder / SITE_YAML)


def card(config: SiteConfig) -> EnrolmentCard:
    """Returns this site's enrolment card. Raises WardroundError(IDENTITY), (NODE_KEY)."""
    identity = config.load_identity()
    node_key = public_pem(load_node_key(config.node_key)).decode()
    return EnrolmentCard(site=config.site, identity=identity.public_key.hex(), node_key=node_key)
