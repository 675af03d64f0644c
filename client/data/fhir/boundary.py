"""lowBoundary() and highBoundary(): the limits of what a value of limited precision may mean.

FHIRPath 3.0.0 (trial use), "Utility functions": for 1.0 they are 0.95 and 1.05; for 2014 the first
and the last day; for a dateTime without an offset they use the most extreme time zones too.
"""

from __future__ import annotations

from decimal import Decimal

from client.data.fhir.values import (
    Item,
    Items,
    Quantity,
    children,
    is_number,
    is_type,
    plain,
    quantity,
    temporal,
)

_DECIMAL_DIGITS = 8
_MAX_DECIMAL_DIGITS = 28


def boundary(item: Item, low: bool, digits: int | None) -> Items:
    """Of a number, quantity, Period, date, dateTime or time; empty for all else, and where `digits`
    (decimals of a number; 4, 6, 8, 10, 12, 14 or 17 of a date or dateTime) is out of range."""
    value, amount = plain(item), quantity(item)
    if is_number(value) or amount is not None:
        bound = _number(Decimal(value) if amount is None else amount.value, low, digits)
        return [] if bound is None else [bound if amount is None else Quantity(bound, amount.unit)]
    if is_type(item, "Period"):
        ends = children(item, "start" if low else "end")
        return boundary(ends[0], low, digits) if ends else []
    moment = temporal(item)
    if moment is None:
        return []
    full = moment.boundary(low)
    if digits is None:
        return [full]
    cut = full.truncated(digits)
    return [] if cut is None else [cut]


def _number(value: Decimal, low: bool, digits: int | None) -> Decimal | None:
    places = _DECIMAL_DIGITS if digits is None else digits
    if not 0 <= places <= _MAX_DECIMAL_DIGITS:
        return None
    half = Decimal(5).scaleb(min(0, int(value.as_tuple().exponent)) - 1)
    bound = value - half if low else value + half
    rounding = "ROUND_FLOOR" if low else "ROUND_CEILING"
    return bound.quantize(Decimal(1).scaleb(-places), rounding=rounding)
