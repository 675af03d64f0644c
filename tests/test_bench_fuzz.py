"""No parser of what others send dies of a mutation; `bench/fuzz.py` tries far more of them."""

from __future__ import annotations

import json

import pytest

from fuzz import Parser, fuzz, parsers


@pytest.mark.slow
def test_no_parser_dies_of_its_inputs() -> None:
    with parsers() as all_of_them:
        tallies = {parser.name: fuzz(parser, 60) for parser in all_of_them}
    assert {name: tally.died_of for name, tally in tallies.items() if tally.deaths} == {}
    assert len(tallies) >= 16


@pytest.mark.parametrize("error", [ValueError, RecursionError, KeyError, MemoryError])
def test_a_death_is_seen(error: type[Exception]) -> None:
    def read(data: bytes) -> None:
        raise error

    tally = fuzz(Parser("one that dies", [b"{}"], read), 5)
    assert (tally.deaths, tally.refused) == (5, 0)


def test_the_inputs_are_the_same_in_every_run() -> None:
    runs: list[list[bytes]] = [[], []]
    for seen in runs:
        fuzz(Parser("a parser", [json.dumps({"a": [1, 2]}).encode(), b"[]"], seen.append), 20)
    assert runs[0] == runs[1]
