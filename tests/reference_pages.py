"""Writes `docs/configuration.md` and `docs/site_yaml.md` from the keys that the code knows.

    python -m tests.reference_pages

`test_documents` fails where a page is not what this would write, or where a key says nothing.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from client.config.site_config import SiteConfig
from launch.config import compose
from launch.config.keys import MISSING_TEXT, Key, keys_of
from launch.config.schema import Config
from server.coordinator.config import CoordinatorConfig
from server.enrolment.consortium import Consortium

DOCS = Path(__file__).parent.parent / "docs"
_ANY_NAME = {dict: ".NAME", list: "[]", tuple: "[]", frozenset: "[]"}


class Row(NamedTuple):
    key: str
    default: str
    meaning: str


def pages() -> dict[Path, str]:
    """File -> what is to stand in it."""
    return {
        DOCS / "configuration.md": "\n".join(_configuration()),
        DOCS / "site_yaml.md": "\n".join(_site_yaml()),
    }


def rows_of(
    model: type[BaseModel], prefix: str = "", shown: dict[type[BaseModel], str] | None = None
) -> Iterator[Row]:
    """Every key of a document, those of nested documents behind the key that holds them.

    shown: the documents whose keys stand above already, and behind which key.
    """
    shown = {} if shown is None else shown
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        below = list(_documents(field.annotation))
        meaning, nested = _meaning(field, below), bool(below)
        for inner, _ in below:
            if alike := [place for above, place in shown.items() if issubclass(above, inner)]:
                meaning, below = f"{meaning} (keys as of `{alike[0]}`)", []
                break
        yield Row(key, _default(field, nested=nested), meaning)
        for inner, container in below:
            yield from rows_of(inner, f"{key}{container}.", shown)
            shown[inner] = f"{key}{container}"


def _documents(annotation: Any, container: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, container
    inside = _ANY_NAME.get(typing.get_origin(annotation), container)
    for part in typing.get_args(annotation):
        yield from _documents(part, inside)


def _default(field: FieldInfo, *, nested: bool) -> str:
    if field.is_required():
        return "**needed**"
    if nested or field.default is PydanticUndefined or field.default is None:
        return ""
    value = field.default
    if isinstance(value, tuple | frozenset):
        value = list(value)
    if type(value) is int and value >= 2**20:
        value = f"{value // 2**20} MiB"
    return f"`{json.dumps(value, default=str)}`"


def _meaning(field: FieldInfo, below: Iterable[tuple[type[BaseModel], str]]) -> str:
    if field.description:
        return field.description
    for model, _ in below:
        return (model.__doc__ or "").partition("\n\n")[0].strip()
    return ""


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "| key | if left out | what it is |"
    yield "|---|---|---|"
    for row in rows:
        meaning = " ".join(row.meaning.split()).replace("|", "\\|").replace("<", "&lt;")
        yield f"| `{row.key}` | {row.default} | {meaning} |"
    yield ""


def _site_yaml() -> Iterator[str]:
    yield "# What a hospital sets: site.yaml"
    yield (
        "Every key, written by `python -m tests.reference_pages` from the code that reads it. "
        "`wardround-site init` writes a file to begin with, and `wardround-site check` tries what "
        "stands in it; a wrong key is refused by name. `NAME` is a name of your own (of a task, "
        "of a file), and `[]` an entry of a list."
    )
    yield ""
    yield from _table(rows_of(SiteConfig))
    yield "# What a coordinator sets: coordinator.yaml"
    yield "`wardround coordinator init` writes it."
    yield ""
    yield from _table(rows_of(CoordinatorConfig))
    yield "# What a consortium agrees on: consortium.yaml"
    yield "One file, with which each party sets up its side ([operations.md](operations.md))."
    yield ""
    yield from _table(rows_of(Consortium))


def _configuration() -> Iterator[str]:
    yield "# What a data scientist sets: the configuration of a study"
    yield (
        "Every group and key, written by `python -m tests.reference_pages` from the code that "
        "reads them; `wardround run --info` prints the same. A study is configured by overrides "
        "in Hydra's grammar, such as `privacy.epsilon=3`; a group is chosen by one word, such as "
        "`privacy=local`, and may set other defaults: `wardround run --cfg job` shows what a list "
        "of overrides comes to."
    )
    yield ""
    yield "| group | choices |"
    yield "|---|---|"
    for group, choices in compose.groups().items():
        yield f"| `{group}` | {', '.join(f'`{choice}`' for choice in choices)} |"
    yield ""
    keys = list(keys_of(Config))
    for position, key in enumerate(keys):
        if key.type == "group" or position == 0:
            yield from _heading(key)
        if key.type != "group":
            meaning = key.meaning.text + (f" ({key.meaning.range})" if key.meaning.range else "")
            meaning = meaning.replace("|", "\\|").replace("<", "&lt;")
            yield f"| `{key.name}` | {key.type.replace('|', 'or')} | {_set_to(key)} | {meaning} |"
    yield ""


def _heading(key: Key) -> Iterator[str]:
    yield ""
    yield f"## {key.name}" if key.type == "group" else "## The study itself"
    if key.type == "group":
        yield key.meaning.text
        yield ""
    yield "| key | type | if left out | what it is |"
    yield "|---|---|---|---|"


def _set_to(key: Key) -> str:
    return "**needed**" if key.default == MISSING_TEXT else f"`{json.dumps(key.default)}`"


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content)
        print(path.relative_to(DOCS.parent))
