"""`wardround run --info`: every key with its type, default, meaning and range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.config import compose
from launch.config.keys import MISSING_TEXT, Key, keys_of
from launch.config.schema import Config


def explained() -> dict[str, Any]:
    """Groups with their choices, and keys, as JSON."""
    return {
        "groups": compose.groups(),
        "keys": [
            {
                "key": key.name,
                "type": key.type,
                "default": None if key.default == MISSING_TEXT else key.default,
                "meaning": " ".join(_meaning(key)),
            }
            for key in keys_of(Config)
            if key.type != "group"
        ],
    }


def explain(console: Console) -> None:
    """Prints groups with their choices, then the keys, section by section."""
    groups = compose.groups()
    table = Table(title="Groups: one word each", title_justify="left", box=None, pad_edge=False)
    table.add_column("group", style="cyan")
    table.add_column("choices", overflow="fold")
    for name, choices in groups.items():
        table.add_row(name, ", ".join(choices))
    console.print(table)
    console.print()
    table = Table(title="Keys: key=value", title_justify="left", box=None, pad_edge=False)
    table.add_column("key", style="cyan", overflow="fold")
    for heading in ("type", "default", "meaning"):
        table.add_column(heading, overflow="fold")
    for key in keys_of(Config):
        if key.type == "group":
            table.add_row("")
            table.add_row(Text(key.name, style="bold"), "", "", Text(key.meaning.text, "bold"))
        else:
            table.add_row(key.name, key.type, _default(key), " ".join(_meaning(key)))
    console.print(table)
    console.print(
        "\nA group or a recipe may set another default: `wardround run --cfg job` shows what a "
        "list of overrides comes to.",
        highlight=False,
    )


def _default(key: Key) -> str:
    if key.default == MISSING_TEXT:
        return ""
    if key.default is None:
        return "null"
    return str(key.default).lower() if isinstance(key.default, bool) else str(key.default)


def _meaning(key: Key) -> Iterator[str]:
    yield key.meaning.text
    if key.meaning.range:
        yield f"({key.meaning.range})"
