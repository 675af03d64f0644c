"""FHIRPath's functions (FHIRPath 2.0.0, section 5; SQL on FHIR v2 adds the keys of resources).

FUNCTIONS: name -> (fewest arguments, most arguments, implementation). An implementation takes the
scope, the collection before the dot, the focus on which arguments are evaluated, and the
compiled arguments (of TYPE_ARGUMENT: the names of types).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from client.data.fhir.boundary import boundary
from client.data.fhir.keys import reference_key, resource_key
from client.data.fhir.operators import arithmetic, equal, order, text
from client.data.fhir.temporal import Temporal
from client.data.fhir.values import (
    FhirPathError,
    Item,
    Items,
    Quantity,
    children,
    every_child,
    has_value,
    is_number,
    is_type,
    plain,
    quantity,
    temporal,
)


@dataclass
class Scope:
    """What an expression may refer to: the resource, a row of a forEach, $this, $index, $total."""

    resource: dict[str, Any]
    row_index: int = 0
    this: Items = field(default_factory=list)
    index: int = 0
    total: Items = field(default_factory=list)


Compiled = Callable[[Scope, Items], Items]
"""A compiled expression: (scope, focus) -> collection."""
Function = Callable[..., Items]
TYPE_ARGUMENT = ("ofType", "as", "is", "getReferenceKey")
"""Functions whose argument is the name of a type."""
_MAX_STEPS = 100_000


def singleton(items: Items) -> Item:
    """The only item. Raises FhirPathError where there are several."""
    if len(items) != 1:
        raise FhirPathError("several values stand where one is wanted")
    return items[0]


def as_boolean(items: Items) -> bool | None:
    """A collection as a condition: empty is unknown, one value that is no boolean is true."""
    if not items:
        return None
    value = plain(singleton(items))
    return value if type(value) is bool else True


def is_among(item: Item, items: Items) -> bool:
    """Whether the item equals one of them."""
    return any(equal(item, other) for other in items)


def distinct(items: Items) -> Items:
    """Without repetition, in order."""
    unique: Items = []
    for item in items:
        if not is_among(item, unique):
            unique.append(item)
    return unique


def indexed(items: Items, index: Items) -> Items:
    """items[index]."""
    if not index:
        return []
    place = plain(singleton(index))
    if type(place) is not int:
        raise FhirPathError("an index is no whole number")
    return items[place : place + 1] if place >= 0 else []


def _on_each(scope: Scope, items: Items, expression: Compiled) -> list[Items]:
    """The expression on each item, with $this and $index."""
    before = scope.this, scope.index
    results = []
    try:
        for scope.index, item in enumerate(items):
            scope.this = [item]
            results.append(expression(scope, [item]))
    finally:
        scope.this, scope.index = before
    return results


def _where(scope: Scope, items: Items, focus: Items, *criteria: Compiled) -> Items:
    if not criteria:
        return items
    results = _on_each(scope, items, criteria[0])
    return [item for item, met in zip(items, results, strict=True) if as_boolean(met)]


def _select(scope: Scope, items: Items, focus: Items, projection: Compiled) -> Items:
    return [x for projected in _on_each(scope, items, projection) for x in projected]


def _all(scope: Scope, items: Items, focus: Items, criteria: Compiled) -> Items:
    return [all(as_boolean(met) is True for met in _on_each(scope, items, criteria))]


def _repeat(scope: Scope, items: Items, focus: Items, projection: Compiled) -> Items:
    reached: Items = []
    queue = items
    while queue:
        before = len(reached)
        for item in _select(scope, queue, focus, projection):
            if not is_among(item, reached):
                reached.append(item)
        queue = reached[before:]
        if len(reached) > _MAX_STEPS:
            raise FhirPathError("repeat() does not end")
    return reached


def _aggregate(
    scope: Scope,
    items: Items,
    focus: Items,
    aggregator: Compiled,
    *start: Compiled,
) -> Items:
    before = scope.total
    scope.total = start[0](scope, focus) if start else []
    try:
        for item in items:
            scope.total = _on_each(scope, [item], aggregator)[0]
        return scope.total
    finally:
        scope.total = before


def _iif(
    scope: Scope,
    items: Items,
    focus: Items,
    condition: Compiled,
    then: Compiled,
    *otherwise: Compiled,
) -> Items:
    if as_boolean(condition(scope, items)):
        return then(scope, items)
    return otherwise[0](scope, items) if otherwise else []


def _value(items: Items | None, kind: type) -> Any:
    """The one value of an argument, None where it is empty. Raises FhirPathError."""
    if not items:
        return None
    value = plain(singleton(items))
    if type(value) is not kind:
        raise FhirPathError(f"an argument is no {'text' if kind is str else 'whole number'}")
    return value


def _collections(function: Callable[..., Items]) -> Function:
    """A function of the collection and of its arguments, each a collection."""
    return lambda scope, items, focus, *arguments: function(
        items, *(argument(scope, focus) for argument in arguments)
    )


def _unless_empty(function: Callable[..., Items]) -> Function:
    """The same, which gives an empty collection for an empty one."""
    of_collections = _collections(function)
    return lambda scope, items, focus, *arguments: (
        of_collections(scope, items, focus, *arguments) if items else []
    )


def _slice(cut: Callable[[Items, int], Items]) -> Function:
    def call(items: Items, number: Items) -> Items:
        count = _value(number, int)
        return [] if count is None else cut(items, max(0, count))

    return _collections(call)


def _booleans(items: Items) -> list[bool]:
    values = [plain(item) for item in items]
    if any(type(value) is not bool for value in values):
        raise FhirPathError("a value is no boolean")
    return values


def _string(item: Item) -> str:
    value = plain(item)
    if type(value) is not str:
        raise FhirPathError("a text function meets what is no text")
    return value


def _of_text(function: Callable[..., Any], *kinds: type) -> Function:
    """A function of one text and arguments of the given types; empty if any of them is."""

    def call(items: Items, *arguments: Items) -> Items:
        subject = _string(singleton(items))
        values = [_value(*pair) for pair in zip(arguments, kinds, strict=False)]
        if None in values:
            return []
        result = function(subject, *values)
        return result if type(result) is list else [] if result is None else [result]

    return _unless_empty(call)


def _substring(subject: str, start: int, length: int | None = None) -> str | None:
    if not 0 <= start < len(subject):
        return None
    return subject[start:] if length is None else subject[start : start + max(0, length)]


def _join(items: Items, separator: Items | None = None) -> Items:
    """Of no text at all, an empty text, as SQL on FHIR has it."""
    return [(_value(separator, str) or "").join(_string(item) for item in items)]


def _of_number(function: Callable[..., Any]) -> Function:
    """A function of one number and perhaps another; empty outside its domain."""

    def call(*operands: Items) -> Items:
        values = [plain(singleton(operand)) for operand in operands if operand]
        if len(values) < len(operands):
            return []
        if type(values[0]) is Quantity and len(values) == 1:
            return [Quantity(Decimal(function(values[0].value)), values[0].unit)]
        if not all(is_number(value) for value in values):
            raise FhirPathError("a mathematical function meets what is no number")
        try:
            result = function(*values)
        except (ValueError, ArithmeticError):
            return []
        return [] if result is None else [result]

    return _unless_empty(call)


def _real(function: Callable[..., float]) -> Callable[..., Decimal]:
    return lambda *values: Decimal(repr(function(*(float(value) for value in values))))


def _power(base: int | Decimal, exponent: int | Decimal) -> int | Decimal | None:
    if type(base) is int and type(exponent) is int and 0 <= exponent < 1000:
        return base**exponent if abs(base) < 10**6 else None
    result = float(base) ** float(exponent)
    return None if isinstance(result, complex) else Decimal(repr(result))


def _round(value: int | Decimal, places: int | Decimal = 0) -> int | Decimal:
    if places == 0:
        return math.floor(Decimal(value) + Decimal("0.5"))
    return round(Decimal(value), int(places))


def _sum(items: Items) -> Items:
    total = items[:1]
    for item in items[1:]:
        total = arithmetic("+", singleton(total), item)
    return [plain(item) for item in total]


def _extreme(sign: int) -> Function:
    def find(items: Items) -> Items:
        best = items[:1]
        for item in items[1:]:
            if order(item, best[0]) == sign:
                best = [item]
        return best

    return _collections(find)


def _of_type(scope: Scope, items: Items, focus: Items, name: str) -> Items:
    return [item for item in items if is_type(item, name)]


def _is(scope: Scope, items: Items, focus: Items, name: str) -> Items:
    return [is_type(singleton(items), name)] if items else []


def _extension(items: Items, url: Items) -> Items:
    wanted = _value(url, str)
    return [
        extension
        for item in items
        for extension in children(item, "extension")
        if type(extension) is dict and extension.get("url") == wanted
    ]


def _reference_keys(scope: Scope, items: Items, focus: Items, *kind: str) -> Items:
    wanted = kind[0].removeprefix("FHIR.") if kind else None
    return _keys(reference_key(plain(item), wanted) for item in items)


def _keys(keys: Iterable[str | None]) -> Items:
    return [key for key in keys if key is not None]


def _boundary(low: bool) -> Function:
    return _unless_empty(
        lambda items, precision=None: boundary(singleton(items), low, _value(precision, int))
    )


def _to_integer(item: Item) -> int | None:
    value = plain(item)
    whole = type(value) is str and re.fullmatch(r"[+-]?\d+", value)
    return int(value) if whole or type(value) in (bool, int) else None


def _to_decimal(item: Item) -> Decimal | None:
    value = plain(item)
    number = type(value) is str and re.fullmatch(r"[+-]?\d+(\.\d+)?", value)
    return Decimal(value) if number or type(value) is bool or is_number(value) else None


_BOOLEAN_WORDS = dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "0", "0.0"), False
)


def _to_boolean(item: Item) -> bool | None:
    value = plain(item)
    if type(value) is str:
        return _BOOLEAN_WORDS.get(value.lower())
    return bool(value) if type(value) is bool or (is_number(value) and value in (0, 1)) else None


def _to_temporal(kind: str) -> Callable[[Item], Temporal | None]:
    def convert(item: Item) -> Temporal | None:
        value = plain(item)
        moment = temporal(item)
        if moment is None and type(value) is str:
            moment = Temporal.parse(value)
        if moment is None or (moment.kind == "time") != (kind == "time"):
            return None
        if kind == "date":
            return Temporal("date", moment.parts[:3])
        return Temporal("dateTime", moment.parts, moment.offset) if kind == "dateTime" else moment

    return convert


def _to_quantity(item: Item) -> Quantity | None:
    value = plain(item)
    if is_number(value):
        return Quantity(Decimal(value), "1")
    if type(value) is str:
        match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)(?:\s+(?:'([^']+)'|([a-z]+?)s?))?", value)
        return Quantity(Decimal(match[1]), match[2] or match[3] or "1") if match else None
    return quantity(item)


def _conversion(convert: Callable[[Item], Any], *, only_test: bool = False) -> Function:
    """to...() or convertsTo...(); the unit that a call may name is not read."""

    def call(scope: Scope, items: Items, focus: Items, *unit: Compiled) -> Items:
        if not items:
            return []
        try:
            value = convert(singleton(items))
        except InvalidOperation:
            value = None
        return [value is not None] if only_test else [] if value is None else [value]

    return call


def _descendants(items: Items) -> Items:
    reached: Items = []
    queue = items
    while queue:
        queue = [child for item in queue for child in every_child(item)]
        reached.extend(queue)
    return reached


_NOW = datetime.now(UTC).isoformat(timespec="milliseconds")
"""now(), today() and timeOfDay() stay the same while the process runs."""


_CONVERSIONS: dict[str, Callable[[Item], Any]] = {
    "Boolean": _to_boolean,
    "Integer": _to_integer,
    "Long": _to_integer,
    "Decimal": _to_decimal,
    "String": text,
    "Date": _to_temporal("date"),
    "DateTime": _to_temporal("dateTime"),
    "Time": _to_temporal("time"),
    "Quantity": _to_quantity,
}
FUNCTIONS: dict[str, tuple[int, int, Function]] = {
    "empty": (0, 0, _collections(lambda items: [not items])),
    "exists": (0, 1, lambda scope, items, *more: [bool(_where(scope, items, *more))]),
    "all": (1, 1, _all),
    "allTrue": (0, 0, _collections(lambda items: [all(_booleans(items))])),
    "anyTrue": (0, 0, _collections(lambda items: [any(_booleans(items))])),
    "allFalse": (0, 0, _collections(lambda items: [not any(_booleans(items))])),
    "anyFalse": (0, 0, _collections(lambda items: [not all(_booleans(items))])),
    "subsetOf": (1, 1, _collections(lambda a, b: [all(is_among(x, b) for x in a)])),
    "supersetOf": (1, 1, _collections(lambda a, b: [all(is_among(x, a) for x in b)])),
    "count": (0, 0, _collections(lambda items: [len(items)])),
    "distinct": (0, 0, _collections(distinct)),
    "isDistinct": (0, 0, _collections(lambda items: [len(distinct(items)) == len(items)])),
    "where": (1, 1, _where),
    "select": (1, 1, _select),
    "repeat": (1, 1, _repeat),
    "ofType": (1, 1, _of_type),
    "as": (1, 1, _of_type),
    "is": (1, 1, _is),
    "not": (0, 0, _unless_empty(lambda items: [not as_boolean(items)])),
    "single": (0, 0, _unless_empty(lambda items: [singleton(items)])),
    "first": (0, 0, _collections(lambda items: items[:1])),
    "last": (0, 0, _collections(lambda items: items[-1:])),
    "tail": (0, 0, _collections(lambda items: items[1:])),
    "skip": (1, 1, _slice(lambda items, count: items[count:])),
    "take": (1, 1, _slice(lambda items, count: items[:count])),
    "intersect": (1, 1, _collections(lambda a, b: distinct([x for x in a if is_among(x, b)]))),
    "exclude": (1, 1, _collections(lambda a, b: [x for x in a if not is_among(x, b)])),
    "union": (1, 1, _collections(lambda a, b: distinct([*a, *b]))),
    "combine": (1, 1, _collections(lambda a, b: [*a, *b])),
    "iif": (2, 3, _iif),
    "aggregate": (1, 2, _aggregate),
    "trace": (1, 2, lambda scope, items, *more: items),
    "indexOf": (1, 1, _of_text(lambda s, part: s.find(part), str)),
    "substring": (1, 2, _of_text(_substring, int, int)),
    "startsWith": (1, 1, _of_text(lambda s, part: s.startswith(part), str)),
    "endsWith": (1, 1, _of_text(lambda s, part: s.endswith(part), str)),
    "contains": (1, 1, _of_text(lambda s, part: part in s, str)),
    "upper": (0, 0, _of_text(str.upper)),
    "lower": (0, 0, _of_text(str.lower)),
    "trim": (0, 0, _of_text(str.strip)),
    "replace": (2, 2, _of_text(lambda s, old, new: s.replace(old, new), str, str)),
    "matches": (1, 1, _of_text(lambda s, p: re.search(p, s, re.DOTALL) is not None, str)),
    "replaceMatches": (2, 2, _of_text(lambda s, p, new: re.sub(p, new, s), str, str)),
    "length": (0, 0, _of_text(len)),
    "toChars": (0, 0, _of_text(list)),
    "split": (1, 1, _of_text(lambda s, part: s.split(part) if part else list(s), str)),
    "join": (0, 1, _collections(_join)),
    "abs": (0, 0, _of_number(abs)),
    "ceiling": (0, 0, _of_number(math.ceil)),
    "floor": (0, 0, _of_number(math.floor)),
    "truncate": (0, 0, _of_number(int)),
    "round": (0, 1, _of_number(_round)),
    "sqrt": (0, 0, _of_number(_real(math.sqrt))),
    "exp": (0, 0, _of_number(_real(math.exp))),
    "ln": (0, 0, _of_number(_real(math.log))),
    "log": (1, 1, _of_number(_real(math.log))),
    "power": (1, 1, _of_number(_power)),
    "sum": (0, 0, _collections(_sum)),
    "min": (0, 0, _extreme(-1)),
    "max": (0, 0, _extreme(1)),
    "avg": (0, 0, _unless_empty(lambda x: arithmetic("/", singleton(_sum(x)), len(x)))),
    "children": (
        0,
        0,
        _collections(lambda items: [c for item in items for c in every_child(item)]),
    ),
    "descendants": (0, 0, _collections(_descendants)),
    "now": (0, 0, lambda *_: [Temporal.parse(_NOW)]),
    "today": (0, 0, lambda *_: [Temporal.parse(_NOW[:10])]),
    "timeOfDay": (0, 0, lambda *_: [Temporal.parse(_NOW[11:23])]),
    "extension": (1, 1, _collections(_extension)),
    "hasValue": (0, 0, _collections(lambda items: [len(items) == 1 and has_value(items[0])])),
    "getValue": (
        0,
        0,
        _collections(lambda i: [plain(i[0])] if len(i) == 1 and has_value(i[0]) else []),
    ),
    "getResourceKey": (
        0,
        0,
        _collections(lambda items: _keys(map(resource_key, map(plain, items)))),
    ),
    "getReferenceKey": (0, 1, _reference_keys),
    "lowBoundary": (0, 1, _boundary(True)),
    "highBoundary": (0, 1, _boundary(False)),
    **{f"to{name}": (0, 1, _conversion(convert)) for name, convert in _CONVERSIONS.items()},
    **{
        f"convertsTo{name}": (0, 1, _conversion(convert, only_test=True))
        for name, convert in _CONVERSIONS.items()
    },
}
