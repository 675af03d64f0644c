"""Volumes of slices: by position, evenly apart, with what is missing or there twice named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.dicom.index.assembly import FAR, NO_LINE, NO_POSITION, SEVERAL, assembled
from tests.client.data.dicom.index.test_volumes import along, row


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_every_slice_has_its_place_whatever_their_numbers_and_order(data: st.DataObject) -> None:
    most = data.draw(st.integers(4, 30))
    gone = data.draw(st.sets(st.integers(1, most - 2), max_size=(most - 2) // 3))
    there = [number for number in range(most) if number not in gone]
    if np.median(np.diff(there)) > 1:
        return  # mostly gaps: nobody can tell
    twice = data.draw(st.lists(st.sampled_from(there), max_size=4))
    numbers = data.draw(st.permutations(there + twice))
    spacing = data.draw(st.floats(0.4, 10))
    rows = along(numbers, spacing)
    made = assembled(data.draw(st.permutations(rows)), most, spacing)
    assert made.fault == ""
    assert made.missing == tuple(sorted(number + 1 for number in gone))
    assert made.twice == tuple(sorted({number + 1 for number in twice}))
    first = {number: f"k{numbers.index(number):02d}" for number in there}
    assert made.places == tuple(first.get(number) for number in range(most))


def test_places_are_evenly_apart_around_the_middle() -> None:
    rows = along(list(range(9)), 2.0)
    keys = [one["image"] for one in rows]
    assert assembled(rows, 3, 4.0).places == (keys[2], keys[4], keys[6])
    assert assembled(rows, 7, 4.0).places == (None, *keys[0::2], None)
    assert assembled(rows, 3, 1.0).places[1] == keys[4]


def test_a_missing_slice_leaves_its_place_empty() -> None:
    rows = along([0, 1, 3, 4], 3.0)
    made = assembled(rows, 5, 3.0)
    assert made.places == ("k00", "k01", None, "k02", "k03")
    assert made.missing == (3,)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([row("a", (0, 0, 1)), row("b")], NO_POSITION),
        ([row("a", (0, 0, 1)), row("b", (0, 0, 2), series="other")], SEVERAL),
        ([row("a", (0, 0, 1)), row("b", (0, 0, 2), orientation="LF")], SEVERAL),
        ([row("a", (0, 0, 1)), row("b", (0, 0, 2), row_spacing=0.7)], SEVERAL),
        ([row(f"c{a}", (90 * np.cos(a), 90 * np.sin(a), 0.0)) for a in range(6)], NO_LINE),
        ([row("alone", (0, 0, 1))], NO_LINE),
        ([row(f"d{k}", (0, 0, 0.01 * k)) for k in range(4)], NO_LINE),
        ([*along([0, 1, 2]), row("far", (12.0, -40.0, 1e7))], FAR),
    ],
)
def test_what_is_no_volume_is_said_and_has_no_picture(
    rows: list[dict[str, object]], fault: str
) -> None:
    made = assembled(rows, 4, 1.0)
    assert made.fault == fault
    assert made.places == (None,) * 4


def test_a_record_without_slices_is_an_empty_volume() -> None:
    assert assembled([], 3, 1.0).places == (None,) * 3
    assert assembled([], 3, 1.0).fault == ""
