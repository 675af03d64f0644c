"""Text from elsewhere: every character that a terminal obeys is an escape, all others stay."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.terminal.printable import printable
from tests.protocol.terminal.hostile_text import HOSTILE


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    for character in printable(text):
        assert character.isprintable() or unicodedata.category(character) == "Zs"
    printable(text).encode()  # a lone surrogate would fail here


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("one\ntwo\r\x9b", "one\\ntwo\\r\\x9b"),
        ("\u2028\ufeff\udc80", "\\u2028\\ufeff\\udc80"),
        ("Étude\u00a0: survie, 生存", "Étude\u00a0: survie, 生存"),
        ("[bold]", "[bold]"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_one_line(text: str) -> None:
    assert len(printable(text).splitlines()) == 1
