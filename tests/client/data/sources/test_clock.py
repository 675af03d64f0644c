"""Instants and days: what is written is kept, what is not known stays unknown."""

from __future__ import annotations

import datetime
from pathlib import Path

import duckdb
import pytest

from client.data.sources.settings import Fhir, Omop, Sources
from client.data.view_reader import read
from protocol.errors import WardroundError
from tests.client.data.clinical_facts import Person, Visit, write_omop


def told(expression: str, time_zone: str | None = None) -> object:
    [value] = read(Sources(), f"SELECT CAST({expression} AS VARCHAR) AS v", time_zone=time_zone)[
        "v"
    ]
    return value


@pytest.mark.parametrize(
    ("text", "instant", "day", "bounds"),
    [
        ("2020-03-01T22:30:00-05:00", "2020-03-02 03:30:00+00", "2020-03-01", None),
        ("2020-03-01T22:30-05:00", "2020-03-02 03:30:00+00", "2020-03-01", None),
        ("2020-03-01T22:30:00.123456789Z", "2020-03-01 22:30:00.123456+00", "2020-03-01", None),
        ("2020-03-01", None, "2020-03-01", ("2020-03-01", "2020-03-01")),
        ("2020-02", None, None, ("2020-02-01", "2020-02-29")),
        ("2020", None, None, ("2020-01-01", "2020-12-31")),
        ("2020-02-30", None, None, (None, None)),
        ("2020-02-30T10:00:00Z", None, None, (None, None)),
        ("soon", None, None, (None, None)),
    ],
)
def test_a_text_tells_what_it_tells(
    text: str, instant: str | None, day: str | None, bounds: tuple[str | None, str | None] | None
) -> None:
    assert told(f"instant('{text}')") == instant
    assert told(f"calendar_day('{text}')") == day
    wanted = bounds or (day, day)
    assert (told(f"earliest_day('{text}')"), told(f"latest_day('{text}')")) == wanted


def test_a_day_is_one_of_the_sites_time_zone() -> None:
    text = "2020-03-01T22:30:00-05:00"
    assert told(f"calendar_day('{text}')", "Europe/Paris") == "2020-03-02"
    assert told("instant('2020-07-01T10:00:00')", "Europe/Paris") == "2020-07-01 10:00:00+02"


def test_what_two_partial_days_do_not_tell_is_unknown() -> None:
    before = "latest_day('{}') < earliest_day('{}')"
    assert told(before.format("2020-02", "2020-03-01")) == "true"
    possible = "earliest_day('2020') > latest_day('2020-03-01')"
    assert (told(before.format("2020", "2020-03-01")), told(possible)) == ("false", "false")


def _parquet(path: Path, select: str) -> Sources:
    duckdb.execute(f"COPY ({select}) TO '{path}'")
    return Sources(files={"t": path})


def test_times_of_parquet_are_on_the_sites_clock(tmp_path: Path) -> None:
    """From 20:00 on the day before summer time to 20:00 on the day after it are 23 hours."""
    times = "SELECT TIMESTAMP '2020-03-28 20:00' AS a, TIMESTAMP '2020-03-29 20:00' AS b"
    view = "SELECT date_diff('hour', a, b) AS hours FROM t"
    source = _parquet(tmp_path / "t.parquet", times)
    assert read(source, view, time_zone="Europe/Paris")["hours"].tolist() == [23]
    assert read(source, view)["hours"].tolist() == [24]


def test_midnights_of_a_whole_column_are_days(tmp_path: Path) -> None:
    filled = "SELECT TIMESTAMP '2020-03-28' + to_days(range::INT) AS a FROM range(3)"
    view = "SELECT typeof(a) AS kind FROM t"
    assert set(read(_parquet(tmp_path / "t.parquet", filled), view)["kind"]) == {"DATE"}
    one_not = filled + " UNION ALL SELECT TIMESTAMP '2020-03-28 00:01'"
    assert set(read(_parquet(tmp_path / "u.parquet", one_not), view)["kind"]) == {"TIMESTAMP"}


def test_sources_of_two_kinds_join_on_one_clock(tmp_path: Path) -> None:
    """A site's own hours in a CSV file, and the same moment in UTC in Parquet."""
    (tmp_path / "t.csv").write_text("at\n2020-07-01 12:00:00\n")
    utc = datetime.datetime(2020, 7, 1, 10, tzinfo=datetime.UTC)
    duckdb.execute("COPY (SELECT ? AS at) TO '" + str(tmp_path / "u.parquet") + "'", [utc])
    source = Sources(files={"t": tmp_path / "t.csv", "u": tmp_path / "u.parquet"})
    view = "SELECT count(*) AS n FROM t JOIN u ON t.at = u.at"
    assert read(source, view, time_zone="Europe/Paris")["n"].tolist() == [1]


