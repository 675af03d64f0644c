"""The protocol's documents: immutable, without unknown keys, and in canonical JSON.

Canonical JSON: keys sorted and unique, no white space, ASCII, floats in Python's shortest
round-trip form, NaN and infinities refused (after RFC 8785, section 3). A document's identity is
the SHA-256 of its bytes as received. Whether they are canonical depends on the JSON alone, so that
a release which knows more fields computes the same identity.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

ANNOTATIONS = "annotations"
"""The one key of a study or a header under which anything may stand: no code reads it."""


class Document(BaseModel):
    """Frozen, closed (an unknown key is an error), without NaN or infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def added_field(default: Any, **constraints: Any) -> Any:
    """A field that a later release added to a document. It is left out while it has its default,
    which means what older releases do and never changes: they can read such a document."""
    return Field(default=default, exclude_if=lambda value: bool(value == default), **constraints)


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value. Raises ValueError for NaN or an infinity."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def finite(value: Any) -> Any:
    """A JSON value whose NaN and infinities are null."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_object(data: bytes) -> dict[str, Any]:
    """Parses bytes that are one JSON object with unique keys, without NaN or infinities.

    Raises ValueError, quoting nothing, for anything else.
    """
    try:
        text = data.decode("utf-8")  # json.loads would also accept UTF-16 and a byte order mark
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def read_canonical(data: bytes) -> dict[str, Any]:
    """Like `read_object`, but refuses bytes that are not canonical."""
    value = read_object(data)
    if canonical(value) != data:
        raise ValueError("not an object in canonical JSON")
    return value


def digest(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def first_fault(error: ValidationError) -> tuple[str, str, bool]:
    """(field, what is wrong with it, whether this release does not know the field)."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return field, str(first["msg"]), first["type"] == "extra_forbidden"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError
    return values


def _no_number(_: str) -> Any:
    raise ValueError
