"""Rows that stay in a file are those of the array that would hold them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data import stored_rows
from client.data.stored_rows import StoredRows, StoredTable, held, in_memory, read_rows


def mapped(folder: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    path = folder / "values"
    path.write_bytes(values.tobytes())
    return np.memmap(path, values.dtype, "r", shape=values.shape)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_choice_of_rows_is_what_the_whole_array_has(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    stored = np.arange(1, 61, dtype=data.draw(st.sampled_from(["u1", "f4"]))).reshape(5, 4, 3)
    places = np.array(data.draw(st.lists(st.integers(-1, 4), min_size=1, max_size=12)))
    whole = np.stack([stored[p] if p >= 0 else np.zeros((4, 3), stored.dtype) for p in places])
    rows = StoredRows(mapped(tmp_path_factory.mktemp("rows"), stored), places)
    assert rows.shape == whole.shape
    np.testing.assert_array_equal(np.asarray(rows), whole)
    np.testing.assert_array_equal(rows.present, places >= 0)
    wanted = np.array(data.draw(st.lists(st.integers(0, len(places) - 1), max_size=9)), np.int64)
    np.testing.assert_array_equal(rows[wanted], whole[wanted])
    np.testing.assert_array_equal(rows[1:], whole[1:])
    np.testing.assert_array_equal(rows[0], whole[0])
    np.testing.assert_array_equal(np.asarray(rows.chosen(places > 1)), whole[places > 1])
    np.testing.assert_array_equal(rows.chosen(wanted)[:], whole[wanted])
    for kind in (rows, whole):
        read = np.full((len(wanted), 4, 3), 7, stored.dtype)
        read_rows(kind, wanted, read)
        np.testing.assert_array_equal(read, whole[wanted])


def test_chunks_cover_every_row_once_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_rows, "CHUNK", 100)
    rows = StoredRows.all_of(np.zeros((23, 5, 5), np.uint8))
    chunks = [np.arange(23)[chunk] for chunk in rows.chunks()]
    assert max(map(len, chunks)) == 4
    assert np.array_equal(np.concatenate(chunks), np.arange(23))
    huge = StoredRows.all_of(np.zeros((2, 5, 50), np.uint8))
    assert [chunk.stop - chunk.start for chunk in huge.chunks()] == [1, 1]


def test_a_table_is_copied_whole_or_without_what_lies_elsewhere() -> None:
    pictures = StoredRows.all_of(np.ones((2, 3, 3), np.uint8))
    table: StoredTable = {"patient": np.array(["a", "b"], object), "picture": pictures}
    assert list(held(table)) == ["patient"]
    assert isinstance(in_memory(table)["picture"], np.ndarray)


def test_a_cohort_without_a_single_picture_is_one_of_zeros() -> None:
    nothing = StoredRows(np.empty((0, 2, 2), np.uint8), np.array([-1, -1]))
    assert not np.asarray(nothing).any()


@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_a_cohort_without_a_row_is_one(shape: tuple[int, ...]) -> None:
    """Of a site whose pictures have yet to come."""
    nothing = StoredRows(np.empty((0, 2, 2), np.uint8), np.empty(shape, np.int64))
    assert nothing.present.shape == (0,)
    assert np.asarray(nothing).shape == (*shape, 2, 2)
    assert nothing.chosen(nothing.present).shape == (*shape, 2, 2)
