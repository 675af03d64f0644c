"""A condition as people write it -> the tree that travels.

    age >= 60 and sex = 0 and not (chol is missing or cp in (1, 2))

or, and, not, parentheses; column < <= > >= = != number; column between number and number; column
= != category; column [not] in (category, ...); column is [not] missing. Words of the language in
any case; 'quoted' what is no plain word.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from protocol.errors import Code, WardroundError
from protocol.study.condition import AllOf, AnyOf, Comparison, Condition, IsMissing, IsOneOf, Not
from tasks.query_schema import find, require_category, require_kind
from tasks.schema import Column, Schema

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<sign><=|>=|!=|<>|==|[<>=(),])"
    r"|(?P<word>[A-Za-z0-9_.+\-]+))"
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "missing", "between", "null"})
_LIKE: dict[str, Any] = {"<>": "!=", "==": "="}
_EXAMPLE = "For example: age >= 60 and sex = 0 and not (chol is missing)."


def parse(text: str, schema: Schema) -> Condition:
    """Raises WardroundError: CONFIGURATION where it is no condition, REFUSED_STUDY naming what the
    schema has not."""
    reader = _Reader(_tokens(text), schema)
    condition = reader.either()
    if reader.left:
        raise _wrong(f"after {reader.before!r} I did not expect {reader.left!r}")
    return condition


def _tokens(text: str) -> list[str]:
    words, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(f"{text[at:].strip()[:20]!r} is no part of a condition")
        words.append(match.group().strip())
        at = match.end()
    if not words:
        raise _wrong("it is empty")
    return words


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[str], schema: Schema) -> None:
        self._tokens, self._schema, self._at, self._depth = tokens, schema, 0, 0

    @property
    def left(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    @property
    def before(self) -> str:
        return self._tokens[self._at - 1] if self._at else ""

    def either(self) -> Condition:
        parts = self._joined("or", self._both)
        return parts[0] if len(parts) == 1 else AnyOf(of=tuple(parts))

    def _both(self) -> Condition:
        parts = self._joined("and", self._one)
        return parts[0] if len(parts) == 1 else AllOf(of=tuple(parts))

    def _joined(self, word: str, part: Callable[[], Condition]) -> list[Condition]:
        parts = [part()]
        while self._skip(word):
            parts.append(part())
        return parts

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > 100:
            raise _wrong("it is nested too deeply")
        try:
            if self._skip("not"):
                return Not(of=self._one())
            if self._skip("("):
                inner = self.either()
                self._expect(")")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        column = find(self._schema, self._word("a column"))
        if self._skip("is"):
            negated = self._skip("not")
            if not self._skip("null"):
                self._expect("missing")
            missing = IsMissing(column=column.name)
            return Not(of=missing) if negated else missing
        if self._skip("between"):
            low = self._number(column)
            self._expect("and")
            high = self._number(column)
            return AllOf(
                of=(
                    Comparison(column=column.name, order=">=", value=low),
                    Comparison(column=column.name, order="<=", value=high),
                )
            )
        negated = self._skip("not")
        if self._skip("in"):
            self._expect("(")
            among = [self._category(column)]
            while self._skip(","):
                among.append(self._category(column))
            self._expect(")")
            found_in = IsOneOf(column=column.name, categories=tuple(among))
            return Not(of=found_in) if negated else found_in
        if negated:
            raise _wrong(f"after 'not' I expected 'in', not {self.left!r}")
        return self._compared(column)

    def _compared(self, column: Column) -> Condition:
        sign: Any = _LIKE.get(self.left, self.left)
        if sign not in ("<", "<=", ">", ">=", "=", "!="):
            raise _wrong(f"after the column {column.name} I expected a comparison")
        self._at += 1
        if column.kind == "number":
            return Comparison(column=column.name, order=sign, value=self._number(column))
        if sign not in ("=", "!="):
            require_kind(column, "number")
        same = IsOneOf(column=column.name, categories=(self._category(column),))
        return same if sign == "=" else Not(of=same)

    def _number(self, column: Column) -> float:
        require_kind(column, "number")
        word = self._word(f"a number ({column.unit})")
        try:
            value = float(word)
        except ValueError:
            raise _wrong(f"{word!r} is no number to compare {column.name} with") from None
        if not abs(value) <= 1e15:
            raise _wrong(f"{word!r} is no number to compare {column.name} with")
        return value

    def _category(self, column: Column) -> str:
        require_kind(column, "category")
        if self.left.startswith("'"):
            self._at += 1
            word = self.before[1:-1].replace("''", "'")
        else:
            word = self._word("a category")
        require_category(column, word)
        return word

    def _word(self, what: str) -> str:
        word = self.left
        if not re.fullmatch(r"[A-Za-z0-9_.+\-]+", word) or word.lower() in _KEYWORDS:
            where = f"after {self.before!r} " if self.before else ""
            raise _wrong(f"{where}I expected {what}" + (f", not {word!r}" if word else ""))
        self._at += 1
        return word

    def _skip(self, word: str) -> bool:
        if self.left.lower() != word:
            return False
        self._at += 1
        return True

    def _expect(self, word: str) -> None:
        if not self._skip(word):
            got = f"not {self.left!r}" if self.left else "and it ended"
            raise _wrong(f"after {self.before!r} I expected {word!r}, {got}")


def _wrong(why: str) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION, f"The condition cannot be read: {why}.", remedy=_EXAMPLE
    )
