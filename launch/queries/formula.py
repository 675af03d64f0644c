"""Reads a model's formula, a part of R's language: `num = 1 ~ age + sex * cp + offset(days)`.

    formula  = outcome "~" term ("+" term)*
    term     = factor | factor ":" factor | factor "*" factor (a * b: a + b + a:b)
    factor   = a column, bins of one (age:45/65 within parentheses), or a condition in parentheses

`offset(column)` is added to the predictor. Numbers enter as they are; for categories there is a
column for each level but the reference. There is no intercept to be named: each site keeps its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from protocol.errors import Code, WardroundError

_SPLIT = {sign: re.compile(rf"\{sign}(?![^(]*\))") for sign in ("+", "*", ":", "~")}
_FUNCTION = re.compile(r"(\w+)\((.*)\)\Z", re.S)


@dataclass(frozen=True)
class Formula:
    """outcome and factors as written; terms: each the places of its factors; offset: a column."""

    outcome: str
    factors: tuple[str, ...]
    terms: tuple[tuple[int, ...], ...]
    offset: str = ""


def parse_formula(text: str) -> Formula:
    """Raises WardroundError(CONFIGURATION) saying what cannot be read."""
    sides = _parts(text, "~")
    if len(sides) != 2 or not all(sides):
        raise _unread(text, "it has an outcome, `~` and terms")
    factors: list[str] = []
    terms: dict[tuple[int, ...], None] = {}
    offset = ""
    for part in _parts(sides[1], "+"):
        function = _FUNCTION.match(part)
        if function and function[1] == "offset":
            if offset:
                raise _unread(text, "it has more than one offset")
            offset = function[2].strip()
            continue
        if not part or part in ("0", "1", "-1"):
            raise _unread(text, "intercepts are kept at the sites, and are not named")
        names = [
            _factor(text, one) for crossed in _parts(part, "*") for one in _parts(crossed, ":")
        ]
        for name in names:
            if name not in factors:
                factors.append(name)
        groups = [[_factor(text, one) for one in _parts(c, ":")] for c in _parts(part, "*")]
        for size in range(1, len(groups) + 1):
            for chosen in combinations(groups, size):
                places = sorted({factors.index(name) for group in chosen for name in group})
                terms[tuple(places)] = None
    if not terms:
        raise _unread(text, "it has no terms")
    return Formula(sides[0], tuple(factors), tuple(terms), offset)


def _parts(text: str, sign: str) -> Sequence[str]:
    return [part.strip() for part in _SPLIT[sign].split(text)]


def _factor(text: str, part: str) -> str:
    function = _FUNCTION.match(part)
    if function:
        if function[1] != "C":
            raise _unread(text, f"{function[1]}() is not known; C() and offset() are")
        part = function[2].strip()
    elif part.startswith("(") and part.endswith(")"):
        part = part[1:-1].strip()
    if not part or "^" in part or "|" in part:
        raise _unread(text, f"{part!r} is no factor")
    return part


def _unread(text: str, why: str) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        f"The formula {text!r} cannot be read: {why}.",
        remedy="For example: 'num = 1 ~ age + sex * cp + (chol > 240) + offset(log_days)'.",
    )
