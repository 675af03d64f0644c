"""A FHIRPath expression, compiled: tree -> a function from a focus to a collection.

Paths are compiled once and run on millions of resources, so that a tree is never walked again.
What FHIRPath knows and a table cannot need (resolve, memberOf) is refused when a view is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from client.data.fhir import functions
from client.data.fhir.functions import Compiled, Scope
from client.data.fhir.operators import (
    arithmetic,
    equal_collections,
    equivalent_collections,
    logic,
    order,
    text,
)
from client.data.fhir.syntax import (
    Binary,
    FunctionCall,
    Indexer,
    Literal,
    MemberAccess,
    Node,
    Variable,
    parse,
    type_name,
)
from client.data.fhir.values import FhirPathError, Items, children, is_type


@dataclass(frozen=True)
class Path:
    """A compiled expression and the tree it came from."""

    text: str
    tree: Node
    compiled: Compiled

    def evaluate(self, scope: Scope, focus: Items) -> Items:
        """The collection. Raises FhirPathError, without a value of the resource in it."""
        try:
            return self.compiled(scope, focus)
        except (ArithmeticError, RecursionError, ValueError, TypeError) as error:
            raise FhirPathError(f"cannot be computed ({type(error).__name__})") from None


_CODE_SYSTEMS: dict[str, Items] = {
    "ucum": ["http://unitsofmeasure.org"],
    "sct": ["http://snomed.info/sct"],
    "loinc": ["http://loinc.org"],
}


def compile_path(expression: str, constants: Mapping[str, Items]) -> Path:
    """Raises FhirPathError for what is not FHIRPath, or for a constant that nobody defined."""
    tree = parse(expression)
    return Path(expression, tree, _Compiler({**_CODE_SYSTEMS, **constants}).compile(tree))


class _Compiler:
    def __init__(self, constants: Mapping[str, Items]) -> None:
        self._constants = constants

    def compile(self, node: Node) -> Compiled:
        match node:
            case Literal(value):
                items = [] if value is None else [value]
                return lambda scope, focus: items
            case MemberAccess():
                return self._member(node)
            case FunctionCall():
                return self._call(node)
            case Indexer():
                base, index = self.compile(node.base), self.compile(node.index)
                return lambda scope, focus: functions.indexed(
                    base(scope, focus), index(scope, focus)
                )
            case Binary():
                return self._binary(node)
            case Variable(name):
                return self._variable(name)

    def _member(self, node: MemberAccess) -> Compiled:
        name, hidden = node.name, "_" + node.name
        base = None if node.base is None else self.compile(node.base)
        root = base is None and name[:1].isupper()

        def run_member(scope: Scope, focus: Items) -> Items:
            items: Items = []
            for item in focus if base is None else base(scope, focus):
                if type(item) is dict:
                    if root and is_type(item, name):
                        items.append(item)
                        continue
                    value = item.get(name)
                    if value is not None and hidden not in item and type(value) is not list:
                        items.append(value)
                        continue
                items.extend(children(item, name))
            return items

        return run_member

    def _call(self, node: FunctionCall) -> Compiled:
        base = None if node.base is None else self.compile(node.base)
        known = functions.FUNCTIONS.get(node.name)
        if known is None:
            raise FhirPathError(f"the function {node.name}() is not known")
        min_arguments, max_arguments, function = known
        if not min_arguments <= len(node.arguments) <= max_arguments:
            raise FhirPathError(f"{node.name}() does not take {len(node.arguments)} arguments")
        prepare = type_name if node.name in functions.TYPE_ARGUMENT else self.compile
        arguments: list[Any] = [prepare(argument) for argument in node.arguments]
        if base is None:
            return lambda scope, focus: function(scope, focus, focus, *arguments)
        return lambda scope, focus: function(scope, base(scope, focus), focus, *arguments)

    def _binary(self, node: Binary) -> Compiled:
        operator = node.operator
        left, right = self.compile(node.left), self.compile(node.right)
        combine = _combination(operator)
        if operator not in ("and", "or", "implies"):
            return lambda scope, focus: combine(left(scope, focus), right(scope, focus))
        decisive = operator == "or"  # a left side of this value decides alone

        def run_logic(scope: Scope, focus: Items) -> Items:
            first = left(scope, focus)
            if functions.as_boolean(first) is decisive:
                return [operator != "and"]
            return combine(first, right(scope, focus))

        return run_logic

    def _variable(self, name: str) -> Compiled:
        if name[1:] in self._constants and name[0] == "%":
            items = self._constants[name[1:]]
            return lambda scope, focus: items
        match name:
            case "$index":
                return lambda scope, focus: [scope.index]
            case "$total":
                return lambda scope, focus: scope.total
            case "$this":
                return lambda scope, focus: scope.this if scope.this else focus
            case "%rowIndex":
                return lambda scope, focus: [scope.row_index]
            case "%resource" | "%rootResource" | "%context":
                return lambda scope, focus: [scope.resource]
        raise FhirPathError(f"the constant {name} is not defined")


def _combination(operator: str) -> Callable[[Items, Items], Items]:
    """A binary operator on two collections."""
    if operator in ("=", "!="):
        wanted = operator == "="

        def compare(a: Items, b: Items) -> Items:
            same = equal_collections(a, b)
            return [] if same is None else [same is wanted]

        return compare
    if operator in ("~", "!~"):
        return lambda a, b: [equivalent_collections(a, b) is (operator == "~")]
    if operator in ("<", ">", "<=", ">="):
        hits = {"<": (-1,), ">": (1,), "<=": (-1, 0), ">=": (1, 0)}[operator]

        def ordered(a: Items, b: Items) -> Items:
            if not a or not b:
                return []
            sign = order(functions.singleton(a), functions.singleton(b))
            return [] if sign is None else [sign in hits]

        return ordered
    if operator == "|":
        return lambda a, b: functions.distinct([*a, *b])
    if operator == "&":
        return lambda a, b: ["".join(text(functions.singleton(x)) or "" for x in (a, b) if x)]
    if operator == "in":
        return lambda a, b: [functions.is_among(functions.singleton(a), b)] if a else []
    if operator == "contains":
        return lambda a, b: [functions.is_among(functions.singleton(b), a)] if b else []
    if operator in ("xor", "and", "or", "implies"):

        def decide(a: Items, b: Items) -> Items:
            result = logic(operator, functions.as_boolean(a), functions.as_boolean(b))
            return [] if result is None else [result]

        return decide

    def compute(a: Items, b: Items) -> Items:
        return (
            arithmetic(operator, functions.singleton(a), functions.singleton(b)) if a and b else []
        )

    return compute
