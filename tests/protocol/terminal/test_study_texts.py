"""What others wrote is shown as text everywhere, and most of what could be more is refused."""

from __future__ import annotations

import ast
import html
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, WardroundError
from protocol.terminal.printable import as_html, as_markdown, printable
from protocol.terminal.study_texts import check_texts
from tests.client.hospital import study

ROOT = Path(__file__).parents[3]
OBEYED = "\x00\x07\x1b\n\r\t\x7f\x85\x9b\u200b\u202e\u2066\u2028\ufeff"
"""Control characters, line breaks, bidi overrides and isolates, invisible characters."""
hostile = st.text(
    st.sampled_from(OBEYED + "<>[]()|`\\'\"&;#!_*a\xa0") | st.characters(), max_size=40
)


@given(hostile)
def test_nothing_shown_is_obeyed_by_a_terminal(text: str) -> None:
    for shown in (printable(text), as_html(text), as_markdown(text)):
        assert all(c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)
        assert not set(OBEYED) & set(shown)


@given(hostile)
def test_no_text_is_a_tag_in_html_or_markdown(text: str) -> None:
    assert not set("<>\"'") & set(as_html(text))
    assert not set("<>") & set(as_markdown(text))
    bare = re.sub(r"\\.", "", html.unescape(as_markdown(text)))
    assert not set("`*_{}[]#|!\\") & set(bare)


@pytest.mark.parametrize("character", OBEYED)
@pytest.mark.parametrize("field", ["title", "contact"])
def test_a_study_with_a_character_that_is_obeyed_is_refused(field: str, character: str) -> None:
    with pytest.raises(WardroundError) as caught:
        check_texts(study(**{field: f"a{character}b"}))
    assert caught.value.code is Code.REFUSED_STUDY


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b>",
        "<!--",
        "</p>",
        "[bold red]x[/bold red]",
        "[/closing]",
        "[link=x]y",
        "[#ff0000]",
        "![x](http://y)",
        "[1](http://y)",
    ],
)
@pytest.mark.parametrize("field", ["title", "contact"])
def test_a_study_with_markup_is_refused(field: str, text: str) -> None:
    with pytest.raises(WardroundError) as caught:
        check_texts(study(**{field: text}))
    assert field in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "Ada <ada@example.org>",
        "HbA1c > 7 % and age < 65",
        "Ages [18, 65)",
        "Sepsis, Über\xa0uns",
        "a_b *",
        "患者",
    ],
)
def test_ordinary_texts_are_taken(text: str) -> None:
    check_texts(study(title=text, contact=text))


@pytest.mark.slow
def test_html_and_markdown_are_escaped_at_one_door() -> None:
    doors = {
        str(path.relative_to(ROOT))
        for room in ("protocol", "tasks", "client", "server", "launch", "wardround")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and "html" in {name.name for name in node.names}
    }
    assert doors == {"protocol/terminal/printable.py"}
