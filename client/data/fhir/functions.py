"""FHIRPath's functions (FHIRPath 2.0.0, section 5; SQL on FHIR v2 adds the keys of resources).

Each entry of FUNCTIONS makes, from its compiled arguments, a call(run, items, focus) -> items:
`items` is what stands before the dot; `focus` is what arguments are evaluated on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from client.data.fhir.boundary import boundary
from client.data.fhir.keys import reference_key, resource_key
from client.data.fhir.operators import arithmetic, equal, order, text
from client.data.fhir.syntax import Node, type_name
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

if TYPE_CHECKING:
    from client.data.fhir.path import Compiled, Run

Call = Callable[["Run", Items, Items], Items]
TYPE_ARGUMENT = ("ofType", "as", "is", "getReferenceKey")
"""Functions whose argument is the name of a type."""
_MOST_STEPS = 100_000


def one(items: Items) -> Item:
    """The only item. Raises FhirPathError where there are several."""
    if len(items) != 1:
        raise FhirPathError("several values stand where one is wanted")
    return items[0]


def truth(items: Items) -> bool | None:
    """A collection as a condition: empty is unknown, one value that is no boolean is true."""
    if not items:
        return None
    value = plain(one(items))
    return value if type(value) is bool else True


def within(item: Item, items: Items) -> bool:
    """Whether the item equals one of them."""
    return any(equal(item, other) for other in items)


def distinct(items: Items) -> Items:
    """Without repetition, in order."""
    found: Items = []
    for item in items:
        if not within(item, found):
            found.append(item)
    return found


def at(items: Items, index: Items) -> Items:
    """items[index]."""
    if not index:
        return []
    place = plain(one(index))
    if type(place) is not int:
        raise FhirPathError("an index is no whole number")
    return items[place : place + 1] if place >= 0 else []


def _each(run: Run, items: Items, expression: Compiled) -> list[Items]:
    """The expression on each item, with $this and $index."""
    before = run.this, run.index
    results = []
    try:
        for run.index, item in enumerate(items):
            run.this = [item]
            results.append(expression(run, [item]))
    finally:
        run.this, run.index = before
    return results


def _where(criteria: Compiled) -> Call:
    def call(run: Run, items: Items, focus: Items) -> Items:
        results = _each(run, items, criteria)
        return [i for i, found in zip(items, results, strict=True) if truth(found)]

    return call


def _select(projection: Compiled) -> Call:
    return lambda run, items, focus: [x for found in _each(run, items, projection) for x in found]


def _all(criteria: Compiled) -> Call:
    return lambda run, items, focus: [
        all(truth(found) is True for found in _each(run, items, criteria))
    ]


def _exists(*criteria: Compiled) -> Call:
    if not criteria:
        return lambda run, items, focus: [bool(items)]
    where = _where(criteria[0])
    return lambda run, items, focus: [bool(where(run, items, focus))]


def _repeat(projection: Compiled) -> Call:
    def call(run: Run, items: Items, focus: Items) -> Items:
        found: Items = []
        queue = items
        while queue:
            fresh = [x for part in _each(run, queue, projection) for x in part]
            queue = []
            for item in fresh:
                if not within(item, found):
                    found.append(item)
                    queue.append(item)
            if len(found) > _MOST_STEPS:
                raise FhirPathError("repeat() does not end")
        return found

    return call


def _aggregate(aggregator: Compiled, *start: Compiled) -> Call:
    def call(run: Run, items: Items, focus: Items) -> Items:
        before = run.total
        run.total = start[0](run, focus) if start else []
        try:
            for item in items:
                run.total = _each(run, [item], aggregator)[0]
            return run.total
        finally:
            run.total = before

    return call


def _iif(condition: Compiled, then: Compiled, *otherwise: Compiled) -> Call:
    def call(run: Run, items: Items, focus: Items) -> Items:
        if truth(condition(run, items)):
            return then(run, items)
        return otherwise[0](run, items) if otherwise else []

    return call


def _trace(name: Compiled, *projection: Compiled) -> Call:
    """Says nothing: what it would print is a patient's."""
    return lambda run, items, focus: items


def _argument(run: Run, focus: Items, argument: Compiled, kind: type) -> Any:
    """The one value of an argument, None where it is empty. Raises FhirPathError."""
    items = argument(run, focus)
    if not items:
        return None
    value = plain(one(items))
    if type(value) is not kind:
        raise FhirPathError(f"an argument is no {'text' if kind is str else 'whole number'}")
    return value


