"""Delimited and JSON files as hospitals write them: no value loses anything, or it is refused."""

from __future__ import annotations

import datetime
import gzip
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.data.sources.file_format import FileFormat
from client.data.sources.files import delimited
from client.data.sources.files.tables import register
from client.data.sources.session import Session
from client.data.sources.settings import Sources
from client.data.view_reader import read
from protocol.errors import Code, WardroundError
from tasks.schema import Table


def read_text(
    folder: Path,
    text: str | bytes,
    view: str = "SELECT * FROM t",
    *,
    name: str = "t.csv",
    zone: str | None = None,
    notes: list[str] | None = None,
    **layout: Any,
) -> Table:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    formats = {"t": FileFormat(**layout)} if layout else {}
    sources = Sources(files={"t": path}, formats=formats)
    return read(sources, view, time_zone=zone, note=(notes if notes is not None else []).append)


def types(folder: Path, text: str, *, name: str = "t.csv", **more: Any) -> dict[str, str]:
    """Column -> type, as a view sees them."""
    columns = text.splitlines()[0].split(",") if name == "t.csv" else list(more.pop("columns"))
    told = ", ".join(f'any_value(typeof("{column}")) AS "{column}"' for column in columns)
    table = read_text(folder, text, f"SELECT {told} FROM t", name=name, **more)
    return {column: str(values[0]) for column, values in table.items()}


def refusal(folder: Path, text: str | bytes, *args: Any, **more: Any) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        read_text(folder, text, *args, **more)
    assert "CANARY" not in str(caught.value)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "+3"], "BIGINT"),
        (["1", "NA", "null", "N/A", ".", "#N/A", "?"], "BIGINT"),
        (["9223372036854775808"], "VARCHAR"),
        (["007"], "VARCHAR"),
        (["123", "00123"], "VARCHAR"),
        (["123456789", "12345678X", "123456-7"], "VARCHAR"),  # check digits
        (["1.5", "2", ".5", "-0.30000000000000004", "1e-05", "2.5E+3"], "DOUBLE"),
        (["1.5", "00.5"], "VARCHAR"),
        (["12E3"], "VARCHAR"),
        (["8.0276001234567890123e+19"], "VARCHAR"),
        (["80276001234567890123.0"], "VARCHAR"),
        (["1.5", "inf"], "VARCHAR"),
        (["2020-01-10", "2020-1-5", "2020/01/10"], "DATE"),
        (["2020-01-10 00:00:00", "2020-01-11T00:00", "2020-01-12"], "DATE"),
        (["2020-01-10 00:00:00", "2020-01-11 00:01:00"], "TIMESTAMP"),
        (["2020-01-10 8:05", "2020-01-10 08:05:01.123456000"], "TIMESTAMP"),
        (["2020-01-10T08:05Z", "2020-01-10 08:05:01+0100"], "TIMESTAMP WITH TIME ZONE"),
        (["2020-01-10 08:05:01 UTC", "2020-01-10 08:05 -05"], "TIMESTAMP WITH TIME ZONE"),
        (["01/02/2020"], "VARCHAR"),
        (["20200110"], "BIGINT"),
        (["2020-01-10 25:00"], "VARCHAR"),
        (["2020-01"], "VARCHAR"),
        (["infinity"], "VARCHAR"),
    ],
)
def test_a_column_has_the_type_that_loses_nothing(
    tmp_path: Path, values: list[str], kind: str
) -> None:
    assert types(tmp_path, "\n".join(["v,w", *(f"{value},x" for value in values)]))["v"] == kind


def test_the_last_row_decides(tmp_path: Path) -> None:
    rows = "\n".join(["v", *["1"] * 20_000, "80276001234567890123"])
    assert types(tmp_path, rows)["v"] == "VARCHAR"


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.from_regex(r"[+-]?[0-9.eE]{1,24}", fullmatch=True), min_size=2, max_size=6))
def test_texts_that_differ_in_their_digits_stay_different(tmp_path: Path, texts: list[str]) -> None:
    """What is read as a number has the value that is written, to 15 digits before the point."""
    table = read_text(tmp_path, "v,w\n" + "".join(f'"{text}",x\n' for text in texts))
    if table["v"].dtype == np.float64:
        for text, value in zip(texts, table["v"], strict=True):
            assert text == "." or float(text) == value
    else:
        assert [None if text == "." else text for text in texts] == table["v"].tolist()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["20-01-01"], "two digits"),
        (["01/02/20 10:00"], "two digits"),
        (["10-JAN-20"], "two digits"),
        (["2020-02-30", "2020-02-01"], "that is none"),
        (["2020-01-10 10:00+01", "2020-01-10 10:00"], "only some have an offset"),
    ],
)
def test_times_that_would_be_guessed_are_refused(
    tmp_path: Path, values: list[str], says: str
) -> None:
    error = refusal(tmp_path, "\n".join(["taken,w", *(f"{value},CANARY" for value in values)]))
    assert error.code is Code.MALFORMED_DATA
    assert "the column taken" in error.message
    assert says in error.message


