"""Keys that join resources: getResourceKey() and getReferenceKey() of SQL on FHIR v2.

A key is "Type/id". What a reference points to by another address than the server's own (a query,
a contained resource, only an identifier) has no key.
"""

from __future__ import annotations

import re
from typing import Any

_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.\-]{1,64})(?:/_history/[^/]+)?")
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
        return None
    if match := _REFERENCE.fullmatch(target):
        kind, identifier = match[1], match[2]
    elif match := _UUID.fullmatch(target):
        # An address inside a bundle; its reader has replaced those whose entry is there.
        kind = (reference.get("type") if type(reference) is dict else None) or wanted
        identifier = match[1]
        if kind is None:
            return target
    else:
        return None
    return f"{kind}/{identifier}" if wanted in (None, kind) else None