def _whole(function: Callable[[Items], Items]) -> Callable[[], Call]:
    """A function of the whole collection, without arguments."""
    return lambda: lambda run, items, focus: function(items)


def _sliced(cut: Callable[[Items, int], Items]) -> Callable[[Compiled], Call]:
    def make(number: Compiled) -> Call:
        def call(run: Run, items: Items, focus: Items) -> Items:
            count = _argument(run, focus, number, int)
            return [] if count is None else cut(items, max(0, count))

        return call

    return make


def _paired(combine: Callable[[Items, Items], Items]) -> Callable[[Compiled], Call]:
    """A function of two collections."""
    return lambda other: lambda run, items, focus: combine(items, other(run, focus))


def _subset(items: Items, others: Items) -> bool:
    return all(within(item, others) for item in items)


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


def _texts(function: Callable[..., Any], *kinds: type) -> Callable[..., Call]:
    """A function of one text and arguments of the given types; empty if any of them is."""

    def make(*arguments: Compiled) -> Call:
        def call(run: Run, items: Items, focus: Items) -> Items:
            if not items:
                return []
            subject = _string(one(items))
            told = [
                _argument(run, focus, argument, kind)
                for argument, kind in zip(arguments, kinds, strict=False)
            ]
            if None in told:
                return []
            result = function(subject, *told)
            return result if type(result) is list else [] if result is None else [result]

        return call

    return make


def _substring(subject: str, start: int, length: int | None = None) -> str | None:
    if not 0 <= start < len(subject):
        return None
    return subject[start:] if length is None else subject[start : start + max(0, length)]


def _join(*separator: Compiled) -> Call:
    """Of no text at all, an empty text, as SQL on FHIR has it."""

    def call(run: Run, items: Items, focus: Items) -> Items:
        between = _argument(run, focus, separator[0], str) if separator else ""
        return [(between or "").join(_string(item) for item in items)]

    return call


def _numbers(function: Callable[..., Any]) -> Callable[..., Call]:
    """A function of one number and perhaps another; empty outside its domain."""

    def make(*arguments: Compiled) -> Call:
        def call(run: Run, items: Items, focus: Items) -> Items:
            if not items:
                return []
            told = [one(items), *(one(found) for a in arguments if (found := a(run, focus)))]
            values = [plain(item) for item in told]
            if len(values) <= len(arguments):
                return []
            if type(values[0]) is Quantity and not arguments:
                return [Quantity(Decimal(function(values[0].value)), values[0].unit)]
            if not all(is_number(value) for value in values):
                raise FhirPathError("a mathematical function meets what is no number")
            try:
                result = function(*values)
            except (ValueError, ArithmeticError):
                return []
            return [] if result is None else [result]

        return call

    return make


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


def _folded(operator: str) -> Callable[[Items], Items]:
    def fold(items: Items) -> Items:
        total = items[:1]
        for item in items[1:]:
            total = arithmetic(operator, one(total), item)
        return [plain(item) for item in total]

    return fold


def _extreme(sign: int) -> Callable[[Items], Items]:
    def find(items: Items) -> Items:
        best = items[:1]
        for item in items[1:]:
            if order(item, best[0]) == sign:
                best = [item]
        return best

    return find


def _average(items: Items) -> Items:
    return arithmetic("/", one(_folded("+")(items)), len(items)) if items else []


def _of_type(kind: Node) -> Call:
    name = type_name(kind)
    return lambda run, items, focus: [item for item in items if is_type(item, name)]


def _is(kind: Node) -> Call:
    name = type_name(kind)
    return lambda run, items, focus: [is_type(one(items), name)] if items else []


def _extension(url: Compiled) -> Call:
    def call(run: Run, items: Items, focus: Items) -> Items:
        wanted = _argument(run, focus, url, str)
        return [
            found
            for item in items
            for found in children(item, "extension")
            if type(found) is dict and found.get("url") == wanted
        ]

    return call


def _get_resource_key() -> Call:
    return lambda run, items, focus: [
        key for item in items if (key := resource_key(plain(item))) is not None
    ]


