"""Readmission: UCI's codes in the task's columns, one home for a patient, the HOSPITAL score."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.datasets import diabetes130
from tasks.datasets.diabetes130 import DIED_OR_HOSPICE, group, home
from tasks.published_scores import hospital_score
from tasks.schema import PATIENT
from tasks.shipped.readmission import Readmission

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
needs_diabetes = pytest.mark.skipif(
    not (ROOT / "diabetes_130us").is_dir(), reason="wardround data fetch readmission"
)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("250.83", "diabetes"),
        ("276", "endocrine"),
        ("428", "heart_failure"),
        ("427.31", "arrhythmia"),
        ("414", "ischaemic_heart"),
        ("401", "circulatory"),
        ("486", "pneumonia"),
        ("8", "infectious"),
        ("V57", "other"),
        ("E888", "other"),
        ("745", "other"),
        ("996", "injury"),
        ("?", None),
    ],
)
def test_a_diagnosis_belongs_to_its_chapter_or_to_the_disease_in_it(
    code: str, expected: str | None
) -> None:
    assert group(code) == expected


@pytest.mark.parametrize(
    ("source", "kind", "specialty", "site"),
    [
        ("7", "1", "?", "emergency"),
        ("7", "1", "Cardiology", "university"),
        ("7", "2", "Family/GeneralPractice", "county"),
        ("1", "3", "?", "elective"),
        ("1", "1", "?", "community"),
        ("4", "2", "?", "referral"),
        ("17", "6", "?", "referral"),
    ],
)
def test_the_way_in_makes_the_hospital(source: str, kind: str, specialty: str, site: str) -> None:
    row = {
        "admission_source_id": source,
        "admission_type_id": kind,
        "medical_specialty": specialty,
    }
    assert home(row) == site


@pytest.mark.parametrize(
    ("oncology", "procedure", "urgent", "stays", "days", "points"),
    [
        (False, False, False, 0, 1, 0),
        (True, False, False, 0, 4, 2),
        (False, True, True, 1, 5, 6),
        (False, False, True, 5, 14, 5),
        (True, True, True, 6, 5, 11),
        (False, False, False, np.nan, np.nan, 0),
    ],
)
def test_the_hospital_score_has_the_published_points(
    oncology: bool, procedure: bool, urgent: bool, stays: float, days: float, points: int
) -> None:
    found = hospital_score.points(
        np.array([oncology]),
        np.array([procedure]),
        np.array([urgent]),
        np.array([stays]),
        np.array([days]),
    )
    assert found.tolist() == [points]


def test_the_hospital_score_gives_its_groups_about_the_published_risks() -> None:
    risks = 1 / (1 + np.exp(-hospital_score.log_odds(np.array([2.0, 5.5, 10.0]))))
    assert np.allclose(risks, [0.058, 0.119, 0.228], atol=0.015)


def _stay(**codes: str) -> dict[str, str]:
    """A row of UCI's file."""
    usual = {
        "patient_nbr": "1",
        "gender": "Female",
        "age": "[70-80)",
        "admission_type_id": "1",
        "admission_source_id": "7",
        "discharge_disposition_id": "3",
        "payer_code": "MC",
        "medical_specialty": "Pediatrics-Endocrinology",
        "diag_1": "428",
        "diag_2": "250.5",
        "diag_3": "?",
        "time_in_hospital": "5",
        "num_lab_procedures": "50",
        "num_procedures": "1",
        "num_medications": "20",
        "number_diagnoses": "9",
        "number_outpatient": "0",
        "number_emergency": "1",
        "number_inpatient": "2",
        "max_glu_serum": ">200",
        "A1Cresult": "None",
        "change": "Ch",
        "diabetesMed": "Yes",
        "readmitted": "<30",
    }
    drugs = dict.fromkeys(("metformin", "insulin"), "No")
    return usual | drugs | codes


def test_a_row_of_the_file_becomes_a_row_of_the_task() -> None:
    rows = [_stay(insulin="Up"), _stay(payer_code="?", gender="Unknown/Invalid", readmitted=">30")]
    table = diabetes130._table(rows, ("metformin", "insulin"))
    first, second = ({name: values[k] for name, values in table.items()} for k in (0, 1))
    assert (first["age"], first["sex"], first["payer"]) == (75.0, "female", "medicare")
    assert (first["specialty"], first["discharged_to"]) == ("paediatrics", "nursing_facility")
    assert [first[f"diagnosis_{k}"] for k in "123"] == ["heart_failure", "diabetes", None]
    assert (first["glucose"], first["insulin"], first["metformin"]) == (250.0, "up", "no")
    assert np.isnan(first["hba1c"])
    assert (first["readmitted"], second["readmitted"]) == (1.0, 0.0)
    assert (second["sex"], second["payer"]) == (None, None)


@given(
    st.sampled_from(sorted(diabetes130.ADMISSION_TYPES.values())),
    st.integers(0, 20),
    st.integers(1, 14),
)
def test_the_model_starts_at_the_score_and_more_stays_never_lower_it(
    kind: str, stays: int, days: int
) -> None:
    task = Readmission()
    drugs = [c.name for c in task.schema.columns if c.categories == ("no", "steady", "up", "down")]
    rows = [
        _stay(
            admission_type_id=kind,
            number_inpatient=str(number),
            time_in_hospital=str(days),
            **{drug.replace("_", "-"): "No" for drug in drugs},
        )
        for number in (stays, stays + 1)
    ]
    table = diabetes130._table(rows, drugs)
    known = task.public_score(table)
    assert known[0] <= known[1]
    outputs = task.scores(task.model()(torch.from_numpy(task.features(table))))
    assert np.allclose(outputs.detach().numpy(), known, atol=1e-6)


@pytest.mark.slow
@needs_diabetes
def test_six_uneven_hospitals_with_every_patient_at_one() -> None:
    sites = Readmission().public_sites(ROOT)
    assert {site: len(table["age"]) for site, table in sites.items()} == {
        "community": 14947,
        "county": 14204,
        "elective": 16576,
        "emergency": 30453,
        "referral": 12846,
        "university": 10317,
    }
    homes = [set(table[PATIENT]) for table in sites.values()]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 69990
    labels = np.concatenate([table["readmitted"] for table in sites.values()])
    assert labels.mean() == pytest.approx(0.1139, abs=1e-4)
    assert "11" in DIED_OR_HOSPICE
    small = {name: values[:500] for name, values in sites["county"].items()}
    features = Readmission().features(small)
    assert features.shape == (500, Readmission().schema.width + 1)
    assert np.abs(features).max() <= 1
