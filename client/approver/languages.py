"""The sentences of the approver's page in the languages that it speaks.

English is what stands in the code; another language has a sentence for each of those, with the same
values in it. One that is missing is said in English rather than not at all; a test finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, assert_never

from client.approver.french import FRENCH

Language = Literal["en", "fr"]


class Say(Protocol):
    """Says one sentence with its values."""

    def __call__(self, sentence: str, **values: Any) -> str:
        """The sentence, whose values stand in braces as in `str.format`."""
        ...


def english(sentence: str, **values: Any) -> str:
    """As it stands in the code."""
    return sentence.format(**values)


def french(sentence: str, **values: Any) -> str:
    """In French."""
    return FRENCH.get(sentence, sentence).format(**values)


def spoken(language: Language) -> Say:
    """How a language is spoken."""
    match language:
        case "en":
            return english
        case "fr":
            return french
    assert_never(language)


def sentences(language: Language) -> Mapping[str, str]:
    """English sentence -> the same in a language; empty of English."""
    match language:
        case "en":
            return {}
        case "fr":
            return FRENCH
    assert_never(language)
