"""Text from elsewhere as a terminal may show it."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """The text with everything that a terminal would obey written as an escape: control
    characters (line breaks too, so that no text passes for a line of its own), characters that
    change the direction of writing, and others that cannot be seen.

    For every field that another party chose: titles, names, reasons. Where Rich prints, hand it
    over as `rich.text.Text(printable(...))` or through `command_line.console()`: a plain string
    may be read as markup.
    """
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
