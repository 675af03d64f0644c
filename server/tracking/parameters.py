"""A resolved configuration without its secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_CREDENTIALS = re.compile(r"//[^/?#\s]*@")
_SECRET = re.compile(r"(password|passwd|secret|token|api_?key|private_?key)$", re.IGNORECASE)


def redacted(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The same configuration with "(redacted)" for what a key names as secret, and addresses
    without user and password."""
    return {str(key): _redacted(str(key), value) for key, value in configuration.items()}


def without_credentials(address: str) -> str:
    """`https://user:password@host/` -> `https://host/`."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def hide_credentials(text: str) -> str:
    """A foreign text in which addresses have no user and password any more."""
    return _CREDENTIALS.sub("//", text)


def _redacted(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return redacted(value)
    if isinstance(value, list | tuple):
        return [_redacted(key, item) for item in value]
    if value is not None and _SECRET.search(key):
        return "(redacted)"
    if isinstance(value, str) and "://" in value and "@" in value:
        return without_credentials(value)
    return value
