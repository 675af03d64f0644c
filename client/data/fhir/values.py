"""FHIRPath's values: what a resource's JSON is made of, with the type where it is known.

An item of a collection is a dict, str, bool, int or Decimal straight out of the JSON; an `Element`
where its FHIR type or a primitive's extensions are known; or a Temporal or Quantity of the path's
own. There is no model of FHIR here: a choice element tells its type (`valueQuantity`), a resource
tells its `resourceType`, and the shape tells the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from client.data.fhir.temporal import Temporal

Item = Any
Items = list[Any]


class FhirPathError(Exception):
    """What is wrong with a path, or with data that it meets; quotes no value."""


@dataclass(frozen=True)
class Quantity:
    """A number with a unit: of UCUM, or a calendar's word in the singular."""

    value: Decimal
    unit: str


@dataclass(frozen=True, eq=False)
class Element:
    """A JSON value with its FHIR type and, of a primitive, what stands under `_name`."""

    value: Any
    kind: str | None = None
    extras: dict[str, Any] | None = None


_STRINGS = ("string", "code", "id", "markdown", "uri", "url", "canonical", "uuid", "oid",
            "base64Binary", "xhtml")  # fmt: skip
_TIMES = ("date", "dateTime", "instant", "time")
INTEGERS = ("integer", "positiveInt", "unsignedInt", "integer64")
PRIMITIVES = ("boolean", "decimal", *_STRINGS, *_TIMES, *INTEGERS)
_PARENTS = {
    "code": "string", "id": "string", "markdown": "string", "url": "uri", "canonical": "uri",
    "uuid": "uri", "oid": "uri", "positiveInt": "integer", "unsignedInt": "integer",
    "Age": "Quantity", "Duration": "Quantity", "Distance": "Quantity", "Count": "Quantity",
    "SimpleQuantity": "Quantity", "MoneyQuantity": "Quantity",
}  # fmt: skip
_SHAPES: dict[str, frozenset[str]] = {
    kind: frozenset(keys.split()) | {"id", "extension"}
    for kind, keys in {
        "Reference": "reference type identifier display",
        "Quantity": "value comparator unit system code",
        "CodeableConcept": "coding text",
        "Coding": "system version code display userSelected",
        "Identifier": "use type system value period assigner",
        "Period": "start end",
        "Range": "low high",
        "Ratio": "numerator denominator",
        "HumanName": "use text family given prefix suffix period",
        "Address": "use type text line city district state postalCode country period",
        "ContactPoint": "system value use rank period",
        "Annotation": "authorReference authorString time text",
        "Attachment": "contentType language data url size hash title creation",
        "Money": "value currency",
        "SampledData": "origin period factor lowerLimit upperLimit dimensions data",
        "Timing": "event repeat code modifierExtension",
    }.items()
}
_COMPLEX = (*_SHAPES, "Age", "Duration", "Distance", "Count", "Signature", "Dosage", "Meta",
            "ContactDetail", "Contributor", "DataRequirement", "Expression", "Extension",
            "ParameterDefinition", "RelatedArtifact", "TriggerDefinition", "UsageContext",
            "CodeableReference", "RatioRange", "Availability", "Element")  # fmt: skip
_CHOICES = {kind[0].upper() + kind[1:]: kind for kind in (*PRIMITIVES, *_COMPLEX)}
_SYSTEM = {
    "Boolean": "boolean", "String": "string", "Integer": "integer", "Decimal": "decimal",
    "Date": "date", "DateTime": "dateTime", "Time": "time", "Quantity": "Quantity",
    "Long": "integer",
}  # fmt: skip
_NOTATION = re.compile(
    r"\d{4}(-\d\d(-\d\d)?)?"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?"
    r"|\d\d:\d\d:\d\d(\.\d+)?"
)
"""A date, dateTime or time as FHIR writes it."""


def plain(item: Item) -> Any:
    """The JSON value, Temporal or Quantity itself."""
    return item.value if type(item) is Element else item