def _get_reference_key(*kind: Node) -> Call:
    wanted = type_name(kind[0]).removeprefix("FHIR.") if kind else None
    return lambda run, items, focus: [
        key for item in items if (key := reference_key(plain(item), wanted)) is not None
    ]


def _bounded(low: bool) -> Callable[..., Call]:
    def make(*precision: Compiled) -> Call:
        def call(run: Run, items: Items, focus: Items) -> Items:
            if not items:
                return []
            digits = _argument(run, focus, precision[0], int) if precision else None
            return boundary(one(items), low, digits)

        return call

    return make


def _to_integer(item: Item) -> int | None:
    value = plain(item)
    if type(value) is bool:
        return int(value)
    if type(value) is int:
        return value
    return int(value) if type(value) is str and re.fullmatch(r"[+-]?\d+", value) else None


def _to_decimal(item: Item) -> Decimal | None:
    value = plain(item)
    if type(value) is bool or is_number(value):
        return Decimal(value)
    if type(value) is str and re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        return Decimal(value)
    return None


def _to_boolean(item: Item) -> bool | None:
    value = plain(item)
    if type(value) is bool:
        return value
    word = (
        value.lower() if type(value) is str else str(value.normalize() + 0)
        if type(value) is Decimal else str(value)
    )  # fmt: skip
    if word in ("true", "t", "yes", "y", "1", "1.0"):
        return True
    return False if word in ("false", "f", "no", "n", "0", "0.0") else None


def _to_temporal(kind: str) -> Callable[[Item], Temporal | None]:
    def convert(item: Item) -> Temporal | None:
        value = plain(item)
        found = temporal(item)
        if found is None and type(value) is str:
            found = Temporal.parse(value)
        if found is None or (found.kind == "time") != (kind == "time"):
            return None
        if kind == "date":
            return Temporal("date", found.parts[:3])
        return Temporal("dateTime", found.parts, found.offset) if kind == "dateTime" else found

    return convert


def _to_quantity(item: Item) -> Quantity | None:
    value = plain(item)
    if is_number(value):
        return Quantity(Decimal(value), "1")
    if type(value) is str:
        found = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)(?:\s+(?:'([^']+)'|([a-z]+?)s?))?", value)
        return Quantity(Decimal(found[1]), found[2] or found[3] or "1") if found else None
    return quantity(item)


def _converted(function: Callable[[Item], Any]) -> Callable[..., Call]:
    def make(*unit: Compiled) -> Call:
        def call(run: Run, items: Items, focus: Items) -> Items:
            try:
                value = function(one(items)) if items else None
            except InvalidOperation:
                value = None
            return [] if value is None else [value]

        return call

    return make


def _convertible(function: Callable[[Item], Any]) -> Callable[..., Call]:
    convert = _converted(function)
    return lambda *unit: (
        lambda run, items, focus: [bool(convert(*unit)(run, items, focus))] if items else []
    )


def _descendants(items: Items) -> Items:
    found: Items = []
    queue = items
    while queue:
        queue = [child for item in queue for child in every_child(item)]
        found.extend(queue)
    return found


