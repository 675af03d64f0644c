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
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import Code, WardroundError
from protocol.untrusted import parsing

ANNOTATIONS = "annotations"
"""The one key of a study or a header under which anything may stand: no code reads it."""
DEPTH = 100
"""Arrays and objects within one another, in any JSON from another party."""


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


def read_json(data: bytes, what: str = "A JSON document") -> Any:
    """Parses one JSON value with unique keys, at most DEPTH deep, without NaN or infinities.

    Raises WardroundError(MESSAGE), naming `what` it should be and quoting nothing, for anything
    else.
    """
    with parsing(f"{what} is malformed."):
        text = data.decode("utf-8")  # json.loads would also accept UTF-16 and a byte order mark
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
        level, depth = _containers([value]), 0
        while level:
            depth += 1
            if depth > DEPTH:
                raise ValueError
            level = [inner for outer in level for inner in _containers(_values(outer))]
        return value


def read_object(data: bytes, what: str = "A JSON document") -> dict[str, Any]:
    """Parses bytes that are one JSON object. Raises as `read_json` does."""
    value = read_json(data, what)
    if not isinstance(value, dict):
        raise WardroundError(Code.MESSAGE, f"{what} is malformed.")
    return value


def read_canonical(data: bytes) -> dict[str, Any]:
    """Like `read_object`, but refuses bytes that are not canonical."""
    value = read_object(data)
    with parsing("A JSON document is not canonical."):
        if canonical(value) != data:
            raise ValueError
    return value


def digest(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of_all(texts: Iterable[bytes]) -> str:
    """SHA-256 of several texts, in whatever order they come."""
    return digest("".join(sorted(map(digest, texts))).encode())


def first_fault(error: ValidationError) -> tuple[str, str, bool]:
    """(field, what is wrong with it, whether this release does not know the field)."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return field, str(first["msg"]), first["type"] == "extra_forbidden"


def _values(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _containers(values: Iterable[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, (dict, list))]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError
    return values


def _no_number(_: str) -> Any:
    raise ValueError
