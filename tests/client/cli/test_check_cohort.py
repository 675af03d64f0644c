"""`check` and `check --cohort` where nobody is selected, of bundles as Synthea writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.cli import main
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from tests.cases.ehr.records import SNOMED

RULES: dict[str, Any] = {"tasks": (), "purposes": ("research",), "modes": (), "delta": 1e-5}
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
TYPE_2 = ("44054006", "Diabetes mellitus type 2 (disorder)")
Run = Callable[..., str]


def coded(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": SNOMED, "code": code, "display": display}], "text": display}


def bundle(path: Path, diagnosis: tuple[str, str]) -> None:
    """One patient, who visits in April, is in hospital in May, and visits again long after."""
    uuid = "urn:uuid:00000000-0000-4000-8000-00000000000"
    patient = {
        "resourceType": "Patient",
        "id": f"{uuid[9:]}1",
        "gender": "female",
        "birthDate": "1950-03-01",
    }
    resources: list[dict[str, Any]] = [patient]
    visits = [("2", "AMB", "2019-04-01"), ("3", "IMP", "2019-05-01"), ("4", "AMB", "2019-09-01")]
    for number, kind, day in visits:
        encounter = {
            "resourceType": "Encounter",
            "id": f"{uuid[9:]}{number}",
            "status": "finished",
            "class": {"system": ACT, "code": kind},
            "type": [coded("185347001", "Encounter for problem (procedure)")],
            "subject": {"reference": f"{uuid}1"},
            "period": {"start": f"{day}T08:00:00-04:00", "end": f"{day[:-1]}3T08:00:00-04:00"},
        }
        resources.append(encounter)
    condition = {
        "resourceType": "Condition",
        "id": f"{uuid[9:]}5",
        "code": coded(*diagnosis),
        "subject": {"reference": f"{uuid}1"},
        "encounter": {"reference": f"{uuid}3"},
        "onsetDateTime": "2019-05-01T08:00:00-04:00",
    }
    resources.append(condition)
    entries = [
        {"fullUrl": f"urn:uuid:{one['id']}", "resource": one, "request": {"method": "POST"}}
        for one in resources
    ]
    path.write_text(json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}))


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`check` at a site with such a bundle and one task, by the view that is shipped."""
    monkeypatch.setenv("COLUMNS", "100")

    def check(task: str, *options: str, diagnosis: tuple[str, str] = TYPE_2) -> str:
        (tmp_path / "fhir").mkdir()
        bundle(tmp_path / "fhir" / "patient.json", diagnosis)
        new_site.init(tmp_path / "west", SiteAnswers("west", data={}, **RULES))
        path = tmp_path / "west" / new_site.SITE_YAML
        before, after = path.read_text().split("\ndata:")
        data = f"  {task}:\n    fhir: {{folder: {tmp_path / 'fhir'}}}\n    view: template:fhir\n"
        rest = after[after.index("\n# The rules") :]
        path.write_text(f"{before}\ntime_zone: Europe/Paris\ndata:\n{data}{rest}")
        argv = ["wardround-site", "check", "-c", str(tmp_path / "west"), *options]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit):
            main.main()
        return capsys.readouterr().out

    return check


def screen(shown: str) -> list[str]:
    """What follows the checks, with its wrapped lines joined."""
    return shown.split("step by step (rows, patients):\n")[1].replace("\n    ", " ").splitlines()


def test_the_screen_names_the_step_then_the_code_that_was_looked_for(run: Run) -> None:
    shown = run("readmission", "--cohort")
    first, second, *_ = screen(shown)
    assert first.strip() == (
        "No patient is left at the step index_stay: diabetic has no rows, since no record meets the"
        " value set diabetes."
    )
    assert "Diabetes mellitus type 2 (disorder) 44054006 (1)" in second
    assert "No record is later than 2019-09" in shown
    lines = shown.split("readmission, step by step")[1].splitlines()
    assert len(lines) <= 40
    assert all(len(line) <= 100 for line in lines)


def test_without_a_patient_of_that_kind_no_code_is_proposed(run: Run) -> None:
    hypertension = ("59621000", "Essential hypertension (disorder)")
    shown = run("readmission", "--cohort", diagnosis=hypertension)
    assert "no record meets the value set diabetes" in screen(shown)[0]
    assert "Much like it" not in shown


def test_without_intensive_care_that_is_the_cause(run: Run) -> None:
    first, *_ = screen(run("icu_mortality", "--cohort"))
    assert first.strip() == (
        "No patient is left at the step icu: intensive has no rows, since no record meets the value"
        " set icu_encounter."
    )


@pytest.mark.parametrize(
    "task", ["icu_mortality", "icu_timeseries", "readmission", "deterioration", "no_show"]
)
def test_every_template_selects_somebody_or_names_the_step_on_one_screen(
    run: Run, task: str
) -> None:
    shown = run(task, "--cohort")
    told = shown.split(f"{task}, step by step (rows, patients):\n")[1].split("\n\n")[0]
    named = screen(shown)[0].strip().startswith("No patient is left at the step ")
    assert named or "with plots: " in shown
    assert len(told.splitlines()) <= 40


def test_the_same_for_a_program_though_the_cohort_is_empty(run: Run) -> None:
    (cohort,) = json.loads(run("readmission", "--cohort", "--json"))["cohorts"]
    attrition = cohort["attrition"]
    assert cohort["task"] == "readmission"
    assert "diabetic has no rows" in attrition["causes"][0]
    assert attrition["likely"] == [[TYPE_2[1], TYPE_2[0], 1]]
    assert attrition["ends"] == "2019-09"
    steps = {step["name"]: (step["rows"], step["patients"]) for step in attrition["steps"]}
    assert steps["segment"] == (3, 1)
    assert steps["index_stay"] == (0, 0)


def test_plain_check_names_the_codes_that_nothing_covers(run: Run) -> None:
    findings = {one["name"]: one for one in json.loads(run("readmission", "--json"))["checks"]}
    assert findings["data of readmission"]["code"] == "no_data"
    assert "44054006 (1)" in findings["codes of readmission"]["found"]
    assert findings["codes of readmission"]["passed"] is None
