"""A resolved configuration as MLflow's parameters: flat, within its limits, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

KEY_LIMIT = 250
VALUE_LIMIT = 6000
_CUT = " ... (cut; whole in configuration.yaml)"
_CREDENTIALS = re.compile(r"//[^/?#\s]*@")
_SECRET = re.compile(r"(password|passwd|secret|token|api_?key|private_?key)$", re.IGNORECASE)


def flatten(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Nested mappings -> dotted keys and text values; lists become JSON."""
    return {
        re.sub(r"[^\w./ -]", "_", key)[:KEY_LIMIT]: _cut(_text(value))
        for key, value in _leaves("", configuration)
    }


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


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), inner)
    elif prefix:
        yield prefix, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - len(_CUT)] + _CUT
