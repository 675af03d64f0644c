"""The protocol's documents: immutable, without unknown keys, and with one byte string per value.

Canonical JSON: keys sorted and unique, no white space, ASCII, floats in Python's shortest
round-trip form, NaN and infinities refused (the ideas of RFC 8785, section 3, restricted to what a
study holds). A document's identity is the SHA-256 of the bytes as they came: whether they are
canonical is judged on the JSON alone, so that a release which knows more fields than the one that
wrote them finds the same identity.
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


def added(default: Any, **constraints: Any) -> Any:
    """A field that a release added to a document: left out while it says `default`, so that a
    document which does not use it is what older releases write and read. The default means what
    they do, and never changes."""
    return Field(default=default, exclude_if=lambda value: bool(value == default), **constraints)


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value. Raises ValueError for NaN or an infinity."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def finite(value: Any) -> Any:
    """A JSON value with null in the place of every number that is NaN or infinite."""
    if isinstance(value, Mapping):
        return {key: finite(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [finite(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object that these bytes are: one value for each key, no NaN, no infinity.

    Raises ValueError, quoting nothing, for bytes that are anything else.
    """
    try:
        text = data.decode("utf-8")  # left to itself, json would take UTF-16 and a mark before it
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def read_canonical(data: bytes) -> dict[str, Any]:
    """As `read_object`, of canonical bytes alone."""
    value = read_object(data)
    if canonical(value) != data:
        raise ValueError("not an object in canonical JSON")
    return value


def digest(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def first_fault(error: ValidationError) -> tuple[str, str, bool]:
    """(field, what is wrong with it, whether it is a field that this release does not know)."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return field, str(first["msg"]), first["type"] == "extra_forbidden"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_number(_: str) -> Any:
    raise ValueError
