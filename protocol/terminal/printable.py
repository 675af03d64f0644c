"""Makes text from other parties safe to show: in a terminal, in HTML, in Markdown."""

from __future__ import annotations

import html
import re
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


def as_html(text: str) -> str:
    """`printable`, as text or a quoted attribute of an HTML page."""
    return html.escape(printable(text))


def as_markdown(text: str) -> str:
    """`printable` on one line, which is neither Markdown nor HTML."""
    plain_text = re.sub(r"([\\`*_{}\[\]#|!])", r"\\\1", printable(" ".join(text.split())))
    return html.escape(plain_text, quote=False)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
