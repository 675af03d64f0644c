"""The address host:port of something that listens or is reached."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator

_FORM = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})")


class Address(NamedTuple):
    """A host's name or IP address, and a port. Written, an IPv6 address stands in brackets (RFC
    3986, section 3.2.2)."""

    host: str
    port: int

    @staticmethod
    def parse(text: str, *, min_port: int = 0) -> Address:
        """Reads host:port. min_port: 0 where port 0 means any free port. Raises ValueError."""
        parts = _FORM.fullmatch(text)
        if parts is None or not min_port <= int(parts[3]) <= 65535:
            raise ValueError("not host:port")
        return Address(parts[1] or parts[2], int(parts[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _listening(value: Any) -> str:
    Address.parse(str(value))
    return str(value)


def _remote(value: Any) -> str:
    Address.parse(str(value), min_port=1)
    return str(value)


ListenAddress = Annotated[str, BeforeValidator(_listening)]
"""In a settings file: where something listens."""
RemoteAddress = Annotated[str, BeforeValidator(_remote)]
"""In a settings file: where something else is reached."""
