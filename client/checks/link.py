"""Checks of the connection to the coordinator: address, TLS, node key, clock."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator

from client.checks.base import Check, CheckWarning
from client.config.site_config import SiteConfig
from client.daemon.status import read, running
from client.enrolment.site_template import UNKNOWN_COORDINATOR
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from client.transport.http_connection import tls
from client.transport.route import ProxyUnreachable
from protocol.address import Address
from protocol.errors import Code, WardroundError
from protocol.wire.enrolment import expiry

_TIMEOUT = 10.0
"""Seconds."""


def link_checks(config: SiteConfig) -> Iterator[Check]:
    """Yields the checks, each after those that it depends on."""
    yield "coordinator reachable", lambda: _reach(config)
    yield "TLS", lambda: _tls(config)
    yield "sign-in", lambda: _sign_in(config)


def _joined(config: SiteConfig) -> Address:
    """The coordinator's address. Raises WardroundError(UNREACHABLE) where there is none yet."""
    if config.coordinator.address == UNKNOWN_COORDINATOR:
        raise WardroundError(
            Code.UNREACHABLE,
            "This site has not joined a coordinator yet.",
            remedy="Run `wardround-site join BUNDLE` with the coordinator's file.",
        )
    return Address.parse(config.coordinator.address)


def _reach(config: SiteConfig) -> str:
    _joined(config)
    fleet = FleetConfig.of(config)
    try:
        fleet.route.open(lambda connected: connected.close())
    except ProxyUnreachable as fault:
        raise fault.error from None
    except OSError as error:
        raise WardroundError(
            Code.UNREACHABLE,
            f"{config.coordinator.address} does not answer ({type(error).__name__}).",
            remedy="Check the address, outbound rules of the firewall, and that it is running.",
        ) from None
    through = f" through the proxy at {fleet.proxy.address}" if fleet.proxy else ""
    return f"{config.coordinator.address}{through}"


def _tls(config: SiteConfig) -> str:
    _joined(config)
    fleet = FleetConfig.of(config)
    try:
        context = tls(fleet.root_certificate, fleet.private_ca)
        ends = fleet.route.open(lambda plain: _expiry(context, plain, fleet.route.target.host))
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or "TLS failure"
        raise WardroundError(
            Code.TLS,
            f"The coordinator's certificate is not trusted: {reason}.",
            remedy="Join with the bundle of this coordinator, and compare the CA's fingerprint. "
            "A proxy that opens TLS shows a certificate of its own: have it let this address "
            "through unopened.",
        ) from None
    except OSError as error:
        raise WardroundError(
            Code.UNREACHABLE,
            f"No connection for TLS ({type(error).__name__}).",
            remedy="Check the address, outbound rules of the firewall, and that it is running.",
        ) from None
    days = (ends - time.time()) / 86400
    if warning := expiry(days):
        raise CheckWarning(warning, "Tell the coordinator's operator.")
    if fleet.private_ca is not None:
        raise CheckWarning(
            f"certificate good for {days:.0f} days; coordinator.private_ca is trusted too",
            "Whoever holds that CA's key can pose as the coordinator to this site (see "
            "docs/operations.md, A proxy in between). Leave it out if the coordinator's own CA "
            "is enough.",
        )
    return f"certificate trusted, good for {days:.0f} days"


def _expiry(context: ssl.SSLContext, plain: socket.socket, host: str) -> float:
    """When the coordinator's certificate ends, in seconds since 1970."""
    with context.wrap_socket(plain, server_hostname=host) as secured:
        return ssl.cert_time_to_seconds(str((secured.getpeercert() or {})["notAfter"]))


def _sign_in(config: SiteConfig) -> str:
    """Signs in as the daemon does, or reads the status of a running daemon: the coordinator
    accepts one connection of a site."""
    if running(config.state):
        status = read(config.state)
        if status is not None and status.connected:
            return "the running daemon is signed in"
        error = status.last_error if status else None
        raise WardroundError(
            Code(error.code) if error else Code.UNREACHABLE,
            f"The running daemon is not signed in. {error.message if error else ''}".strip(),
        )
    _joined(config)
    fleet = FleetConfig.of(config)
    with FleetConnection(fleet) as connection:
        connection.connect()
    return "node key accepted; clocks agree"
