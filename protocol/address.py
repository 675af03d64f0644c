"""host:port, as people write where something listens or is reached."""

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
    def parse(text: str, *, least_port: int = 0) -> Address:
        """least_port: 0 where any free port will do, 1 where somebody is to be reached.

        Raises ValueError.
        """
        found = _FORM.fullmatch(text)
        if found is None or not least_port <= int(found[3]) <= 65535:
            raise ValueError("not host:port")
        return Address(found[1] or found[2], int(found[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _listening(value: Any) -> str:
    Address.parse(str(value))
    return str(value)


def _remote(value: Any) -> str:
    Address.parse(str(value), least_port=1)
    return str(value)


ListenAddress = Annotated[str, BeforeValidator(_listening)]
"""In a settings file: where something listens."""
RemoteAddress = Annotated[str, BeforeValidator(_remote)]
"""In a settings file: where something else is reached."""
