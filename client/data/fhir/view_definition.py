"""ViewDefinition of SQL on FHIR v2: its JSON, checked and compiled, and the rows it makes.

sql-on-fhir.org, "StructureDefinition: View Definition". Whatever is wrong with a definition itself
is found before the first resource is read.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path as File
from typing import Any

from client.data.fhir.functions import Scope
from client.data.fhir.path import Path, compile_path
from client.data.fhir.syntax import Binary, FunctionCall, Literal, MemberAccess, Variable
from client.data.fhir.values import INTEGERS, PRIMITIVES, Element, FhirPathError, Items, plain
from client.data.sources.session import unreadable
from protocol.errors import Code, WardroundError

Row = tuple[Any, ...]
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BOOLEAN = ("and", "or", "xor", "implies", "=", "!=", "~", "!~", "<", ">", "<=", ">=", "in",
            "contains")  # fmt: skip
_RETURNS = {
    "exists": "boolean", "empty": "boolean", "not": "boolean", "all": "boolean",
    "allTrue": "boolean", "anyTrue": "boolean", "startsWith": "boolean", "endsWith": "boolean",
    "contains": "boolean", "matches": "boolean", "hasValue": "boolean", "is": "boolean",
    "count": "integer", "length": "integer", "indexOf": "integer", "join": "string",
    "getResourceKey": "string", "getReferenceKey": "string", "toString": "string",
    "toInteger": "integer", "toDecimal": "decimal", "toBoolean": "boolean",
}  # fmt: skip
_MAX_ROWS = 1_000_000
"""Of one resource: two long lists side by side multiply."""


@dataclass(frozen=True)
class ViewColumn:
    """One column. type: FHIR's, "string" where unknown; tag: the SQL type that is wanted."""

    name: str
    path: Path
    type: str
    collection: bool
    tag: str | None = None
    declared: bool = True

    @property
    def counts_rows(self) -> bool:
        """Whether it is the row's place, which a row has that stands for no element too."""
        return self.path.tree == Variable("%rowIndex")

    @property
    def refers_to(self) -> str | None:
        """ "*" or the type of resource, where the column is a reference's key."""
        match self.path.tree:
            case FunctionCall(name="getReferenceKey", arguments=()):
                return "*"
            case FunctionCall(
                name="getReferenceKey", arguments=(MemberAccess(name=kind) | Literal(value=kind),)
            ):
                return str(kind or "*")
        return None


@dataclass(frozen=True)
class Selection:
    """One `select`: its columns, those nested in it, and a union; for each item of its paths."""

    columns: tuple[ViewColumn, ...]
    selects: tuple[Selection, ...]
    unions: tuple[Selection, ...]
    mode: str | None
    paths: tuple[Path, ...]

    @property
    def all_columns(self) -> tuple[ViewColumn, ...]:
        """In the order of the output: its own, the nested ones', the union's."""
        nested = tuple(column for select in self.selects for column in select.all_columns)
        union = self.unions[0].all_columns if self.unions else ()
        return (*self.columns, *nested, *union)


@dataclass(frozen=True)
class ViewDefinition:
    """A definition ready to run. source: what to name in an error."""

    source: str
    name: str
    resource: str
    select: Selection
    where: tuple[Path, ...]

    @property
    def columns(self) -> tuple[ViewColumn, ...]:
        return self.select.all_columns

    def rows(self, resource: dict[str, Any]) -> Iterator[Row]:
        """The rows of one resource; none of another type than the view's.

        Raises FhirPathError naming the path, never a value.
        """
        if resource.get("resourceType") != self.resource:
            return
        scope = Scope(resource)
        if all(_holds(condition, scope, resource) for condition in self.where):
            yield from _rows(self.select, scope, [resource])


def _holds(condition: Path, scope: Scope, resource: dict[str, Any]) -> bool:
    values = [plain(item) for item in _evaluate(condition, scope, [resource])]
    if values not in ([], [True], [False]) or any(type(value) is not bool for value in values):
        raise FhirPathError(f"where `{condition.text}` is neither true nor false")
    return values == [True]


def _evaluate(path: Path, scope: Scope, focus: Items) -> Items:
    try:
        return path.evaluate(scope, focus)
    except FhirPathError as error:
        raise FhirPathError(f"`{path.text}`: {error}") from None


def _rows(select: Selection, scope: Scope, focus: Items) -> list[Row]:
    if select.mode is None:
        return _product(select, scope, focus)
    if select.mode == "repeat":
        items = _repeated(select.paths, scope, focus)
    else:
        items = _evaluate(select.paths[0], scope, focus)
    if not items and select.mode == "forEachOrNull":
        return [tuple(0 if column.counts_rows else None for column in select.all_columns)]
    before, rows = scope.row_index, []
    for scope.row_index, item in enumerate(items):
        rows.extend(_product(select, scope, [item]))
    scope.row_index = before
    return rows


