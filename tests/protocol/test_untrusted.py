"""Parsing of what others sent: one kind of error, and few words about many faults."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.document import DEPTH, read_json, read_object
from protocol.errors import Code, WardroundError
from protocol.untrusted import Throttle, parsing


@pytest.mark.parametrize(
    "error",
    [ValueError("secret"), RecursionError(), struct.error(), KeyError("secret"), MemoryError()],
)
def test_whatever_a_parser_raises_becomes_one_refusal(error: Exception) -> None:
    with pytest.raises(Exception) as caught, parsing("A message is malformed."):  # noqa: PT011 (which is the question)
        raise error
    refused = caught.value
    assert isinstance(refused, WardroundError)
    assert (refused.code, str(refused)) == (Code.MESSAGE, "A message is malformed.")


def test_an_error_of_ours_keeps_its_code() -> None:
    with pytest.raises(WardroundError) as caught, parsing("A message is malformed."):
        raise WardroundError(Code.RELEASE, "Another release.")
    assert caught.value.code is Code.RELEASE


@pytest.mark.parametrize("deep", [DEPTH + 1, 1_000, 100_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_json_nested_too_deep_is_refused(deep: int, brackets: tuple[str, str]) -> None:
    opening, closing = brackets
    with pytest.raises(WardroundError):
        read_json((opening * deep + "0" + closing * deep).encode())


def test_json_is_read_as_deep_as_it_may_be() -> None:
    text = "[" * DEPTH + "0" + "]" * DEPTH
    assert read_json(text.encode()) == json.loads(text)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:0e-9.\\u', max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    try:
        assert isinstance(read_object(data), dict)
    except WardroundError as error:
        refused = error.code
        assert refused is Code.MESSAGE


def test_a_throttle_lets_some_pass_and_counts_the_others() -> None:
    now = 0.0
    throttle = Throttle(2, 10.0, lambda: now)
    assert [throttle.admit("a") for _ in range(4)] == [
        (True, 0), (True, 0), (False, 0), (False, 0),
    ]  # fmt: skip
    assert throttle.admit("b") == (True, 0)
    now = 11.0
    assert throttle.admit("a") == (True, 2)
    assert throttle.held_back() == {}
    assert [throttle.admit("c") for _ in range(3)][-1] == (False, 0)
    assert throttle.held_back() == {"c": 1}
