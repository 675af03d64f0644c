"""How a site reaches its coordinator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.config.site_config import SiteConfig
from client.transport.proxy import Proxy
from client.transport.route import Route
from protocol.wire.progress import WINDOW
from protocol.wire.sizes import BODY_LIMIT


@dataclass(frozen=True)
class FleetConfig:
    """How a site reaches its coordinator.

    address: host:port. root_certificate: the CA certificate, PEM. node_key: see node_key.py.
    heartbeat: seconds between heartbeats (Flower allows 10 to 1800); after twice as long without
    one, a site counts as offline. lines: connections used at once for a large body, at most.
    max_body: bytes that the objects of one question may have. proxy: the way out of the site's
    network. private_ca: the certificate of a CA beside the coordinator's own, PEM (see site.yaml).
    """

    address: str
    root_certificate: Path
    node_key: Path
    heartbeat: float = 10.0
    connect_timeout: float = 20.0
    call_timeout: float = WINDOW
    lines: int = 3
    max_body: int = BODY_LIMIT
    proxy: Proxy | None = None
    private_ca: Path | None = None

    @staticmethod
    def of(site: SiteConfig) -> FleetConfig:
        """As site.yaml and the environment say. Raises WardroundError(CONFIGURATION)."""
        coordinator = site.coordinator
        proxy = Route.from_here(coordinator.address, site.proxy).proxy
        return FleetConfig(
            coordinator.address,
            coordinator.root_certificate,
            site.node_key,
            proxy=proxy,
            private_ca=coordinator.private_ca,
        )

    @property
    def route(self) -> Route:
        """Raises WardroundError(CONFIGURATION) for an address of another form."""
        return Route.to(self.address, self.proxy, self.connect_timeout)
