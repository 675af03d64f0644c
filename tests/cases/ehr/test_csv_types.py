"""A delimited file means what the hospital wrote: times of day, identifiers and headers survive.

Faults of this kind: a column's type is the first format that fits the beginning of its texts, so
that times of day are lost in every CSV file; identifiers are read as DOUBLE, which merges patients
and with them their privacy (one clip for two, or one patient in both parts of a split); the
delimiter is guessed from raw characters; an error does not say what to do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.ehr.records import read_file

_BETWEEN = "SELECT date_diff('hour', a, b) AS h FROM t"
_SPAN = "SELECT date_diff('hour', min(a), max(a)) AS h FROM t"
_PATIENTS = "SELECT count(DISTINCT patient) AS n FROM t"


@pytest.mark.parametrize(
    ("text", "view", "hours"),
    [
        pytest.param(
            "patient,a,b\n1,2020-01-10 20:00:00,2020-01-11 08:00:00\n",
            _BETWEEN,
            12.0,
            id="with a space",
        ),
        pytest.param(
            "patient,a,b\n1,2020-01-10T20:00:00,2020-01-11T08:00:00\n",
            _BETWEEN,
            12.0,
            id="ISO 8601 with T",
        ),
        pytest.param(
            "patient,a,b\n1,2020-01-10 20:00,2020-01-11 08:00\n",
            _BETWEEN,
            12.0,
            id="to the minute",
        ),
        pytest.param(
            "patient,a,b\n1,2020-01-10 20:00:00+00,2020-01-10 20:00:00-05\n",
            _BETWEEN,
            5.0,
            id="with offsets from UTC",
        ),
        pytest.param(
            "patient,a\n1,2020-01-01\n2,2020-01-01 10:00\n",
            _SPAN,
            10.0,
            id="dates, some with a time",
        ),
    ],
)
def test_timestamps_keep_their_hours(tmp_path: Path, text: str, view: str, hours: float) -> None:
    assert read_file(tmp_path, text, view) == [(hours,)]


def test_dates_stay_dates(tmp_path: Path) -> None:
    text = "patient,a,b\n1,2020-01-10,2020-01-12\n"
    assert read_file(tmp_path, text, "SELECT date_diff('day', a, b) AS d FROM t") == [(2.0,)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(
            "t.csv",
            "patient,age\n80276001234567890123,50\n80276001234567890124,60\n",
            id="20 digits",
        ),
        pytest.param(
            "t.csv",
            "patient,age\n9999999999999999991,50\n9999999999999999992,60\n",
            id="19 digits, above 2^63",
        ),
        pytest.param(
            "t.csv",
            "patient,age\n9007199254740993,50\n9007199254740995,60\n",
            id="16 digits",
        ),
        pytest.param(
            "t.ndjson",
            '{"patient":80276001234567890123}\n{"patient":80276001234567890124}\n',
            id="20 digits in NDJSON",
        ),
    ],
)
def test_two_identifiers_are_two_patients(tmp_path: Path, name: str, text: str) -> None:
    assert read_file(tmp_path, text, _PATIENTS, name) == [(2.0,)]


def test_a_first_column_without_a_name(tmp_path: Path) -> None:
    """The index that pandas writes in front."""
    seen = read_file(tmp_path, ",patient,age\n0,1,50\n1,2,60\n", _PATIENTS)
    assert seen == [(2.0,)] or (
        isinstance(seen, str)
        and (("name" in seen and "header" in seen) or "no name" in seen or "without a name" in seen)
    )


def test_a_delimiter_at_the_end_of_each_line(tmp_path: Path) -> None:
    """The header then names one column less than there are."""
    seen = read_file(tmp_path, "patient,age,\n1,50,\n", _PATIENTS)
    assert seen == [(1.0,)] or (
        isinstance(seen, str) and ("no name" in seen or "without a name" in seen)
    )


def test_commas_in_a_quoted_header(tmp_path: Path) -> None:
    text = 'patient;"glucose, mg/dl, fasting, x";v\n1;5;6\n'
    assert read_file(tmp_path, text, "SELECT patient, v FROM t") == [(1.0, 6.0)]


def test_a_year_of_two_digits_is_none_of_antiquity(tmp_path: Path) -> None:
    seen = read_file(tmp_path, "patient,d\n1,20-01-01\n", "SELECT CAST(d AS VARCHAR) AS d FROM t")
    assert seen in ([("20-01-01",)], [("2020-01-01",)]) or isinstance(seen, str), (
        "as it stood, or 2020, or a refusal"
    )


def test_lines_that_end_with_a_carriage_return_alone(tmp_path: Path) -> None:
    seen = read_file(tmp_path, "patient,age\r1,50\r2,60\r", _PATIENTS)
    assert seen == [(2.0,)] or (isinstance(seen, str) and "line" in seen)