def _clock(kind: str) -> Callable[[], Call]:
    """now(), today() and timeOfDay(), fixed when the view is read."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    word = {"date": now[:10], "dateTime": now, "time": now[11:23]}[kind]
    return lambda: lambda run, items, focus: [Temporal.parse(word)]


def _negated(items: Items) -> Items:
    value = truth(items)
    return [] if value is None else [not value]


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
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Call]]] = {
    "empty": (0, 0, _whole(lambda items: [not items])),
    "exists": (0, 1, _exists),
    "all": (1, 1, _all),
    "allTrue": (0, 0, _whole(lambda items: [all(_booleans(items))])),
    "anyTrue": (0, 0, _whole(lambda items: [any(_booleans(items))])),
    "allFalse": (0, 0, _whole(lambda items: [not any(_booleans(items))])),
    "anyFalse": (0, 0, _whole(lambda items: [not all(_booleans(items))])),
    "subsetOf": (1, 1, _paired(lambda a, b: [_subset(a, b)])),
    "supersetOf": (1, 1, _paired(lambda a, b: [_subset(b, a)])),
    "count": (0, 0, _whole(lambda items: [len(items)])),
    "distinct": (0, 0, _whole(distinct)),
    "isDistinct": (0, 0, _whole(lambda items: [len(distinct(items)) == len(items)])),
    "where": (1, 1, _where),
    "select": (1, 1, _select),
    "repeat": (1, 1, _repeat),
    "ofType": (1, 1, _of_type),
    "as": (1, 1, _of_type),
    "is": (1, 1, _is),
    "not": (0, 0, _whole(_negated)),
    "single": (0, 0, _whole(lambda items: [one(items)] if items else [])),
    "first": (0, 0, _whole(lambda items: items[:1])),
    "last": (0, 0, _whole(lambda items: items[-1:])),
    "tail": (0, 0, _whole(lambda items: items[1:])),
    "skip": (1, 1, _sliced(lambda items, count: items[count:])),
    "take": (1, 1, _sliced(lambda items, count: items[:count])),
    "intersect": (1, 1, _paired(lambda a, b: distinct([x for x in a if within(x, b)]))),
    "exclude": (1, 1, _paired(lambda a, b: [x for x in a if not within(x, b)])),
    "union": (1, 1, _paired(lambda a, b: distinct([*a, *b]))),
    "combine": (1, 1, _paired(lambda a, b: [*a, *b])),
    "iif": (2, 3, _iif),
    "aggregate": (1, 2, _aggregate),
    "trace": (1, 2, _trace),
    "indexOf": (1, 1, _texts(lambda s, part: s.find(part), str)),
    "substring": (1, 2, _texts(_substring, int, int)),
    "startsWith": (1, 1, _texts(lambda s, part: s.startswith(part), str)),
    "endsWith": (1, 1, _texts(lambda s, part: s.endswith(part), str)),
    "contains": (1, 1, _texts(lambda s, part: part in s, str)),
    "upper": (0, 0, _texts(str.upper)),
    "lower": (0, 0, _texts(str.lower)),
    "trim": (0, 0, _texts(str.strip)),
    "replace": (2, 2, _texts(lambda s, old, new: s.replace(old, new), str, str)),
    "matches": (1, 1, _texts(lambda s, p: re.search(p, s, re.DOTALL) is not None, str)),
    "replaceMatches": (2, 2, _texts(lambda s, p, new: re.sub(p, new, s), str, str)),
    "length": (0, 0, _texts(len)),
    "toChars": (0, 0, _texts(list)),
    "split": (1, 1, _texts(lambda s, part: s.split(part) if part else list(s), str)),
    "join": (0, 1, _join),
    "abs": (0, 0, _numbers(abs)),
    "ceiling": (0, 0, _numbers(math.ceil)),
    "floor": (0, 0, _numbers(math.floor)),
    "truncate": (0, 0, _numbers(int)),
    "round": (0, 1, _numbers(_round)),
    "sqrt": (0, 0, _numbers(_real(math.sqrt))),
    "exp": (0, 0, _numbers(_real(math.exp))),
    "ln": (0, 0, _numbers(_real(math.log))),
    "log": (1, 1, _numbers(_real(math.log))),
    "power": (1, 1, _numbers(_power)),
    "sum": (0, 0, _whole(_folded("+"))),
    "min": (0, 0, _whole(_extreme(-1))),
    "max": (0, 0, _whole(_extreme(1))),
    "avg": (0, 0, _whole(_average)),
    "children": (0, 0, _whole(lambda items: [c for item in items for c in every_child(item)])),
    "descendants": (0, 0, _whole(_descendants)),
    "now": (0, 0, _clock("dateTime")),
    "today": (0, 0, _clock("date")),
    "timeOfDay": (0, 0, _clock("time")),
    "extension": (1, 1, _extension),
    "hasValue": (0, 0, _whole(lambda items: [len(items) == 1 and has_value(items[0])])),
    "getValue": (0, 0, _whole(lambda i: [plain(i[0])] if len(i) == 1 and has_value(i[0]) else [])),
    "getResourceKey": (0, 0, _get_resource_key),
    "getReferenceKey": (0, 1, _get_reference_key),
    "lowBoundary": (0, 1, _bounded(True)),
    "highBoundary": (0, 1, _bounded(False)),
    **{f"to{name}": (0, 1, _converted(convert)) for name, convert in _CONVERSIONS.items()},
    **{
        f"convertsTo{name}": (0, 1, _convertible(convert)) for name, convert in _CONVERSIONS.items()
    },
}
