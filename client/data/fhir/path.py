"""A FHIRPath expression, compiled: tree -> a function from a focus to a collection.

Paths are compiled once and run on millions of resources, so that a tree is never walked again.
What FHIRPath knows and a table cannot need (resolve, memberOf) is refused when a view is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from client.data.fhir import functions
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
    External,
    FunctionCall,
    Indexer,
    Literal,
    MemberAccess,
    Node,
    Special,
    TypeTest,
    Unary,
    parse,
)
from client.data.fhir.values import FhirPathError, Items, Quantity, children, is_type, plain


@dataclass
class Run:
    """What an evaluation is within: the resource, the place in a forEach, and the lambda's own."""

    resource: dict[str, Any]
    row_index: int = 0
    this: Items = field(default_factory=list)
    index: int = 0
    total: Items = field(default_factory=list)


Compiled = Callable[[Run, Items], Items]


@dataclass(frozen=True)
class Path:
    """A compiled expression and the tree it came from."""

    text: str
    tree: Node
    run: Compiled

    def evaluate(self, run: Run, focus: Items) -> Items:
        """The collection. Raises FhirPathError, without a value of the resource in it."""
        try:
            return self.run(run, focus)
        except (ArithmeticError, RecursionError, ValueError, TypeError) as error:
            raise FhirPathError(f"cannot be computed ({type(error).__name__})") from None


def compile_path(text_: str, constants: Mapping[str, Items] | None = None) -> Path:
    """Raises FhirPathError for what is not FHIRPath, or for a constant that nobody defined."""
    tree = parse(text_)
    return Path(text_, tree, _Compiler(constants or {}).compile(tree))


_BUILT_IN = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}
_ROOTS: Collection[str] = ("resource", "rootResource", "context")


class _Compiler:
    def __init__(self, constants: Mapping[str, Items]) -> None:
        self._constants = constants

    def compile(self, node: Node) -> Compiled:
        if isinstance(node, Literal):
            items = [] if node.value is None else [node.value]
            return lambda run, focus: items
        if isinstance(node, MemberAccess):
            return self._member(node)
        if isinstance(node, FunctionCall):
            return self._call(node)
        if isinstance(node, Indexer):
            base, index = self.compile(node.base), self.compile(node.index)
            return lambda run, focus: functions.at(base(run, focus), index(run, focus))
        if isinstance(node, TypeTest):
            return self._type_test(node)
        if isinstance(node, Unary):
            return self._unary(node)
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, External):
            return self._external(node)
        return _special(node)

    def _member(self, node: MemberAccess) -> Compiled:
        name, hidden = node.name, "_" + node.name
        base = None if node.base is None else self.compile(node.base)
        root = base is None and name[:1].isupper()

        def run_member(run: Run, focus: Items) -> Items:
            items: Items = []
            for item in focus if base is None else base(run, focus):
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
        least, most, make = known
        if not least <= len(node.arguments) <= most:
            raise FhirPathError(f"{node.name}() does not take {len(node.arguments)} arguments")
        arguments: list[Any] = list(node.arguments)
        if node.name not in functions.TYPE_ARGUMENT:
            arguments = [self.compile(argument) for argument in node.arguments]
        call = make(*arguments)
        if base is None:
            return lambda run, focus: call(run, focus, focus)
        return lambda run, focus: call(run, base(run, focus), focus)

    def _type_test(self, node: TypeTest) -> Compiled:
        operand, kind = self.compile(node.operand), node.type
        if node.operator == "as":
            return lambda run, focus: [i for i in operand(run, focus) if is_type(i, kind)]

        def run_is(run: Run, focus: Items) -> Items:
            items = operand(run, focus)
            return [is_type(functions.one(items), kind)] if items else []

        return run_is

    def _unary(self, node: Unary) -> Compiled:
        operand = self.compile(node.operand)

        def run_unary(run: Run, focus: Items) -> Items:
            items = operand(run, focus)
            if not items or node.operator == "+":
                return items
            value = plain(functions.one(items))
            if type(value) is Quantity:
                return [Quantity(-value.value, value.unit)]
            return arithmetic("*", value, -1)

        return run_unary

    def _binary(self, node: Binary) -> Compiled:
        operator = node.operator
        left, right = self.compile(node.left), self.compile(node.right)
        combine = _combination(operator)
        if operator not in ("and", "or", "implies"):
            return lambda run, focus: combine(left(run, focus), right(run, focus))
        settled = operator == "or"  # the left side that decides alone

        def run_logic(run: Run, focus: Items) -> Items:
            first = functions.truth(left(run, focus))
            if first is settled:
                return [operator != "and"]
            result = logic(operator, first, functions.truth(right(run, focus)))
            return [] if result is None else [result]

        return run_logic

    def _external(self, node: External) -> Compiled:
        name = node.name
        if name in self._constants:
            items = self._constants[name]
            return lambda run, focus: items
        if name == "rowIndex":
            return lambda run, focus: [run.row_index]
        if name in _ROOTS:
            return lambda run, focus: [run.resource]
        if name in _BUILT_IN:
            return lambda run, focus: [_BUILT_IN[name]]
        raise FhirPathError(f"the constant %{name} is not defined")


def _special(node: Special) -> Compiled:
    if node.name == "$index":
        return lambda run, focus: [run.index]
    if node.name == "$total":
        return lambda run, focus: run.total
    return lambda run, focus: run.this if run.this else focus


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
            found = order(functions.one(a), functions.one(b))
            return [] if found is None else [found in hits]

        return ordered
    if operator == "|":
        return lambda a, b: functions.distinct([*a, *b])
    if operator == "&":
        return lambda a, b: ["".join(text(functions.one(x)) or "" for x in (a, b) if x)]
    if operator == "in":
        return lambda a, b: [functions.within(functions.one(a), b)] if a else []
    if operator == "contains":
        return lambda a, b: [functions.within(functions.one(b), a)] if b else []
    if operator in ("xor", "and", "or", "implies"):

        def decide(a: Items, b: Items) -> Items:
            result = logic(operator, functions.truth(a), functions.truth(b))
            return [] if result is None else [result]

        return decide

    def compute(a: Items, b: Items) -> Items:
        return arithmetic(operator, functions.one(a), functions.one(b)) if a and b else []

    return compute
