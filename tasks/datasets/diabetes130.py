"""Diabetes 130-US as UCI publishes it, in the columns of the task `readmission`, with the
level of readmission beside them.

Codes are those of the file's own IDS_mapping.csv; diagnoses are grouped by ICD-9-CM chapter. The
file names no hospital, so six are made of what it tells about the way in: how a patient was first
admitted decides his home site, for all of his stays (7,951 patients came in by several ways).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.base import Download
from tasks.datasets.downloads import published
from tasks.schema import PATIENT, Table

DOWNLOAD = Download(
    "https://archive.ics.uci.edu/static/public/296/"
    "diabetes+130-us+hospitals+for+years+1999-2008.zip",
    "0689e7ec031237dc63031b938805c48377748761a3b26acab621567afa24df97",
    "diabetic_data.csv",
    member="diabetic_data.csv",
    folder="diabetes_130us",
)
DIED_OR_HOSPICE = frozenset(("11", "13", "14", "19", "20", "21"))

ADMISSION_TYPES = {"emergency": "1", "urgent": "2", "elective": "3", "newborn": "4", "trauma": "7"}
ADMISSION_SOURCES = {
    "emergency_room": "7",
    "physician_referral": "1",
    "clinic_referral": "2",
    "hmo_referral": "3",
    "hospital": "4 10 22",
    "nursing_facility": "5",
    "health_care_facility": "6 25",
}
DISCHARGES = {
    "home": "1",
    "home_health": "6",
    "home_iv": "8",
    "short_term_hospital": "2 29",
    "nursing_facility": "3 24",
    "intermediate_care": "4",
    "inpatient_care": "5 9 15",
    "rehabilitation": "22",
    "long_term_hospital": "23",
    "psychiatric_hospital": "28",
    "against_advice": "7",
}
PAYERS = {
    "medicare": "MC MP",
    "medicaid": "MD DM",
    "commercial": "BC HM CM CP PO UN",
    "self_pay": "SP",
}
SPECIALTIES = {
    "internal_medicine": "InternalMedicine Hospitalist",
    "emergency": "Emergency/Trauma",
    "family_practice": "Family/GeneralPractice",
    "cardiology": "Cardiology",
    "surgery": "Surgery-General Surgeon",
    "nephrology": "Nephrology",
    "orthopaedics": "Orthopedics Orthopedics-Reconstructive",
    "radiology": "Radiologist Radiology",
    "pulmonology": "Pulmonology",
    "psychiatry": "Psychiatry Psychology",
    "urology": "Urology",
    "obstetrics_gynaecology": "ObstetricsandGynecology Gynecology Obstetrics",
    "cardiothoracic_surgery": "Surgery-Cardiovascular/Thoracic Surgery-Cardiovascular "
    "Surgery-Thoracic",
    "gastroenterology": "Gastroenterology",
    "vascular_surgery": "Surgery-Vascular",
    "neurosurgery": "Surgery-Neuro",
    "rehabilitation": "PhysicalMedicineandRehabilitation",
    "oncology": "Oncology Hematology/Oncology Hematology",
    "paediatrics": "Pediatrics",
    "neurology": "Neurology",
    "endocrinology": "Endocrinology",
}
"""These five: a category of the task, and the file's codes for it, parted by blanks."""
_GLUCOSE = {"Norm": 120.0, ">200": 250.0, ">300": 350.0}
"""A value inside each of the file's bands, mg/dL."""
_HBA1C = {"Norm": 6.0, ">7": 7.5, ">8": 9.0}
_CHAPTERS = (
    (1, 139, "infectious"),
    (140, 239, "neoplasm"),
    (250, 250, "diabetes"),
    (240, 279, "endocrine"),
    (280, 289, "blood"),
    (290, 319, "mental"),
    (320, 389, "nervous"),
    (410, 414, "ischaemic_heart"),
    (428, 428, "heart_failure"),
    (427, 427, "arrhythmia"),
    (430, 438, "cerebrovascular"),
    (390, 459, "circulatory"),
    (480, 488, "pneumonia"),
    (490, 496, "copd_asthma"),
    (460, 519, "respiratory"),
    (520, 579, "digestive"),
    (580, 589, "kidney"),
    (590, 629, "genitourinary"),
    (630, 679, "pregnancy"),
    (680, 709, "skin"),
    (710, 739, "musculoskeletal"),
    (780, 799, "symptoms"),
    (800, 999, "injury"),
)
"""The first that fits: ICD-9-CM chapters; a single disease stands before its chapter."""
DIAGNOSES = tuple(name for _, _, name in _CHAPTERS)
LEVEL = "readmission_level"
_LEVELS = {"NO": 0.0, ">30": 1.0, "<30": 2.0}
_COUNTS = {
    "length_of_stay": "time_in_hospital",
    "lab_procedures": "num_lab_procedures",
    "procedures": "num_procedures",
    "medications": "num_medications",
    "diagnoses": "number_diagnoses",
    "outpatient_visits": "number_outpatient",
    "emergency_visits": "number_emergency",
    "inpatient_stays": "number_inpatient",
}