def test_what_is_stated_as_text_is_never_doubted(tmp_path: Path) -> None:
    table = read_text(tmp_path, "a,b\n20-01-01,007\n", types={"A": "text", "b": "integer"})
    assert (table["a"].tolist(), table["b"].tolist()) == (["20-01-01"], [7.0])


def test_a_time_without_an_offset_is_of_the_sites_clock(tmp_path: Path) -> None:
    """Between two and three in the night of 29 March 2020 no clock in Paris showed anything."""
    view = "SELECT date_diff('minute', a, b) AS m, CAST(CAST(b AS DATE) AS VARCHAR) AS d FROM t"
    text = "a,b\n2020-03-29 01:30:00,2020-03-29 03:30:00\n2020-03-28T23:30Z,2020-03-29 03:30\n"
    table = read_text(tmp_path, text, view, zone="Europe/Paris")
    assert table["m"].tolist() == [60.0, 120.0]
    assert table["d"].tolist() == ["2020-03-29"] * 2


@pytest.mark.parametrize(
    "day",
    ["CAST(a AS DATE)", "a::DATE", "date_trunc('day', a)", "date_diff('day', a, a)", "year(a)"],
)
def test_days_of_instants_need_a_time_zone(tmp_path: Path, day: str) -> None:
    text, view = "a,b\n2020-03-29T23:30:00Z,1\n", f"SELECT CAST({day} AS VARCHAR) AS d FROM t"
    error = refusal(tmp_path, text, view)
    assert (error.code, "time_zone" in (error.remedy or "")) == (Code.CONFIGURATION, True)
    assert read_text(tmp_path, text, view, zone="Asia/Tokyo")["d"][0]


def test_days_of_instants_are_those_of_the_site(tmp_path: Path) -> None:
    text, view = "a,b\n2020-03-29T23:30:00Z,1\n", "SELECT CAST(a::DATE AS VARCHAR) AS d FROM t"
    assert read_text(tmp_path, text, view, zone="Asia/Tokyo")["d"].tolist() == ["2020-03-30"]
    assert read_text(tmp_path, text, view, zone="America/Lima")["d"].tolist() == ["2020-03-29"]


@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
def test_a_day_without_an_hour_stays_one_where_the_column_is_text(
    tmp_path: Path, zone: str | None
) -> None:
    """By itself it is the midnight of that day, an hour that nobody wrote."""
    text = "seen\n2021-04-18 02:49\n2021-04-17T23:30:00\n2021-04-07\n"
    day = "CAST(calendar_day(seen) AS VARCHAR) AS day"
    view = f"SELECT instant(seen) IS NOT NULL AS timed, {day} FROM t"
    table = read_text(tmp_path, text, view, zone=zone, types={"seen": "text"})
    assert table["timed"].tolist() == [True, True, False]
    assert table["day"].tolist() == ["2021-04-18", "2021-04-17", "2021-04-07"]
    assert "TIMESTAMP" in types(tmp_path, text, zone=zone)["seen"]


def test_a_time_zone_that_is_none_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "a,b\n1,2\n", zone="Europe/Nowhere")
    assert "Europe/Nowhere is no time zone" in error.message


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_stated_encoding_is_read(tmp_path: Path, encoding: str, packed: bool) -> None:
    word = "Łódź" if encoding == "utf-16" else "é€" if encoding == "cp1252" else "é"
    content = f"nom;dosé\n{word};1,5\n".encode(encoding)
    name = "t.csv.gz" if packed else "t.csv"
    content = gzip.compress(content) if packed else content
    before = sorted(tmp_path.iterdir())
    table = read_text(tmp_path, content, name=name, encoding=encoding, decimal=",")
    assert (table["nom"].tolist(), table["dosé"].tolist()) == ([word], [1.5])
    assert sorted(tmp_path.iterdir()) == [*before, tmp_path / name]  # nothing was written


def test_utf16_of_the_other_byte_order(tmp_path: Path) -> None:
    content = "\ufeffa,b\né,2\n".encode("utf-16-be")
    assert read_text(tmp_path, content, encoding="utf-16")["a"].tolist() == ["é"]


@pytest.mark.parametrize(("encoding", "proposed"), [("cp1252", "cp1252"), ("utf-16", "utf-16")])
def test_another_encoding_is_proposed(tmp_path: Path, encoding: str, proposed: str) -> None:
    error = refusal(tmp_path, "a,b\né,CANARY\n".encode(encoding))
    assert f"encoding: {proposed}" in (error.remedy or "")
    assert "line" in error.message


