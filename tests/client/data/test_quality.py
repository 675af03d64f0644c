"""What `check --cohort` says of a table: each fault is found, named, and never quoted."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from client.cli import main
from client.cohorts.quality_page import grid, write_page
from client.data.quality import Quality, assess
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from tasks import registry
from tasks.base import Task
from tasks.schema import PATIENT, Column, Schema
from tests.client.daemon_federation import RULES, TASK, write_csv

ROWS = 400


class Ward(Task):
    name = "ward"
    title = "A ward"
    schema = Schema(
        (
            Column("glucose", "glucose", unit="mg/dL", low=40, high=600),
            Column("temperature", "temperature", unit="Cel", low=30, high=43),
            Column("sex", "sex", "category", categories=("female", "male")),
        ),
        "dead",
        "1: died",
        dates=("admitted", "discharged"),
    )

    def model(self) -> nn.Module:
        return nn.Linear(self.schema.width, 1)


def table(**changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    days = np.datetime64("2024-01-01") + rng.integers(0, 300, ROWS)
    return {
        PATIENT: np.array([f"p{k}" for k in range(ROWS)], dtype=object),
        "glucose": rng.uniform(70, 200, ROWS),
        "temperature": rng.normal(37, 0.5, ROWS),
        "sex": np.array(rng.choice(["female", "male"], ROWS), dtype=object),
        "dead": (rng.random(ROWS) < 0.2).astype(float),
        "admitted": np.array([str(d) for d in days], dtype=object),
        "discharged": np.array([str(d + 3) for d in days], dtype=object),
    } | changed


def looked(**changed: Any) -> Quality:
    return assess(Ward(), table(**changed), today=date(2025, 1, 1))


def test_a_good_table_raises_no_doubt() -> None:
    quality = looked()
    assert quality.all_doubts == ()
    assert (quality.rows, quality.patients, quality.most_rows) == (ROWS, ROWS, 1)
    assert quality.prevalence == pytest.approx(table()["dead"].mean())
    assert sum(quality.columns[0].histogram) == ROWS


@pytest.mark.parametrize(
    ("column", "change", "unit"),
    [
        ("glucose", lambda mgdl: mgdl / 18.016, "mmol/L of glucose"),
        ("temperature", lambda celsius: celsius * 9 / 5 + 32, "[degF]"),
        ("temperature", lambda celsius: celsius + 273.15, "K"),
    ],
)
def test_another_unit_is_named(
    column: str, change: Callable[[np.ndarray], np.ndarray], unit: str
) -> None:
    quality = looked(**{column: change(table()[column])})
    assert [unit in doubt for doubt in quality.all_doubts] == [True]


def test_what_is_out_of_range_or_missing_is_counted() -> None:
    glucose = table()["glucose"]
    glucose[:7], glucose[7:12] = 5000, np.nan
    column = looked(glucose=glucose).columns[0]
    assert (column.outside, column.missing, column.histogram[-1]) == (7, 5, 7)


def test_misspelt_categories_point_to_what_they_may_mean_and_are_not_quoted() -> None:
    sex = table()["sex"]
    sex[3:8], sex[8], sex[9] = "femal ", "CANARY", None
    quality = looked(sex=sex)
    (doubt,) = quality.all_doubts
    assert "6 rows (the first is 4)" in doubt
    assert "look like female" in doubt
    assert "CANARY" not in doubt
    assert quality.columns[2].missing == 1


def test_a_column_that_gives_the_label_away() -> None:
    dead = table()["dead"]
    (doubt,) = looked(glucose=120 + 100 * dead).all_doubts
    assert "glucose predicts the label by itself" in doubt
    (doubt,) = looked(sex=np.where(dead == 1, "male", "female").astype(object)).all_doubts
    assert "sex predicts the label" in doubt
    absent = np.where(dead == 1, np.nan, table()["temperature"])
    assert "temperature predicts" in looked(temperature=absent).all_doubts[0]


def test_one_class_repeated_patients_and_nameless_rows() -> None:
    assert "Every row has the label 0" in looked(dead=np.zeros(ROWS)).all_doubts[0]
    assert "No row has a label" in looked(dead=np.full(ROWS, np.nan)).all_doubts[0]
    patients = table()[PATIENT]
    patients[:3], patients[5] = "p9", None
    found = " ".join(looked(patient=patients).all_doubts)
    assert "1 patients have several rows, one has 4" in found
    assert "1 rows name no patient" in found


def test_dates_in_the_wrong_order_or_the_future() -> None:
    discharged = table()["discharged"]
    discharged[:4], discharged[4:6] = "2001-01-01", "2031-01-01"
    assert set(looked(discharged=discharged).doubts) == {
        "Column discharged: 2 rows lie in the future.",
        "4 rows have discharged before admitted.",
    }


def test_the_page_stands_alone_is_private_and_escapes(tmp_path: Path) -> None:
    sex = table()["sex"]
    sex[0] = "<script>"
    page = tmp_path / "page.html"
    write_page(looked(sex=sex), page)
    text = page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert text.count("data:image/png;base64,") == 3
    assert "none of female, male" in text
    assert "<script" not in text
    assert "http" not in text
    assert len(grid(looked()).rows) == 3


def test_check_shows_every_column_and_leaves_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "west.csv"
    write_csv(registry.load(TASK).public_sites(None)["west"], data)
    new_site.init(tmp_path / "west", SiteAnswers("west", data={TASK: data}, **RULES))

    def run(*options: str) -> str:
        argv = ["wardround-site", "check", "-c", str(tmp_path / "west"), "--cohort", *options]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit):
            main.main()
        return capsys.readouterr().out

    (cohort,) = json.loads(run("--json"))["cohorts"]
    assert cohort["rows"] == 68
    assert len(cohort["columns"]) == len(registry.load(TASK).schema.columns)
    assert Path(cohort["page"]).is_relative_to(tmp_path / "west" / "state" / "reports")
    shown = run()
    assert "68 rows of 68 patients" in shown
    assert "mean_radius" in shown
