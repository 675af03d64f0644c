"""Months without rows are told where they are hardly chance, and ends where others go on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data import templates
from client.data.sources.attrition import Attrition, measure
from client.data.sources.months import USUAL, gaps, late
from client.data.sources.settings import Sources
from client.data.view_reader import Inspection, read

JANUARY = 12 * 2020


def filled(*absent: int, until: int = 24, patients: int = USUAL) -> dict[int, int]:
    return {JANUARY + m: patients for m in range(until) if m not in absent}


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"a": filled()}, []),
        ({"a": filled(7)}, ["a has no rows in 2020-08"]),
        ({"a": filled(*range(8, 17))}, ["a has no rows in 2020-09 to 2021-05"]),
        ({"a": filled(7, patients=USUAL - 1)}, []),
        ({"a": filled(3)}, []),
        (
            {"a": filled(8), "b": filled(until=12)},
            ["b ends before 2021-01, other tables only in 2021-12", "a has no rows in 2020-09"],
        ),
        ({"a": {}, "b": filled()}, []),
        ({}, []),
    ],
)
def test_gaps(tables: Mapping[str, Mapping[int, int]], told: list[str]) -> None:
    assert [str(gap) for gap in gaps(tables)] == told


@given(st.dictionaries(st.integers(JANUARY, JANUARY + 40), st.integers(1, 30)))
def test_no_gap_has_rows(rows: dict[int, int]) -> None:
    for gap in gaps({"a": rows}):
        year, month = map(int, gap.first.split("-"))
        assert 12 * year + month - 1 not in rows


def test_an_end_is_told_where_it_is_long_ago() -> None:
    assert late({"a": filled()}, JANUARY + 28) is None
    assert late({"a": filled(), "b": filled(until=12)}, JANUARY + 29) == "2021-12"
    assert late({}, JANUARY) is None


def test_tables_are_looked_at_by_patient_and_no_later_than_today(tmp_path: Path) -> None:
    days = [(y, m) for y in (2020, 2021) for m in range(1, 13) if (y, m) != (2021, 6)]
    rows = [f"p{n},{y}-{m:02}-05" for y, m in days for n in range(USUAL)]
    (tmp_path / "encounter.csv").write_text("\n".join(["patient,started", *rows, "p1,2099-01-01"]))
    busy = [f"p1,{y}-{m:02}-05" for y, m in days for _ in range(USUAL)]
    (tmp_path / "condition.csv").write_text("\n".join(["patient,at_time", *busy]))
    files = {name: tmp_path / f"{name}.csv" for name in ("encounter", "condition")}
    found: list[Attrition] = []
    view = "WITH a AS (FROM encounter) SELECT patient FROM a JOIN condition USING (patient)"
    sources = Sources(files=files)
    of = partial(measure, today=date(2021, 12, 31))
    read(sources, view, inspection=Inspection(of, found.append))
    assert [str(gap) for gap in found[0].gaps] == ["encounter has no rows in 2021-06"]
    assert found[0].ends is None


def test_a_gap_among_appointments_is_a_likely_cause(tmp_path: Path) -> None:
    days = [(y, m) for y in (2020, 2021) for m in range(1, 13) if (y, m) != (2021, 6)]
    rows = [f"p{n},{y}-{m:02}-05 10:00,,kept" for y, m in days for n in range(USUAL)]
    (tmp_path / "appointments.csv").write_text("\n".join(["patient,started,made,status", *rows]))
    people = [f"p{n},female,1960-01-01" for n in range(USUAL)]
    (tmp_path / "patients.csv").write_text("\n".join(["patient,sex,birth", *people]))
    files = {name: tmp_path / f"{name}.csv" for name in ("appointments", "patients")}
    found: list[Attrition] = []
    view = templates.view("template:csv", "no_show")
    of = partial(measure, today=date(2023, 12, 31))
    read(Sources(files=files), view, inspection=Inspection(of, found.append))
    assert "Months without data: appointments has no rows in 2021-06." in found[0].causes
    assert "No record is later than 2021-12: does the extract end early?" in found[0].causes