def _by_code(codes: Mapping[str, str], other: str = "") -> dict[str, str]:
    """The file's code -> category; `other`: codes of what is none of the categories."""
    return {code: name for name, of in {**codes, "other": other}.items() for code in of.split()}


_CODED = {
    "sex": ("gender", {"Female": "female", "Male": "male"}),
    "admission_type": ("admission_type_id", _by_code(ADMISSION_TYPES)),
    "admission_source": ("admission_source_id", _by_code(ADMISSION_SOURCES, "8 11 13 14 18")),
    "discharged_to": ("discharge_disposition_id", _by_code(DISCHARGES, "10 12 16 17 27 30")),
    "drugs_changed": ("change", {"No": "no", "Ch": "yes"}),
    "diabetes_drug": ("diabetesMed", {"No": "no", "Yes": "yes"}),
}
"""Column -> the file's own, and what its codes mean; any other code is a missing value."""
_PAYER, _SPECIALTY = _by_code(PAYERS), _by_code(SPECIALTIES)


def sites(root: Path | None, drugs: Sequence[str]) -> dict[str, Table]:
    """Simulated hospital -> its stays, in the order of the file's numbers, which is time's.

    Raises WardroundError: NO_DATA without the file, MALFORMED_DATA where it differs.
    """
    text = published(root, DOWNLOAD, "readmission").decode("utf-8")
    rows = [
        row
        for row in csv.DictReader(io.StringIO(text))
        if row["discharge_disposition_id"] not in DIED_OR_HOSPICE
    ]
    rows.sort(key=lambda row: int(row["encounter_id"]))
    homes: dict[str, str] = {}
    stays: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        stays.setdefault(homes.setdefault(row["patient_nbr"], home(row)), []).append(row)
    return {site: _table(stays[site], drugs) for site in sorted(stays)}


def _table(rows: Sequence[Mapping[str, str]], drugs: Sequence[str]) -> Table:
    def objects(values: Iterable[str | None]) -> npt.NDArray[Any]:
        return np.array(list(values), dtype=object)

    table: dict[str, npt.NDArray[Any]] = {
        PATIENT: objects(row["patient_nbr"] for row in rows),
        "age": np.array([_middle(row["age"]) for row in rows]),
        "payer": objects(_named(_PAYER, row["payer_code"]) for row in rows),
        "specialty": objects(_specialty(row["medical_specialty"]) for row in rows),
        "glucose": np.array([_GLUCOSE.get(row["max_glu_serum"], np.nan) for row in rows]),
        "hba1c": np.array([_HBA1C.get(row["A1Cresult"], np.nan) for row in rows]),
        "readmitted": np.array([float(row["readmitted"] == "<30") for row in rows]),
        LEVEL: np.array([_LEVELS[row["readmitted"]] for row in rows]),
    }
    for name, (source, meanings) in _CODED.items():
        table[name] = objects(meanings.get(row[source]) for row in rows)
    for rank in ("1", "2", "3"):
        table[f"diagnosis_{rank}"] = objects(group(row[f"diag_{rank}"]) for row in rows)
    for name, source in _COUNTS.items():
        table[name] = np.array([float(row[source]) for row in rows])
    for drug in drugs:
        table[drug] = objects(row[drug.replace("_", "-")].lower() for row in rows)
    return table


def _middle(band: str) -> float:
    """ "[70-80)" -> 75.0 years."""
    return float(band[1:].split("-")[0]) + 5


def _named(names: Mapping[str, str], code: str) -> str | None:
    return None if code == "?" else names.get(code, "other")


def _specialty(text: str) -> str | None:
    """The file has many kinds of paediatrics, all of which begin alike."""
    return _named(_SPECIALTY, "Pediatrics" if text.startswith("Pediatrics") else text)


def group(code: str) -> str | None:
    """An ICD-9-CM code -> its group; supplementary (V, E) codes and the rest are "other"."""
    if code == "?":
        return None
    if code[0] in "VE":
        return "other"
    number = int(code.split(".")[0])
    return next((name for first, last, name in _CHAPTERS if first <= number <= last), "other")


def home(row: Mapping[str, str]) -> str:
    """A patient's first stay -> his simulated hospital, by how and where he came in."""
    source, specialty = row["admission_source_id"], row["medical_specialty"]
    if source == "7":
        if specialty == "?":
            return "emergency"
        return "university" if specialty in ("InternalMedicine", "Cardiology") else "county"
    if source in ("1", "2", "3"):
        return "elective" if row["admission_type_id"] == "3" else "community"
    return "referral"
