"""What every document of the protocol is: frozen, closed, and one byte string for one value.

Canonical JSON: keys sorted, no white space, ASCII, floats in Python's shortest round-trip form,
NaN and infinities refused (the ideas of RFC 8785, section 3, restricted to what a study holds). So
a SHA-256 is an identity.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Frozen, closed (an unknown key is an error), without NaN or infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value. Raises ValueError for NaN or an infinity."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def digest(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
