"""Slices in order of position: however they are numbered, turned, repeated or left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.dicom.index.images_table import register
from client.data.dicom.index.index import ImageIndex, ImageRow
from client.data.dicom.index.volumes import Slice, slices_of
from client.data.dicom.objects.attributes import COLUMNS
from client.data.dicom.objects.gate import GatePolicy

UP = (0.0, 0.0, 1.0)


def row(key: str, position: Any = None, **said: Any) -> dict[str, Any]:
    x, y, z = (None, None, None) if position is None else position
    found = dict.fromkeys(COLUMNS) | {"image": key, "study": "T", "series": "S"}
    return found | {"position_x": x, "position_y": y, "position_z": z} | said


def along(numbers: list[int], spacing: float = 2.5, line: Any = UP) -> list[dict[str, Any]]:
    ends = np.array([[12.0, -40.0, 100.0]]) + np.outer(numbers, spacing * np.array(line))
    return [row(f"k{at:02d}", end) for at, end in enumerate(ends.tolist())]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_slices_come_in_order_with_every_gap_and_repetition_counted(data: st.DataObject) -> None:
    most = data.draw(st.integers(4, 40))
    gone = data.draw(st.sets(st.integers(1, most - 2), max_size=(most - 2) // 3))
    there = [number for number in range(most) if number not in gone]
    twice = data.draw(st.lists(st.sampled_from(there), max_size=5))
    numbers = data.draw(st.permutations(there + twice))
    line = np.array(data.draw(st.sampled_from([UP, (0, 0.6, 0.8), (0.48, 0.36, 0.8)])))
    steps = np.diff(there)
    if np.median(steps) > 1:
        return  # mostly gaps: nobody can tell
    found = slices_of(along(numbers, data.draw(st.floats(0.4, 10)), line))
    for key, number in enumerate(numbers):
        own = found[f"k{key:02d}"]
        assert own.slice == there.index(number)
        assert (own.slices, own.missing_slices) == (len(there), len(gone))
        assert own.duplicate == numbers[:key].count(number)


def test_numbers_that_run_from_the_head_down_do_not_turn_a_volume() -> None:
    rows = [one | {"instance_number": 9.0 - at} for at, one in enumerate(along([0, 1, 2, 3]))]
    assert [slices_of(rows)[f"k{at:02d}"].slice for at in range(4)] == [0, 1, 2, 3]
    assert slices_of(rows)["k00"] == Slice(0, 4, 2.5, 0, 0)


@pytest.mark.parametrize("line", [(0, 0, -1), (0, -1, 0), (-1, 0, 0)])
def test_a_volume_runs_to_the_head_or_back_or_left(line: tuple[int, int, int]) -> None:
    found = slices_of(along([0, 1, 2], line=line))
    assert [found[f"k{at:02d}"].slice for at in range(3)] == [2, 1, 0]


def test_of_two_pictures_of_one_place_the_lower_instance_number_is_first() -> None:
    rows = along([0, 0, 1])
    rows[0]["instance_number"], rows[1]["instance_number"] = 7.0, 3.0
    found = slices_of(rows)
    assert (found["k01"].duplicate, found["k00"].duplicate) == (0, 1)


def test_what_is_no_volume_has_no_place_in_one() -> None:
    circle = [row(f"c{a}", (100 * np.cos(a), 100 * np.sin(a), 0.0)) for a in range(6)]
    assert slices_of(circle) == {}
    assert slices_of([row("alone", (0, 0, 0))]) == {}
    assert slices_of([row("a"), row("b", (0, 0, None))]) == {}
    assert slices_of([row("a", (0, 0, 1), series=None), row("b", (0, 0, 2), series=None)]) == {}


def test_a_scout_in_another_plane_is_no_slice_of_the_volume() -> None:
    scout = row("scout", (-200, 0, 300), orientation="LF")
    axial = [one | {"orientation": "LP"} for one in along([0, 1, 2])]
    found = slices_of([scout, *axial])
    assert set(found) == {"k00", "k01", "k02"}
    assert found["k00"].slices == 3


def test_a_view_sees_where_a_picture_lies(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    pictures = [*along([0, 1, 3, 4, 5]), row("flat")]
    with ImageIndex.open(tmp_path / "state", GatePolicy(detect_text=False)) as index:
        index.put(
            [
                ImageRow(Path(f"/pacs/{at}"), 1, 1, None, values=one | {"patient": "P"})
                for at, one in enumerate(pictures)
            ]
        )
        connection = duckdb.connect()
        register(connection, index)
    found = connection.execute(
        "SELECT slice, slices, slice_spacing, missing_slices, duplicate FROM images ORDER BY image"
    ).fetchall()
    assert found[0] == (None,) * 5
    assert found[1:] == [(number, 5, 2.5, 1, 0) for number in range(5)]
