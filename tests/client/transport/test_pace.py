"""How a large body is cut for the line that there is."""

from hypothesis import given
from hypothesis import strategies as st

from client.transport.pace import FIRST, LARGEST, SMALLEST, Pace
from protocol.wire.progress import SLOWEST, WINDOW


def settled(speed: float) -> Pace:
    pace = Pace()
    for _ in range(12):
        pace.took(pace.part, pace.part / speed)
    return pace


@given(st.floats(SLOWEST, 1e9))
def test_a_part_takes_some_two_seconds(speed: float) -> None:
    part = settled(speed).part
    assert part == SMALLEST or part / speed <= 2.001
    assert part == LARGEST or part / speed >= 1.99


@given(st.floats(SLOWEST, 1e9))
def test_no_part_is_given_up_at_its_own_speed(speed: float) -> None:
    pace = settled(speed)
    assert pace.limit(pace.part) > 5 * pace.part / speed or pace.part == SMALLEST
    assert Pace().limit(FIRST) > FIRST / SLOWEST


def test_the_smallest_part_has_as_long_as_the_slowest_line_needs() -> None:
    pace = settled(SLOWEST)
    assert pace.part == SMALLEST
    assert pace.limit(SMALLEST) == WINDOW + SMALLEST / SLOWEST


def test_a_line_that_became_slow_gets_small_parts_after_a_few_tries() -> None:
    pace = settled(1e8)
    for _ in range(3):
        pace.was_late()
    assert pace.part == SMALLEST


def test_slow_lines_are_few_and_fast_ones_many() -> None:
    assert [settled(speed).lines(3) for speed in (SLOWEST, 50_000, 1e8)] == [1, 2, 3]


def test_the_last_part_of_an_object_tells_nothing() -> None:
    pace = settled(1e8)
    pace.took(10, 1.0)
    assert pace.part == LARGEST
