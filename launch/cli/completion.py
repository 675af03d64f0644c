"""What a shell offers after `wardround run`: groups and keys, and after `=` their values.

bash breaks words at `=`, zsh and fish do not, so that after `task=` bash wants the bare values and
the others want the whole word.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

Offer = tuple[str, str]
"""A word, and what a shell that shows help shows beside it."""


def overrides(ctx: click.Context, incomplete: str) -> list[Offer]:
    """The words that may stand where `incomplete` stands."""
    before = list(ctx.params.get("overrides") or ())
    if not incomplete and before and (values := list(_values(before[-1]))):
        return values  # bash, right behind the sign, which Click takes away
    if len(before) > 1 and before[-1] == "=":  # bash, with a part of the value
        return [offer for offer in _values(before[-2]) if offer[0].startswith(incomplete)]
    key, sign, part = incomplete.partition("=")
    if sign:
        offers = [(f"{key}={value}", text) for value, text in _values(key)]
        return [offer for offer in offers if offer[0].startswith(f"{key}={part}")]
    return [offer for offer in _keys() if offer[0].startswith(incomplete)]


def _keys() -> Iterator[Offer]:
    """Groups first, then keys; sections of keys are reached through their groups."""
    from launch.config import compose
    from launch.config.keys import keys_of
    from launch.config.schema import Config

    groups = compose.groups()
    for group, choices in groups.items():
        yield f"{group}=", " or ".join(choices[:6])
    for key in keys_of(Config):
        if key.type != "group":
            yield f"{key.name}=", key.meaning.text


def _values(key: str) -> Iterator[Offer]:
    from launch.config import compose
    from launch.config.keys import keys_of
    from launch.config.schema import Config

    key = key.lstrip("+~")
    for choice in compose.groups().get(key, ()):
        yield choice, ""
    for known in keys_of(Config):
        if known.name != key or known.type == "group":
            continue
        if known.type.startswith("true or false"):
            yield from (("true", ""), ("false", ""))
        elif known.type == "list":
            yield from ((f"[{word}]", "") for word in known.meaning.choices)
        elif known.meaning.choices:
            yield from ((word, "") for word in known.meaning.choices)
        elif known.default not in (None, "???"):
            yield str(known.default), "the default"