def test_a_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"a,b\nx,CANARY\n\x81,2\n", encoding="cp1252")
    assert "is not cp1252" in error.message


def test_a_hospital_states_how_its_numbers_and_dates_are_written(tmp_path: Path) -> None:
    text = (
        "Laborbericht\nStand: gestern\n\n"
        "patient;wert;entnommen;tag\n007;1.234,5;03.04.2020 10:15;03.04.2020\n8;-;1.5.2021 0:00;\n"
    )
    table = read_text(
        tmp_path,
        text,
        "SELECT patient, wert, CAST(entnommen AS VARCHAR) AS e, typeof(tag) AS t FROM t",
        title_lines=3,
        decimal=",",
        thousands=".",
        dates=["%d.%m.%Y %H:%M", "%d.%m.%Y"],
        missing=["-"],
    )
    assert table["patient"].tolist() == ["007", "8"]
    np.testing.assert_array_equal(table["wert"], [1234.5, np.nan])
    assert table["e"].tolist() == ["2020-04-03 10:15:00", "2021-05-01 00:00:00"]
    assert table["t"].tolist() == ["DATE"] * 2


def test_a_year_of_two_digits_is_none_of_a_stated_four(tmp_path: Path) -> None:
    error = refusal(tmp_path, "d;w\n01.02.20;1\n", dates=["%d.%m.%Y"])
    assert "two digits" in error.message


def test_blanks_between_thousands(tmp_path: Path) -> None:
    text = "v;w\n1 234,5;1\n1\u202f234\u00a0567;2\n"
    table = read_text(tmp_path, text, decimal=",", thousands=" ")
    assert table["v"].tolist() == [1234.5, 1234567.0]


@pytest.mark.parametrize("text", [",a,b\n0,1,2\n", "a,b,\n1,2,\n", "a,,b\n1,CANARY,2\n"])
def test_a_column_without_a_name_is_left_out_and_told(tmp_path: Path, text: str) -> None:
    notes: list[str] = []
    table = read_text(tmp_path, text, notes=notes)
    assert {name: values.tolist() for name, values in table.items()} == {"a": [1.0], "b": [2.0]}
    assert any("without a name" in note for note in notes)


def test_a_type_for_a_column_that_is_not_there(tmp_path: Path) -> None:
    error = refusal(tmp_path, "a,b\n1,2\n", types={"c": "text"})
    assert (error.code, "no column c" in error.message) == (Code.CONFIGURATION, True)


def test_a_stated_type_is_held_against_every_row(tmp_path: Path) -> None:
    error = refusal(tmp_path, "a,b\n1,2\nCANARY,3\n", types={"a": "number"})
    assert (error.code, "the column a" in error.message) == (Code.MALFORMED_DATA, True)


def test_names_over_two_lines(tmp_path: Path) -> None:
    table = read_text(tmp_path, 'a,"b\n(mg)"\n1,2\n')
    assert table["a"].tolist() == [1.0]


def test_json_keeps_digits_offsets_and_texts(tmp_path: Path) -> None:
    text = (
        '{"p": 80276001234567890123, "n": 1.5e3, "t": "2020-01-01T10:00:00+02:00", "c": "12"}\n'
        '{"p": 80276001234567890124, "n": 2, "t": "2020-01-01T08:00:00Z", "c": "007"}\n'
    )
    view = "SELECT p, n, date_diff('minute', min(t) OVER (), t) AS m, c FROM t"
    table = read_text(tmp_path, text, view, name="t.ndjson")
    assert table["p"].tolist() == ["80276001234567890123", "80276001234567890124"]
    assert table["n"].tolist() == [1500.0, 2.0]
    assert table["m"].tolist() == [0.0, 0.0]
    assert table["c"].tolist() == ["12", "007"]


def test_long_numbers_within_a_mapping_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, '{"n": {"id": 80276001234567890123}}\n', name="t.ndjson")
    assert "within n" in error.message


def test_json_booleans_and_mappings_stay(tmp_path: Path) -> None:
    view = "SELECT b, n.v AS v FROM t"
    table = read_text(tmp_path, '{"b": true, "n": {"v": 1.5}}\n', view, name="t.ndjson")
    assert (table["b"].tolist(), table["v"].tolist()) == ([1.0], [1.5])


def test_what_is_stated_of_json(tmp_path: Path) -> None:
    text = '{"a": "20-01-01", "b": "03.04.2020"}\n'
    assert "two digits" in refusal(tmp_path, text, name="t.ndjson").message
    view = "SELECT a, typeof(b) AS b FROM t"
    table = read_text(
        tmp_path, text, view, name="t.ndjson", types={"a": "text"}, dates=["%d.%m.%Y"]
    )
    assert (table["a"].tolist(), table["b"].tolist()) == (["20-01-01"], ["DATE"])