def children(item: Item, name: str) -> Items:
    """item.name: the elements of that name, a choice element under its stem too."""
    extras = item.extras if type(item) is Element else None
    value = plain(item)
    if type(value) is not dict:
        inner = extras.get(name) if extras else None
        return [] if inner is None else inner if type(inner) is list else [inner]
    if name in value or "_" + name in value:
        return _children(value.get(name), value.get("_" + name))
    length = len(name)
    for key, choice in value.items():
        if key.startswith(name) and type(choice) is not list:
            kind = _CHOICES.get(key[length:])
            if kind and (type(choice) is dict) == (kind not in PRIMITIVES):
                return [Element(choice, kind, value.get("_" + key))]
    return []


def _children(value: Any, extras: Any) -> Items:
    values = value if type(value) is list else [value]
    if extras is None:
        return [child for child in values if child is not None] if None in values else values
    return [
        child if extra is None else Element(child, None, extra)
        for child, extra in zip_longest(values, extras if type(extras) is list else [extras])
        if child is not None or extra is not None
    ]


def every_child(item: Item) -> Items:
    """All direct children, as children() does."""
    value = plain(item)
    if type(value) is not dict:
        extras = item.extras if type(item) is Element else None
        return [child for key in extras or () for child in children(item, key)]
    keys = dict.fromkeys(key.removeprefix("_") for key in value if key != "resourceType")
    return [child for key in keys for child in children(value, key)]


def has_value(item: Item) -> bool:
    """Whether it is a primitive with a value."""
    return plain(item) is not None and type(plain(item)) is not dict


def is_type(item: Item, name: str) -> bool:
    """Whether the item is of a type: of FHIR, or of FHIRPath's own (System)."""
    space, _, short = name.rpartition(".")
    value = plain(item)
    if space == "System" or (not space and short in _SYSTEM and short != "Quantity"):
        return _fits(value, _SYSTEM.get(short, ""))
    if type(item) is Element and item.kind:
        kind: str | None = item.kind
        while kind and kind != short:
            kind = _PARENTS.get(kind)
        return kind == short
    if type(value) is dict and "resourceType" in value:
        return short in (value["resourceType"], "Resource", "DomainResource")
    return _fits(value, short)


def _fits(value: Any, kind: str) -> bool:
    """Whether a value of unknown type can be of the kind, by its shape."""
    if type(value) is bool:
        return kind == "boolean"
    if type(value) is int:
        return kind in INTEGERS or kind == "decimal"
    if type(value) is Decimal:
        return kind == "decimal"
    if type(value) is Temporal:
        return kind == value.kind or (kind == "instant" and value.kind == "dateTime")
    if type(value) is Quantity:
        return kind == "Quantity"
    if type(value) is str:
        if kind in _TIMES:
            moment = Temporal.parse(value)
            return moment is not None and (moment.kind == "time") == (kind == "time")
        return kind in _STRINGS
    if type(value) is dict and value:
        shape = _SHAPES.get(kind)
        return shape is not None and value.keys() <= shape
    return False


def temporal(item: Item) -> Temporal | None:
    """As a date or time, where it is one by type or by notation."""
    value = plain(item)
    if type(value) is Temporal:
        return value
    if type(value) is not str:
        return None
    kind = item.kind if type(item) is Element else None
    if kind in ("dateTime", "instant"):
        return Temporal.parse(value, "dateTime")
    if kind in ("date", "time") or (kind is None and _NOTATION.fullmatch(value)):
        return Temporal.parse(value)
    return None


def quantity(item: Item) -> Quantity | None:
    """As a quantity, where it is one."""
    value = plain(item)
    if type(value) is Quantity:
        return value
    if type(value) is dict and is_number(value.get("value")) and is_type(item, "Quantity"):
        return Quantity(Decimal(value["value"]), str(value.get("code") or value.get("unit") or "1"))
    return None


def is_number(value: Any) -> bool:
    """Whether it is an integer or decimal."""
    return type(value) is int or type(value) is Decimal
