"""Keys that join resources: getResourceKey() and getReferenceKey() of SQL on FHIR v2.

A key is "Type/id". A reference by an identifier (a logical reference, or the conditional one
"Type?identifier=system|value" of a transaction) has that conditional form until the export's reader
has found the one resource that it means. A contained resource has no key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.\-]{1,64})(?:/_history/[^/]+)?")
_CONDITIONAL = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)[?]identifier=([^&|]*[|][^&|]+)")
_UUID = re.compile(r"urn:(?:uuid|oid):(.+)")


def resource_key(resource: Any) -> str | None:
    """Key of a resource; None for anything else."""
    if type(resource) is not dict:
        return None
    kind, identifier = resource.get("resourceType"), resource.get("id")
    return f"{kind}/{identifier}" if kind and identifier else None


def reference_key(reference: Any, wanted: str | None) -> str | None:
    """Key of a Reference's target; None where it is of another type than wanted (None: any)."""
    target = reference.get("reference") if type(reference) is dict else reference
    if type(target) is not str:
        return _by_identifier(reference, wanted)
    if match := _REFERENCE.fullmatch(target):
        kind, identifier = match[1], match[2]
    elif match := _UUID.fullmatch(target):
        # An address inside a bundle; its reader has replaced those whose entry is there.
        kind = (reference.get("type") if type(reference) is dict else None) or wanted
        identifier = match[1]
        if kind is None:
            return target
    elif match := _CONDITIONAL.fullmatch(target):
        named = f"{match[1]}?identifier={unquote(match[2])}"
        return named if wanted in (None, match[1]) else None
    else:
        return None
    return f"{kind}/{identifier}" if wanted in (None, kind) else None


def _by_identifier(reference: Any, wanted: str | None) -> str | None:
    if type(reference) is not dict:
        return None
    kind = reference.get("type") or wanted
    known = next(_identifiers(reference.get("identifier")), None)
    return f"{kind}?identifier={known}" if kind and known and wanted in (None, kind) else None


def conditional_keys(resource: dict[str, Any]) -> Iterator[str]:
    """The conditional forms by which a reference may mean the resource."""
    named = resource.get("identifier")
    for identifier in named if type(named) is list else [named]:
        for known in _identifiers(identifier):
            yield f"{resource['resourceType']}?identifier={known}"


def _identifiers(value: Any) -> Iterator[str]:
    if type(value) is dict and type(number := value.get("value")) is str and number:
        yield f"{value.get('system') or ''}|{number}"