@pytest.mark.parametrize(("name", "layout"), [
    ("t.ndjson", {"encoding": "cp1252"}), ("t.ndjson", {"decimal": ","}),
    ("t.parquet", {"types": {"a": "text"}}),
])  # fmt: skip
def test_what_a_file_does_not_leave_open_is_not_stated(
    tmp_path: Path, name: str, layout: dict[str, Any]
) -> None:
    error = refusal(tmp_path, '{"a": 1}\n', name=name, **layout)
    assert (error.code, "formats.t" in error.message) == (Code.CONFIGURATION, True)


def test_an_offset_in_some_files_of_a_table_alone(tmp_path: Path) -> None:
    (tmp_path / "t-1.csv").write_text("a,b\n2020-01-10 10:00,CANARY\n")
    (tmp_path / "t-2.csv").write_text("a,b\n2020-01-10 10:00+01:00,x\n")
    sources = Sources(files={"t": tmp_path / "t-*.csv"})
    view = "SELECT date_diff('hour', min(a), max(a)) AS h FROM t"
    with pytest.raises(WardroundError, match=r"the column a has an offset .* in some files alone"):
        read(sources, view)
    assert read(sources, view, time_zone="Europe/Paris")["h"].tolist() == [0.0]


def test_a_copy_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "_LARGEST_COPY", 9)
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\né,CANARY\n".encode("cp1252") * 9)
    with Session(1 << 30, 1) as session, pytest.raises(WardroundError) as caught:
        register(session, "t", path, layout=FileFormat(encoding="cp1252"))
    assert "iconv -f cp1252 -t utf-8" in caught.value.remedy


def test_a_hexadecimal_identifier_is_no_float(tmp_path: Path) -> None:
    table = read_text(tmp_path, "patient,b\n7e12,1\nab,2\n")
    assert table["patient"].tolist() == ["7e12", "ab"]


def growing(connection: Any, path: Path) -> None:
    def appended(value: int) -> int:
        with path.open("a") as file:
            file.write("3,4\n")
        return value

    connection.create_function("appended", appended, ["BIGINT"], "BIGINT")


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    grow = partial(growing, path=path)
    with pytest.raises(WardroundError) as caught:
        read(Sources(files={"t": path}), "SELECT appended(a) AS a FROM t", extras=[grow])
    assert "changed while it was read" in caught.value.message


@pytest.mark.parametrize(
    "view",
    [
        "SELECT 80276001234567890123::DOUBLE AS patient FROM t",
        "SELECT CAST(80276001234567890123::DOUBLE AS VARCHAR) AS patient FROM t",
    ],
)
def test_identifiers_that_went_through_a_float_are_refused(tmp_path: Path, view: str) -> None:
    assert "lose digits" in refusal(tmp_path, "a,b\n1,2\n", view).message


def test_the_times_of_a_parquet_file_keep_theirs(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    moment = datetime.datetime(2020, 1, 1, 10, tzinfo=datetime.UTC)
    duckdb.execute("COPY (SELECT ? AS t) TO '" + str(path) + "'", [moment])
    view = "SELECT CAST(t::DATE AS VARCHAR) AS d FROM t"
    table = read(Sources(files={"t": path}), view, time_zone="Pacific/Kiritimati")
    assert table["d"].tolist() == ["2020-01-02"]


def test_lines_that_end_in_a_carriage_return_alone(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a,b\r1,null\r3,N/A\r")["a"].tolist() == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\na;b\n1;2,5\n",
        "\ufeffSEP=;\r\na;b\r\n1;2,5\r\n",
        '"sep=\t"\na\tb\n1\t2,5\n',
        "sep=^\na^b\n1^2,5\n",
    ],
)
def test_the_line_that_tells_excel_the_sign_between_fields(tmp_path: Path, text: str) -> None:
    table = read_text(tmp_path, text, decimal=",")
    assert {name: values.tolist() for name, values in table.items()} == {"a": [1.0], "b": [2.5]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n1,x\r\n2,y\n", 2),
        ("a,b\r\n" + "1,x\r\n" * 5_000 + "2,CANARY\n" + "1,x\r\n" * 5_000, 5_002),
        ("a,b\n1,x\r2,CANARY\n3,z\n", 2),
    ],
)
def test_lines_that_end_in_two_ways_are_named(tmp_path: Path, text: str, line: int) -> None:
    """Files that were put together, or of which one was edited on another system."""
    error = refusal(tmp_path, text)
    assert f"line {line} ends in" in error.message
    assert "dos2unix" in error.remedy


def test_a_title_above_the_names_is_said_how_to_state(tmp_path: Path) -> None:
    error = refusal(tmp_path, "CANARY of 2020\na,b\n1,2\n")
    assert "title_lines: 1" in error.remedy
    assert read_text(tmp_path, "CANARY of 2020\na,b\n1,2\n", title_lines=1)["b"].tolist() == [2.0]
