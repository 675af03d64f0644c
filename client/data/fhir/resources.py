"""Reads the resources of an export one by one: bulk NDJSON (FHIR Bulk Data Access 2.0) and bundles.

Never more than one line, or one bundle, is held. In a bundle, references by an entry's own address
(fullUrl, as a transaction uses them) are replaced by Type/id, so that both kinds of export join.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from client.data.sources.files.packed import open_bytes
from client.data.sources.files.tables import bounded_lines
from client.data.sources.session import unreadable
from protocol.errors import Code, WardroundError

LARGEST_BUNDLE = 64 << 20
"""Bytes of one bundle; a larger export comes as NDJSON."""
_LINES = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz")
_DOCUMENTS = (".json", ".json.gz")
_TYPES = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]+)"')
_DECODER = json.JSONDecoder(parse_float=Decimal)


def files_of(folder: Path) -> list[Path]:
    """The export's files, sorted; a single file is itself.

    Raises WardroundError(NO_DATA) where there are none.
    """
    paths = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    files = [path for path in paths if path.name.lower().endswith((*_LINES, *_DOCUMENTS))]
    if not files:
        raise WardroundError(
            Code.NO_DATA,
            f"{folder} holds no FHIR export (*.ndjson, or bundles as *.json).",
            remedy="Correct fhir.folder in site.yaml, or the folder's permissions.",
        )
    return files


def read(path: Path, wanted: Collection[str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, resource) of a file. wanted: types of resource; others may be skipped unread.

    Raises WardroundError: NO_DATA, MALFORMED_DATA naming file and line, or entry of a bundle.
    """
    try:
        if path.name.lower().endswith(_LINES):
            yield from _lines(path, wanted)
        else:
            yield from _document(path)
    except OSError as error:
        raise unreadable(path, error, "Check the file and its permissions.") from None
    except (zlib.error, EOFError):
        raise _broken(str(path)) from None


def _broken(place: str, what: str = "not well formed") -> WardroundError:
    return WardroundError(
        Code.MALFORMED_DATA,
        f"{place}: {what}.",
        remedy="Correct it or export it again; what stands there is not repeated here.",
    )


def _lines(path: Path, wanted: Collection[str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in bounded_lines(path):
        if not line.strip():
            continue
        types = {kind.decode() for kind in _TYPES.findall(line)}
        if types and wanted is not None and types.isdisjoint(wanted):
            continue
        place = f"{path}, line {number}"
        resource = _decoded(line, place)
        if not _is_resource(resource):
            raise _broken(place, "no FHIR resource")
        yield from _unbundled(resource, place)


def _decoded(data: bytes, place: str) -> Any:
    try:
        return _DECODER.decode(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _broken(place, "not UTF-8") from None
    except (ValueError, RecursionError):
        raise _broken(place) from None


def _document(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_bytes(path) as file:
        data = file.read(LARGEST_BUNDLE + 1)
    if len(data) > LARGEST_BUNDLE:
        raise _broken(str(path), f"a bundle of more than {LARGEST_BUNDLE >> 20} MiB")
    document = _decoded(data, str(path))
    if _is_resource(document):  # a manifest or a ViewDefinition may lie beside the export
        yield from _unbundled(document, str(path))


def _is_resource(value: Any) -> bool:
    return type(value) is dict and type(value.get("resourceType")) is str


def _unbundled(bundle: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The resources of a bundle of any type, except those that a transaction deletes; any other
    resource is itself."""
    if bundle["resourceType"] != "Bundle":
        yield place, bundle
        return
    entries = bundle.get("entry", [])
    if type(entries) is not list or any(type(entry) is not dict for entry in entries):
        raise _broken(place, "a bundle whose entries are no objects")
    addresses: dict[str, str] = {}
    for entry in entries:
        resource, address = entry.get("resource"), entry.get("fullUrl")
        if type(resource) is dict and type(address) is str:
            identifier = resource.setdefault("id", address.rsplit(":", 1)[-1].rsplit("/", 1)[-1])
            addresses[address] = f"{resource.get('resourceType')}/{identifier}"
    for number, entry in enumerate(entries, start=1):
        resource, request = entry.get("resource"), entry.get("request")
        if resource is None or (type(request) is dict and request.get("method") == "DELETE"):
            continue
        if not _is_resource(resource):
            raise _broken(f"{place}, entry {number}", "no FHIR resource")
        if resource["resourceType"] == "OperationOutcome":
            continue
        _resolve(resource, addresses)
        yield f"{place}, entry {number}", resource


def _resolve(value: Any, addresses: dict[str, str]) -> None:
    """Replaces references to addresses of the same bundle, in place."""
    pending = [value]
    while pending:
        item = pending.pop()
        if type(item) is list:
            pending.extend(item)
        elif type(item) is dict:
            target = item.get("reference")
            if type(target) is str and target in addresses:
                item["reference"] = addresses[target]
            pending.extend(child for child in item.values() if type(child) in (dict, list))