def _repeated(paths: tuple[Path, ...], scope: Scope, focus: Items) -> Items:
    """Every item that the paths reach again and again, each before what it leads to."""
    reached: Items = []
    pending = [x for path in paths for x in _evaluate(path, scope, focus)][::-1]
    while pending:
        item = pending.pop()
        reached.append(item)
        if len(reached) > _MAX_ROWS:
            raise FhirPathError("repeat does not end")
        pending.extend([x for path in paths for x in _evaluate(path, scope, [item])][::-1])
    return reached


def _product(select: Selection, scope: Scope, focus: Items) -> list[Row]:
    """Own columns, nested selects and the union of one item, each with each."""
    own = tuple(_cell(column, scope, focus) for column in select.columns)
    if not select.selects and not select.unions:
        return [own]
    parts = [_rows(nested, scope, focus) for nested in select.selects]
    if select.unions:
        parts.append([row for branch in select.unions for row in _rows(branch, scope, focus)])
    if math.prod(len(part) for part in parts) > _MAX_ROWS:
        raise FhirPathError("several forEach side by side make too many rows")
    return [(*own, *(cell for row in rows for cell in row)) for rows in product(*parts)]


def _cell(column: ViewColumn, scope: Scope, focus: Items) -> Any:
    items = _evaluate(column.path, scope, focus)
    if column.collection:
        return [plain(item) for item in items]
    if len(items) > 1:
        raise FhirPathError(
            f"`{column.path.text}` has several values, and column {column.name} is no collection"
        )
    return plain(items[0]) if items else None


def sql_type(kind: str) -> str:
    """The SQL type of a FHIR type. Dates are texts, since they may end at the month or the year."""
    if kind in INTEGERS:
        return "BIGINT"
    return {"boolean": "BOOLEAN", "decimal": "DOUBLE"}.get(kind, "VARCHAR")


