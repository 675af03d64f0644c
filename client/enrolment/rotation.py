"""New keys for a site that has some: the node key at any time, the identity for new studies.

The old identity stays: it signs in the studies that began under it, and in the audit log, which
belongs to it. Its successors lie beside it, `identity.pem.2` and so on.
"""

from __future__ import annotations

from itertools import count, takewhile
from pathlib import Path

from client.config.site_config import SiteConfig
from client.config.site_roster import SiteRoster
from client.transport.node_key import (
    create_node_key,
    load_node_key,
    public_pem,
    successor_of,
)
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.roster import HANDOVER


def rotate(config: SiteConfig, *, identity: bool, node_key: bool) -> EnrolmentCard:
    """Makes new keys, beside those in use, and the signed card with which the coordinator takes
    them. A key that was made before and is not in use yet is asked for again.

    Raises WardroundError(IDENTITY) or (NODE_KEY) where a key is unreadable or cannot be written.
    """
    keys, known = _identities(config), SiteRoster(config).now().history
    waits = len(keys) > 1 and keys[-1].public_key.hex() not in known.held(config.site)
    if identity and not waits:
        keys.append(Identity.generate())
        keys[-1].save(_file(config, len(keys)))
        waits = True
    latest, handover = keys[-1], None
    if waits:
        handover = keys[-2].sign(HANDOVER, latest.public_key).hex()
    new = successor_of(config.node_key)
    if node_key and not new.exists():
        create_node_key(new)
    signs_in = load_node_key(new if new.exists() else config.node_key)
    card = EnrolmentCard(
        site=config.site,
        identity=latest.public_key.hex(),
        node_key=public_pem(signs_in).decode(),
        handover=handover,
    )
    return card.signed(latest)


def successor(config: SiteConfig, key: str) -> Identity:
    """The identity of this site with this public key (hex). Raises WardroundError(IDENTITY)."""
    for identity in _identities(config):
        if identity.public_key.hex() == key:
            return identity
    raise WardroundError(
        Code.IDENTITY,
        f"The roster gives {config.site} an identity key that is not here.",
        remedy=f"Restore {config.identity}.2 and those after it from a backup, or ask the "
        "coordinator's operator who replaced the key.",
    )


def _identities(config: SiteConfig) -> list[Identity]:
    """The site's identities, the oldest first."""
    later = takewhile(Path.exists, (_file(config, number) for number in count(2)))
    return [config.load_identity(), *map(Identity.load, later)]


def _file(config: SiteConfig, number: int) -> Path:
    return config.identity.with_name(f"{config.identity.name}.{number}")
