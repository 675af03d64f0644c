"""FHIRPath's operators on single values (FHIRPath 2.0.0, sections 6.1 to 6.6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, DivisionByZero, InvalidOperation
from typing import Any

from client.data.fhir.temporal import Temporal
from client.data.fhir.values import (
    FhirPathError,
    Item,
    Items,
    Quantity,
    is_number,
    plain,
    quantity,
    temporal,
)

_LIKE = {
    "year": "a", "month": "mo", "week": "wk", "day": "d", "hour": "h", "minute": "min",
    "second": "s", "millisecond": "ms",
}  # fmt: skip


def equal(left: Item, right: Item) -> bool | None:
    """left = right; None where dates or times of different precision leave it open."""
    a, b = plain(left), plain(right)
    if type(a) is str and type(b) is str:
        if a == b:
            return True
        if not (a[:1].isdigit() and b[:1].isdigit()):
            return False  # neither can be a date or time: most comparisons end here
    if type(a) is bool or type(b) is bool:
        return type(a) is type(b) and a == b
    if is_number(a) and is_number(b):
        return bool(a == b)
    earlier, later = temporal(left), temporal(right)
    if earlier is not None and later is not None and not _may_be_codes(left, right):
        sign = earlier.compare(later)
        if sign is None:
            return None if (earlier.kind == "time") == (later.kind == "time") else False
        return sign == 0
    if type(a) is Quantity or type(b) is Quantity:
        mine, theirs = quantity(left), quantity(right)
        if mine is None or theirs is None:
            return False
        return None if _unit(mine) != _unit(theirs) else mine.value == theirs.value
    if type(a) is dict and type(b) is dict:
        return _deep(a, b, equal)
    return type(a) is type(b) and bool(a == b)


def _may_be_codes(*texts: Item) -> bool:
    """Two texts of unknown type that look like days may be codes: 2345 is also a year."""
    return all(type(item) is str and "T" not in item and ":" not in item for item in texts)


def _deep(a: dict[str, Any], b: dict[str, Any], same: Callable[[Any, Any], bool | None]) -> bool:
    if a.keys() != b.keys():
        return False
    for key, value in a.items():
        mine, theirs = (v if type(v) is list else [v] for v in (value, b[key]))
        if len(mine) != len(theirs) or not all(map(same, mine, theirs)):
            return False
    return True


def equal_collections(left: Items, right: Items) -> bool | None:
    """left = right of two collections: pairwise, in order; None where either is empty."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    pairs = list(map(equal, left, right))
    return None if None in pairs and False not in pairs else all(pairs)


def equivalent(left: Item, right: Item) -> bool:
    """left ~ right: strings by case and spaces, numbers to the lesser precision."""
    a, b = plain(left), plain(right)
    if type(a) is str and type(b) is str:
        if a == b:
            return True
        earlier, later = temporal(left), temporal(right)
        if earlier is not None and later is not None:
            return earlier.compare(later) == 0
        return " ".join(a.lower().split()) == " ".join(b.lower().split())
    if is_number(a) and is_number(b) and Decimal in (type(a), type(b)):
        places = min(_places(a), _places(b))
        return round(Decimal(a), places) == round(Decimal(b), places)
    if type(a) is dict and type(b) is dict:
        return _deep(a, b, equivalent)
    return equal(left, right) is True


def _places(number: int | Decimal) -> int:
    return max(0, -int(Decimal(number).normalize().as_tuple().exponent))


def equivalent_collections(left: Items, right: Items) -> bool:
    """left ~ right of two collections, in any order."""
    rest = list(right)
    for item in left:
        match = next((k for k, other in enumerate(rest) if equivalent(item, other)), None)
        if match is None:
            return False
        del rest[match]
    return not rest


def order(left: Item, right: Item) -> int | None:
    """-1, 0 or 1; None where precision or units leave it open. Raises FhirPathError."""
    a, b = plain(left), plain(right)
    earlier, later = temporal(left), temporal(right)
    if earlier is not None and later is not None:
        return earlier.compare(later)
    mine, theirs = quantity(left), quantity(right)
    if mine is not None and theirs is not None:
        if _unit(mine) != _unit(theirs):
            return None
        a, b = mine.value, theirs.value
    if (is_number(a) and is_number(b)) or (type(a) is str and type(b) is str):
        return int(a > b) - int(a < b)
    if (earlier is None) != (later is None) and str in (type(a), type(b)):
        return None  # a text that is no date
    raise FhirPathError("two values of different types cannot be compared")


def _unit(value: Quantity) -> str:
    return _LIKE.get(value.unit, value.unit)


def arithmetic(operator: str, left: Item, right: Item) -> Items:
    """+ - * / div mod; empty on division by zero. Raises FhirPathError for other types."""
    a, b = plain(left), plain(right)
    if is_number(a) and is_number(b):
        return _numbers(operator, a, b)
    if operator == "+" and type(a) is str and type(b) is str:
        by = quantity(right)
        return [a + b] if by is None else []
    moment, by = temporal(left), quantity(right)
    if operator in "+-" and moment is not None and by is not None:
        moved = moment.plus(by.value if operator == "+" else -by.value, by.unit)
        return [] if moved is None else [moved]
    mine = quantity(left)
    if mine is not None and by is not None and operator in "+-" and _unit(mine) == _unit(by):
        total = mine.value + (by.value if operator == "+" else -by.value)
        return [Quantity(total, mine.unit)]
    if mine is not None and is_number(b) and operator in "*/":
        return [Quantity(Decimal(n), mine.unit) for n in _numbers(operator, mine.value, b)]
    raise FhirPathError(f"{operator} does not fit the types of its two sides")


def _numbers(operator: str, a: int | Decimal, b: int | Decimal) -> Items:
    try:
        if operator in ("/", "div", "mod"):
            if not b:
                return []
            if operator == "mod":
                whole = type(a) is int and type(b) is int
                return [int(math.fmod(a, b)) if whole else Decimal(a) % Decimal(b)]
            quotient = Decimal(a) / Decimal(b)
            return [quotient if operator == "/" else int(quotient)]
        if operator == "*":
            return [a * b]
        return [a + b if operator == "+" else a - b]
    except (InvalidOperation, DivisionByZero, OverflowError):
        return []


def text(item: Item) -> str | None:
    """As toString() gives it; None where it is no primitive."""
    value = plain(item)
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is str or type(value) is int or type(value) is Temporal:
        return str(value)
    if type(value) is Decimal:
        return f"{value:f}"
    amount = quantity(item)
    if amount is not None:
        unit = amount.unit if amount.unit in _LIKE else f"'{amount.unit}'"
        return f"{amount.value:f} {unit}"
    return None


def logic(operator: str, a: bool | None, b: bool | None) -> bool | None:
    """and or xor implies, in three values (None is unknown)."""
    if operator == "implies":
        return logic("or", None if a is None else not a, b)
    decisive = {"and": False, "or": True}.get(operator)
    if decisive is not None and decisive in (a, b):
        return decisive
    return None if a is None or b is None else a != b if operator == "xor" else not decisive
