"""The way out of a hospital's network: an HTTP proxy that connects through (RFC 9110, 9.3.6).

TLS goes through the tunnel from end to end: the proxy sees the coordinator's address and how much
is sent, nothing else. It is what site.yaml names under `proxy`, or else HTTPS_PROXY in the
environment, unless NO_PROXY or loopback stands against it.
"""

from __future__ import annotations

import re
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from client.config.proxy_settings import ProxySettings
from protocol.address import Address
from protocol.errors import Code, WardroundError
from protocol.secret_files import read_secret

T = TypeVar("T")
_LONGEST = 64 * 1024
"""Bytes of a proxy's answer."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |\r\n)")


@dataclass(frozen=True)
class Proxy:
    """address: where it listens. user, password: its login, never shown. password_file: holds the
    password instead; read at each connection, so that a mended one is used at once. named_in: where
    an operator finds all that."""

    address: Address
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    named_in: str = "`proxy` in site.yaml"

    def tunnel(self, connected: socket.socket, target: Address) -> None:
        """Has the proxy connect through to `target`. Raises OSError, and WardroundError:
        CREDENTIALS (an unreadable password file), UNREACHABLE (it refuses, or asks for a login)."""
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self.user is not None:
            login = b64encode(f"{self.user}:{self._password()}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {login}")
        connected.sendall("\r\n".join((*lines, "", "")).encode())
        seconds = connected.gettimeout()
        head = self._answer(connected)
        connected.settimeout(seconds)
        status = _STATUS.match(head)
        if status is None:
            raise self._refusal(f"The proxy at {self.address} does not speak HTTP", "")
        if not status[1].startswith(b"2"):
            raise self._refused(int(status[1]), head, target)

    def unreachable(self, error: OSError) -> WardroundError:
        """For a connection to the proxy itself that failed."""
        return self._refusal(
            f"The proxy at {self.address} cannot be reached ({type(error).__name__})", ""
        )

    def _answer(self, connected: socket.socket) -> bytes:
        """The header of its answer. What follows it belongs to the tunnel and is left unread."""
        head, until = b"", time.monotonic() + (connected.gettimeout() or 0.0)
        while not head.endswith(b"\r\n\r\n"):
            connected.settimeout(max(0.001, until - time.monotonic()))
            byte = connected.recv(1)
            if not byte:
                raise self._refusal(f"The proxy at {self.address} hung up", "")
            head += byte
            if len(head) > _LONGEST:
                raise self._refusal(f"The proxy at {self.address} answers without end", "")
        return head

    def _refused(self, status: int, head: bytes, target: Address) -> WardroundError:
        if status != 407:
            return self._refusal(
                f"The proxy at {self.address} does not connect to {target} (HTTP status {status})",
                f"Have its operator allow CONNECT to {target}.",
            )
        offered = re.findall(rb"(?im)^proxy-authenticate:[ \t]*([A-Za-z]{1,20})", head)
        schemes = sorted({scheme.decode().capitalize() for scheme in offered})
        if schemes and "Basic" not in schemes:
            return self._refusal(
                f"The proxy at {self.address} asks for a login by {', '.join(schemes)}",
                "This site logs in by Basic only: have the proxy's operator allow that, or let "
                "this machine through to the coordinator without a login.",
            )
        if self.user is not None:
            return self._refusal(
                f"The proxy at {self.address} does not accept the login",
                f"Correct user and password of {self.named_in}.",
            )
        return self._refusal(
            f"The proxy at {self.address} asks for a login",
            "Set proxy.user and proxy.password_file in site.yaml.",
        )

    def _refusal(self, problem: str, remedy: str) -> WardroundError:
        return WardroundError(
            Code.UNREACHABLE,
            f"{problem}.",
            remedy=remedy or f"Check {self.named_in}, and that it runs and is an HTTP proxy.",
        )

    def _password(self) -> str:
        if self.password_file is None:
            return self.password
        content = read_secret(
            self.password_file,
            "proxy's password file",
            Code.CREDENTIALS,
            remedy="Write the password alone into it.",
        )
        return content.decode(errors="replace").rstrip("\r\n")


def proxy_of(
    settings: ProxySettings | None, target: Address, environment: Mapping[str, str]
) -> Proxy | None:
    """The proxy between this site and `target`, if there is one. What site.yaml says stands above
    the environment. Raises WardroundError(CONFIGURATION) for an HTTPS_PROXY that cannot be used."""
    if settings is not None:
        return Proxy(
            Address.parse(settings.address), settings.user, password_file=settings.password_file
        )
    url = _variable(environment, "HTTPS_PROXY")
    if not url or _bypasses(target, _variable(environment, "NO_PROXY")):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname or parts.hostname.startswith("."):
            raise ValueError
        address = Address(parts.hostname, parts.port or 80)
    except ValueError:
        raise WardroundError(  # it may hold a password, so that it is not quoted
            Code.CONFIGURATION,
            "HTTPS_PROXY in the environment is not of the form http://[user:password@]host:port.",
            remedy="Correct it, or name the proxy in site.yaml under `proxy`. A proxy that is "
            "itself spoken to over TLS or SOCKS cannot be used.",
        ) from None
    user = None if parts.username is None else unquote(parts.username)
    return Proxy(address, user, unquote(parts.password or ""), named_in="HTTPS_PROXY")


def _variable(environment: Mapping[str, str], name: str) -> str:
    """In lower case it stands above upper case, as for curl."""
    return (environment.get(name.lower()) or environment.get(name) or "").strip()


def _bypasses(target: Address, no_proxy: str) -> bool:
    """Whether the environment keeps `target` off the proxy. Loopback never goes through one."""
    host = target.host.lower().rstrip(".")
    if host == "localhost" or _matches(ip_address, host, lambda address: address.is_loopback):
        return True
    return any(_names(entry, host, target.port) for entry in re.split(r"[,\s]+", no_proxy.lower()))


def _names(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY names the host: *, a name and all below it, an address, a
    network; the last three also with a port (an IPv6 address in brackets then)."""
    if not entry or entry == "*":
        return entry == "*"
    with_port = re.fullmatch(r"(\[[^]]+\]|[^:]+):([0-9]{1,5})", entry)
    if with_port is not None:
        if int(with_port[2]) != port:
            return False
        entry = with_port[1]
    entry = entry.strip("[]")
    if _matches(ip_address, host, lambda _: True):
        return _matches(
            lambda text: ip_network(text, strict=False),
            entry,
            lambda network: ip_address(host) in network,
        )
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _matches(parse: Callable[[str], T], text: str, condition: Callable[[T], bool]) -> bool:
    try:
        return condition(parse(text))
    except ValueError:
        return False