def load(path: File) -> list[ViewDefinition]:
    """The definition in a file, or those of a folder's *.json.

    Raises WardroundError: NO_DATA, CONFIGURATION.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise WardroundError(
            Code.NO_DATA,
            f"{path} holds no ViewDefinition (*.json).",
            remedy="Correct fhir.views in site.yaml.",
        )
    views = []
    for file in files:
        try:
            document = json.loads(file.read_bytes())
        except OSError as error:
            raise unreadable(file, error, "Correct fhir.views in site.yaml.") from None
        except (ValueError, RecursionError):
            raise WardroundError(
                Code.CONFIGURATION, f"{file} is not JSON.", remedy="Correct the file."
            ) from None
        views.append(view_definition(document, str(file), file.stem))
    return views


def view_definition(document: Any, source: str, name: str = "view") -> ViewDefinition:
    """Checks and compiles. name: for a definition that has none.

    Raises WardroundError(CONFIGURATION) naming the source and the element.
    """
    try:
        return _view(document, source, name)
    except (FhirPathError, RecursionError) as error:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{source} is not a valid ViewDefinition: {str(error) or 'nested too deeply'}.",
            remedy="Compare it with sql-on-fhir.org/ig/latest/StructureDefinition-ViewDefinition.",
        ) from None


def _view(document: Any, source: str, name: str) -> ViewDefinition:
    if type(document) is not dict:
        raise FhirPathError("it is no JSON object")
    resource = document.get("resource")
    if type(resource) is not str or not re.fullmatch(r"[A-Z][A-Za-z]*", resource):
        raise FhirPathError("`resource` does not name a type of resource")
    named = document.get("name", name)
    if type(named) is not str or not _NAME.fullmatch(named):
        raise FhirPathError("`name` is not letters, digits and _")
    constants = _constants(_list(document, "constant", "the view"))
    selects = _list(document, "select", "the view")
    if not selects:
        raise FhirPathError("`select` is missing")
    select = _selection({"select": selects}, constants, "select")
    columns = Counter(column.name for column in select.all_columns)
    if not columns:
        raise FhirPathError("it has no column")
    if repeated := [name for name, count in columns.items() if count > 1]:
        raise FhirPathError(f"two columns are named {repeated[0]}")
    conditions = _list(document, "where", "the view")
    if any(type(condition) is not dict for condition in conditions):
        raise FhirPathError("`where` holds no object with a `path`")
    where = tuple(_path(condition.get("path"), constants, "where") for condition in conditions)
    return ViewDefinition(source, named, resource, select, where)


def _object(document: Any, what: str) -> dict[str, Any]:
    if type(document) is not dict:
        raise FhirPathError(f"{what} is no object")
    return document


def _name(document: Mapping[str, Any], what: str) -> str:
    name = document.get("name")
    if type(name) is not str or not _NAME.fullmatch(name):
        raise FhirPathError(f"{what} has no valid `name`")
    return name


def _list(document: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = document.get(key, [])
    if type(value) is not list:
        raise FhirPathError(f"`{key}` of {where} is no list")
    return value


def _constants(declared: list[Any]) -> Mapping[str, Items]:
    constants: dict[str, Items] = {}
    for constant in declared:
        name = _name(constant if type(constant) is dict else {}, "a constant")
        values = {key: value for key, value in constant.items() if key.startswith("value")}
        if len(values) != 1:
            raise FhirPathError(f"the constant {name} needs one value[x]")
        key, value = values.popitem()
        kind = key[5:6].lower() + key[6:]
        if kind not in PRIMITIVES or type(value) in (dict, list, type(None)):
            raise FhirPathError(f"the constant {name} is of no primitive type")
        if name in constants:
            raise FhirPathError(f"two constants are named {name}")
        number = Decimal(repr(value)) if type(value) is float else value
        constants[name] = [Element(value, kind) if type(value) is str else number]
    return constants


def _path(text: Any, constants: Mapping[str, Items], where: str) -> Path:
    if type(text) is not str or not text.strip():
        raise FhirPathError(f"`path` of {where} is no text")
    try:
        return compile_path(text, constants)
    except FhirPathError as error:
        raise FhirPathError(f"`{text}` ({where}): {error}") from None


def _selection(document: Any, constants: Mapping[str, Items], where: str) -> Selection:
    document = _object(document, where)
    modes = [mode for mode in ("forEach", "forEachOrNull", "repeat") if mode in document]
    if len(modes) > 1:
        raise FhirPathError(f"{where} has both {modes[0]} and {modes[1]}")
    mode = modes[0] if modes else None
    texts = _list(document, mode, where) if mode == "repeat" else [document[m] for m in modes]
    if mode and not texts:
        raise FhirPathError(f"repeat of {where} is empty")
    columns = tuple(_column(c, constants, where) for c in _list(document, "column", where))
    selects, unions = (
        tuple(_selection(part, constants, f"{where}.{key}") for part in _list(document, key, where))
        for key in ("select", "unionAll")
    )
    if not columns and not selects and not unions:
        raise FhirPathError(f"{where} has neither column, select nor unionAll")
    _check_union(unions, where)
    paths = tuple(_path(text, constants, f"{where}.{mode}") for text in texts)
    return Selection(columns, selects, unions, mode, paths)


def _check_union(unions: tuple[Selection, ...], where: str) -> None:
    for branch in unions[1:]:
        first, other = unions[0].all_columns, branch.all_columns
        if [column.name for column in first] != [column.name for column in other]:
            raise FhirPathError(f"unionAll of {where} has branches with different columns")
        for a, b in zip(first, other, strict=True):
            declared = a.declared and b.declared
            if a.collection != b.collection or (declared and sql_type(a.type) != sql_type(b.type)):
                raise FhirPathError(f"unionAll of {where} gives {a.name} two types")


def _column(document: Any, constants: Mapping[str, Items], where: str) -> ViewColumn:
    name = _name(_object(document, f"a column of {where}"), f"a column of {where}")
    collection = document.get("collection", False)
    if type(collection) is not bool:
        raise FhirPathError(f"`collection` of column {name} is neither true nor false")
    path = _path(document.get("path"), constants, f"column {name}")
    kind = document.get("type") or _inferred(path)
    if type(kind) is not str:
        raise FhirPathError(f"`type` of column {name} is no text")
    tags = [tag for tag in _list(document, "tag", f"column {name}") if type(tag) is dict]
    sql = {tag.get("name"): tag.get("value") for tag in tags}.get("ansi/type")
    declared = document.get("type") is not None
    return ViewColumn(name, path, kind.rsplit("/", 1)[-1], collection, sql, declared)


def _inferred(path: Path) -> str:
    """The type of a column that declares none, inferred from its path; else "string"."""
    match path.tree:
        case Binary(operator) if operator in _BOOLEAN:
            return "boolean"
        case FunctionCall(name="ofType" | "as", arguments=(MemberAccess(name=kind),)):
            return kind
        case FunctionCall(name=name):
            return _RETURNS.get(name, "string")
        case Variable("%rowIndex"):
            return "integer"
        case Literal(bool()):
            return "boolean"
    return "string"