def test_an_omop_database_is_on_the_sites_clock(tmp_path: Path) -> None:
    stays = (Visit("inpatient", "2020-03-28T20:00:00", "2020-03-29T20:00:00"),)
    folder = write_omop(tmp_path / "omop", [Person(1, "female", "1960-01-01", visits=stays)])
    view = (
        "SELECT date_diff('hour', visit_start_datetime, visit_end_datetime) AS hours"
        " FROM visit_occurrence"
    )
    files = read(Sources(omop=Omop(folder=folder)), view, time_zone="Europe/Paris")
    assert files["hours"].tolist() == [23]


def _export(folder: Path, *starts: str) -> Sources:
    folder.mkdir()
    lines = [
        f'{{"resourceType": "Encounter", "id": "{k}", "period": {{"start": "{start}"}}}}'
        for k, start in enumerate(starts)
    ]
    (folder / "Encounter.ndjson").write_text("\n".join(lines))
    view = folder / "view.json"
    view.write_text(
        '{"resourceType": "ViewDefinition", "name": "e", "status": "active", "resource":'
        ' "Encounter", "select": [{"column": [{"name": "start", "path": "period.start", "type":'
        ' "dateTime"}, {"name": "tagged", "path": "period.start", "type": "dateTime", "tag":'
        ' [{"name": "ansi/type", "value": "TIMESTAMP"}]}]}]}'
    )
    return Sources(fhir=Fhir(folder=folder, views=(view,)))


def test_a_tag_of_sql_keeps_the_offset(tmp_path: Path) -> None:
    source = _export(tmp_path / "fhir", "2020-01-01T10:00:00-05:00", "2020-01-01T16:00:00+01:00")
    view = "SELECT count(DISTINCT tagged) AS n, min(CAST(tagged AS VARCHAR)) AS first FROM e"
    table = read(source, view)
    assert (table["n"].tolist(), table["first"].tolist()) == ([1], ["2020-01-01 15:00:00+00"])


def test_midnights_of_an_export_are_days(tmp_path: Path) -> None:
    view = "SELECT start FROM e ORDER BY start"
    local = _export(tmp_path / "a", "2020-01-01T00:00:00+01:00", "2020-07-02T00:00:00+02:00")
    utc = _export(tmp_path / "b", "2019-12-31T23:00:00Z", "2020-07-01T22:00:00Z")
    for source in (local, utc):
        days = read(source, view, time_zone="Europe/Paris")["start"].tolist()
        assert days == ["2020-01-01", "2020-07-02"]
    assert read(local, view)["start"].tolist() == ["2020-01-01", "2020-07-02"]


def test_offsets_in_some_times_alone_want_a_time_zone(tmp_path: Path) -> None:
    source = _export(tmp_path / "fhir", "2020-01-01T10:00:00-05:00", "2020-01-01T10:00:00")
    with pytest.raises(WardroundError, match="only some have an offset") as refused:
        read(source, "SELECT start FROM e")
    assert "time_zone" in str(refused.value.remedy)
    assert len(read(source, "SELECT start FROM e", time_zone="Europe/Paris")["start"]) == 2


def test_days_of_two_clocks_are_noted(tmp_path: Path) -> None:
    source = _export(tmp_path / "fhir", "2020-01-01T10:00:00-05:00", "2020-01-01T10:00:00Z")
    notes: list[str] = []
    read(source, "SELECT start FROM e", note=notes.append)
    assert any("time_zone" in note for note in notes)
    notes.clear()
    read(source, "SELECT start FROM e", note=notes.append, time_zone="Europe/Paris")
    assert not notes


def test_days_of_utc_are_noted_once(tmp_path: Path) -> None:
    """At a site in Lima the 2nd of January in UTC begins in the evening of the 1st."""
    source = _export(tmp_path / "fhir", "2020-01-02T03:00:00Z", "2020-01-03T10:00:00Z")
    notes: list[str] = []
    read(source, "SELECT start FROM e", note=notes.append)
    assert [note for note in notes if "time_zone" in note] == [
        "Times are told in UTC (e.start and 1 more): until site.yaml states time_zone, a"
        " day is one of UTC."
    ]
    notes.clear()
    view = "SELECT CAST(calendar_day(start) AS VARCHAR) AS day FROM e ORDER BY day"
    table = read(source, view, note=notes.append, time_zone="America/Lima")
    assert table["day"].tolist() == ["2020-01-01", "2020-01-03"]
    assert not notes
