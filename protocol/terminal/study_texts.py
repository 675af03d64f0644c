"""A study's texts, which are shown on the screens of people who did not write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from protocol.document import ANNOTATIONS, read_object
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.terminal.printable import printable

_MARKUP = re.compile(
    r"<(?![^<>@\s]+@[^<>@\s]+>)[a-zA-Z/!?]"  # HTML, but for <an address>
    r"|\[/?[a-zA-Z#@!][^\[\]]*\]"  # Rich, BBCode
    r"|\]\("  # Markdown
)


def check_texts(study: Study) -> None:
    """Raises WardroundError(REFUSED_STUDY) for a text that a screen would obey, not show: control
    characters (line breaks too), invisible ones and those that change the direction of writing in
    any text of the study, and markup in its title and contact."""
    plain = read_object(study.document)
    plain.pop(ANNOTATIONS, None)
    if any(printable(text) != text for text in _texts(plain)):
        raise WardroundError(
            Code.REFUSED_STUDY,
            "A text of the study has characters that cannot be shown.",
            remedy="Write title, contact and labels in one line, without control characters.",
        )
    for field, text in (("title", study.title), ("contact", study.contact)):
        if _MARKUP.search(text):
            raise WardroundError(
                Code.REFUSED_STUDY,
                f"The study's {field} has markup.",
                remedy="Write it as plain text, without tags in < > or [ ].",
            )


def _texts(value: Any) -> Iterator[str]:
    """Every text within a JSON value."""
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield key
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
