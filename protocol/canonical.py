"""Canonical JSON: one byte string per value, so that a SHA-256 is an identity.

Keys sorted, no white space, ASCII, floats in Python's shortest round-trip form, NaN and
infinities refused (the ideas of RFC 8785, section 3, restricted to what a study holds).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value. Raises ValueError for NaN or an infinity."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def digest(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
