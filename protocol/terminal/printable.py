"""Makes text from other parties safe to show in a terminal."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """The text with control characters (line breaks too), invisible characters and those that
    change the direction of writing as escapes.

    For every field that another party chose: titles, names, reasons. Pass it to Rich as
    `rich.text.Text(printable(...))` or through `command_line.console()`: Rich may read a plain
    string as markup.
    """
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
