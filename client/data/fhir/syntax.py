"""FHIRPath's syntax: text -> tree (HL7 FHIRPath 2.0.0, section 6 and annex B), a Pratt parser.

Supported: everything but instance selectors. What a tree means stands in `client.data.fhir.path`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from client.data.fhir.temporal import Temporal
from client.data.fhir.values import FhirPathError, Quantity


@dataclass(frozen=True)
class Literal:
    """A constant in the text; None is the empty collection {}."""

    value: bool | int | Decimal | str | Temporal | Quantity | None


@dataclass(frozen=True)
class MemberAccess:
    """base.name; without a base, of the focus."""

    base: Node | None
    name: str


@dataclass(frozen=True)
class FunctionCall:
    """base.name(arguments); without a base, on the focus."""

    base: Node | None
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Indexer:
    """base[index]."""

    base: Node
    index: Node


@dataclass(frozen=True)
class Binary:
    """left operator right."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Variable:
    """$this, $index or $total, or a constant such as %resource: the name with its sign."""

    name: str


Node = Literal | MemberAccess | FunctionCall | Indexer | Binary | Variable

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<temporal>@T\d\d(:\d\d(:\d\d(\.\d+)?)?)?
        |@\d{4}(-\d\d(-\d\d)?)?(T(\d\d(:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?)?)?)
    |(?P<number>\d+(\.\d+)?)
    |(?P<string>'(?:[^'\\]|\\.)*')
    |(?P<delimited>`(?:[^`\\]|\\.)*`)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<special>\$(?:this|index|total)\b)
    |(?P<symbol><=|>=|!=|!~|[-+*/&|=~<>()\[\]{}.,%])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"'": "'", '"': '"', "`": "`", "\\": "\\", "/": "/", "f": "\f", "n": "\n", "r": "\r",
            "t": "\t"}  # fmt: skip
_PRECEDENCE = {
    "implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "contains": 4, "=": 5, "~": 5, "!=": 5,
    "!~": 5, "<": 6, ">": 6, "<=": 6, ">=": 6, "|": 7, "is": 8, "as": 8, "+": 9, "-": 9, "&": 9,
    "*": 10, "/": 10, "div": 10, "mod": 10,
}  # fmt: skip
_UNARY = 11
CALENDAR = ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
_MAX_DEPTH = 60


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Node:
    """The tree of an expression. Raises FhirPathError naming the place."""
    parser = _Parser(_tokens(text))
    tree = parser.expression(0)
    if parser.next.kind != "end":
        raise FhirPathError(f"unexpected text at character {parser.next.at + 1}")
    return tree


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FhirPathError(f"unexpected text at character {at + 1}")
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match[0], at))
        at = match.end()
    return [*tokens, _Token("end", "", len(text))]


def _unescaped(text: str) -> str:
    def character(escape: re.Match[str]) -> str:
        code = escape[1]
        if code.startswith("u"):
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise FhirPathError("a string has an unknown escape")
        return _ESCAPES[code]

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", character, text[1:-1], flags=re.DOTALL)


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, text: str | None = None) -> _Token:
        token = self.next
        if text is not None and (token.text != text or token.kind not in ("symbol", "word")):
            raise FhirPathError(f"{text} is missing at character {token.at + 1}")
        self._at += 1
        return token

    def _accept(self, text: str) -> bool:
        if self.next.kind == "symbol" and self.next.text == text:
            self._at += 1
            return True
        return False

    def expression(self, min_precedence: int) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FhirPathError("is nested too deeply")
        left = self._prefix()
        while self.next.kind in ("symbol", "word"):
            operator = self.next.text
            precedence = _PRECEDENCE.get(operator, 0)
            if precedence <= min_precedence:
                break
            self._take()
            if operator in ("is", "as"):
                left = FunctionCall(left, operator, (self._type(),))
            else:
                left = Binary(operator, left, self.expression(precedence))
        self._depth -= 1
        return left

    def _prefix(self) -> Node:
        if self.next.kind != "symbol" or self.next.text not in "+-":
            return self._postfix(self._term())
        sign = self._take().text
        operand = self.expression(_UNARY - 1)
        return Binary("*", operand, Literal(-1)) if sign == "-" else operand

    def _postfix(self, left: Node) -> Node:
        while self.next.kind == "symbol" and self.next.text in (".", "["):
            if self._accept("["):
                left = Indexer(left, self.expression(0))
                self._take("]")
            else:
                self._take(".")
                left = self._invocation(left)
        return left

    def _invocation(self, base: Node | None) -> Node:
        token = self._take()
        if token.kind == "special" and base is not None:
            raise FhirPathError(f"{token.text} cannot follow a dot")
        if token.kind == "delimited":
            name = _unescaped(token.text)
        elif token.kind == "word":
            name = token.text
        else:
            raise FhirPathError(f"a name is missing at character {token.at + 1}")
        if not self._accept("("):
            return MemberAccess(base, name)
        arguments: list[Node] = []
        while not self._accept(")"):
            if arguments:
                self._take(",")
            arguments.append(self.expression(0))
        return FunctionCall(base, name, tuple(arguments))

    def _term(self) -> Node:
        token = self.next
        if token.kind == "number":
            return self._number()
        if token.kind in ("word", "delimited"):
            if token.text in ("true", "false") and token.kind == "word":
                self._take()
                return Literal(token.text == "true")
            return self._invocation(None)
        self._take()
        if token.kind == "string":
            return Literal(_unescaped(token.text))
        if token.kind == "temporal":
            value = Temporal.parse(token.text[1:])
            if value is None:
                raise FhirPathError("a date or time is not valid")
            return Literal(value)
        if token.kind == "special":
            return Variable(token.text)
        if token.text == "(":
            inner = self.expression(0)
            self._take(")")
            return inner
        if token.text == "{":
            self._take("}")
            return Literal(None)
        if token.text == "%":
            name = self._take()
            if name.kind == "word":
                return Variable("%" + name.text)
            if name.kind in ("string", "delimited"):
                return Variable("%" + _unescaped(name.text))
        raise FhirPathError(f"unexpected text at character {token.at + 1}")

    def _number(self) -> Node:
        text = self._take().text
        value = Decimal(text) if "." in text else int(text)
        token = self.next
        if token.kind == "string":
            self._take()
            return Literal(Quantity(Decimal(value), _unescaped(token.text)))
        if token.kind == "word" and token.text.removesuffix("s") in CALENDAR:
            self._take()
            return Literal(Quantity(Decimal(value), token.text.removesuffix("s")))
        return Literal(value)

    def _type(self) -> Node:
        name: Node | None = None
        while name is None or self._accept("."):
            part = self._take()
            if part.kind not in ("word", "delimited"):
                raise FhirPathError("a type is missing after is or as")
            name = MemberAccess(name, part.text.strip("`"))
        return name


def type_name(node: Node) -> str:
    """The argument of ofType(), is() or as(): a type such as Patient, FHIR.Patient or 'Patient'."""
    if isinstance(node, Literal) and isinstance(node.value, str):
        return node.value
    if isinstance(node, MemberAccess):
        if node.base is None:
            return node.name
        return f"{type_name(node.base)}.{node.name}"
    raise FhirPathError("a type is wanted as an argument")
