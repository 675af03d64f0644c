"""Readmission: does a patient with diabetes come back within 30 days of discharge?

Diabetes 130-US hospitals, doi 10.24432/C5230J, CC BY 4.0: Strack et al. 2014, "Impact of HbA1c
measurement on hospital readmission rates" (BioMed Research International, 781670). A row is a stay
that ended alive and not in a hospice; every step of training sees one stay of a patient. Race is
in the data and left out on purpose: a model should not treat equal patients unequally by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from protocol.study.study import Scalar
from tasks.base import Task
from tasks.datasets import diabetes130
from tasks.encoders import Bands
from tasks.models import initialisation
from tasks.published_scores import hospital_score
from tasks.schema import Column, Schema, Table
from tasks.schema import texts as schema_texts

_DRUGS = (
    "metformin",
    "repaglinide",
    "nateglinide",
    "chlorpropamide",
    "glimepiride",
    "glipizide",
    "glyburide",
    "tolbutamide",
    "pioglitazone",
    "rosiglitazone",
    "acarbose",
    "miglitol",
    "tolazamide",
    "insulin",
    "glyburide_metformin",
    "glipizide_metformin",
)
_DIAGNOSES = (
    "infectious",
    "neoplasm",
    "diabetes",
    "endocrine",
    "blood",
    "mental",
    "nervous",
    "ischaemic_heart",
    "heart_failure",
    "arrhythmia",
    "cerebrovascular",
    "circulatory",
    "pneumonia",
    "copd_asthma",
    "respiratory",
    "digestive",
    "kidney",
    "genitourinary",
    "pregnancy",
    "skin",
    "musculoskeletal",
    "symptoms",
    "injury",
)
"""Chapters of ICD-9-CM, the commonest diseases of hospital medicine apart."""
_SPECIALTIES = (
    "internal_medicine",
    "emergency",
    "family_practice",
    "cardiology",
    "surgery",
    "nephrology",
    "orthopaedics",
    "radiology",
    "pulmonology",
    "psychiatry",
    "urology",
    "obstetrics_gynaecology",
    "cardiothoracic_surgery",
    "gastroenterology",
    "vascular_surgery",
    "neurosurgery",
    "rehabilitation",
    "oncology",
    "paediatrics",
    "neurology",
    "endocrinology",
)
_YEAR = Bands((1, 2, 3, 5), usual=True)


def _count(name: str, meaning: str, high: float, encoder: Bands | None = None) -> Column:
    return Column(name, meaning, high=high, flag_missing=False, encoder=encoder)


_COLUMNS = (
    Column(
        "age",
        "age at admission",
        unit="a",
        high=100,
        flag_missing=False,
        encoder=Bands((30, 40, 50, 60, 70, 80, 90)),
    ),
    Column("sex", "sex", "category", categories=("female", "male")),
    Column(
        "admission_type",
        "how urgent the admission was",
        "category",
        categories=("emergency", "urgent", "elective", "newborn", "trauma"),
        other=True,
    ),
    Column(
        "admission_source",
        "where the patient came from",
        "category",
        categories=(
            "emergency_room",
            "physician_referral",
            "clinic_referral",
            "hmo_referral",
            "hospital",
            "nursing_facility",
            "health_care_facility",
        ),
        other=True,
    ),
    Column(
        "discharged_to",
        "where the patient went, alive and to no hospice",
        "category",
        categories=(
            "home",
            "home_health",
            "home_iv",
            "short_term_hospital",
            "nursing_facility",
            "intermediate_care",
            "inpatient_care",
            "rehabilitation",
            "long_term_hospital",
            "psychiatric_hospital",
            "against_advice",
        ),
        other=True,
    ),
    Column(
        "payer",
        "who pays",
        "category",
        categories=("medicare", "medicaid", "commercial", "self_pay"),
        other=True,
    ),
    Column(
        "specialty",
        "specialty of the admitting physician",
        "category",
        categories=_SPECIALTIES,
        other=True,
    ),
    *(
        Column(
            f"diagnosis_{rank}",
            f"group of the {ordinal} diagnosis",
            "category",
            categories=_DIAGNOSES,
            other=True,
        )
        for rank, ordinal in enumerate(("primary", "second", "third"), start=1)
    ),
    Column("length_of_stay", "days in hospital", unit="d", high=14, flag_missing=False),
    _count("lab_procedures", "laboratory tests during the stay", 100),
    _count("procedures", "other procedures during the stay", 6),
    _count("medications", "different drugs given during the stay", 40),
    _count("diagnoses", "diagnoses entered", 10),
    _count("outpatient_visits", "outpatient visits in the year before", 20, _YEAR),
    _count("emergency_visits", "emergency visits in the year before", 20, _YEAR),
    _count("inpatient_stays", "hospital stays in the year before", 20, _YEAR),
    Column(
        "glucose",
        "highest serum glucose of the stay",
        unit="mg/dL",
        low=40,
        high=600,
        encoder=Bands((200, 300)),
    ),
    Column("hba1c", "haemoglobin A1c", unit="%", low=4, high=14, encoder=Bands((7, 8))),
    *(
        Column(
            drug,
            f"{drug.replace('_', ' with ')}: prescribed, and was the dose changed",
            "category",
            categories=("no", "steady", "up", "down"),
            usual="no",
        )
        for drug in _DRUGS
    ),
    Column(
        "drugs_changed",
        "any change of the diabetes drugs",
        "category",
        categories=("no", "yes"),
        usual="no",
    ),
    Column(
        "diabetes_drug",
        "any diabetes drug prescribed",
        "category",
        categories=("no", "yes"),
        usual="no",
    ),
)


class Readmission(Task):
    """Logistic regression on public one-hot and ranged features, which starts from the HOSPITAL
    score.

    Option `start`: "public_score" gives the model that score's log odds as one more feature with
    its published weight, so that training learns what to change about it; "zero" leaves it out.
    """

    name = "readmission"
    title = "Readmission within 30 days of patients with diabetes"
    licence = "CC BY 4.0 (Diabetes 130-US hospitals, doi 10.24432/C5230J)"
    schema = Schema(_COLUMNS, "readmitted", "1: in hospital again within 30 days of discharge")
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"start": ("public_score", "zero")}
    downloads = (diabetes130.DOWNLOAD,)
    parts = (diabetes130, hospital_score, initialisation)

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        """(N, F), with the public score's log odds / 5 as the last column or not."""
        rows = self.schema.features(table)
        if self.options["start"] == "zero":
            return rows
        return initialisation.with_score(rows, _log_odds(table))

    def model(self) -> nn.Module:
        """Starts at the public score, or at the prevalence of its literature, one in ten."""
        if self.options["start"] == "zero":
            return initialisation.from_prevalence(self.schema.width, 0.1)
        return initialisation.from_score(self.schema.width + 1)

    def public_score(self, table: Table) -> npt.NDArray[np.float64]:
        """Probability by what of the HOSPITAL score these columns tell."""
        return initialisation.probability(_log_odds(table))

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Six simulated hospitals; all stays of a patient are at one.

        Raises WardroundError: NO_DATA without the file, MALFORMED_DATA where it differs.
        """
        return diabetes130.sites(root, _DRUGS)


def _log_odds(table: Table) -> npt.NDArray[np.float64]:
    column = {c.name: c for c in _COLUMNS}
    admission = schema_texts(table["admission_type"])
    found = hospital_score.points(
        schema_texts(table["specialty"]) == "oncology",
        column["procedures"].numbers(table["procedures"]) > 0,
        np.isin(admission, ("emergency", "urgent", "trauma")),
        column["inpatient_stays"].numbers(table["inpatient_stays"]),
        column["length_of_stay"].numbers(table["length_of_stay"]),
    )
    return hospital_score.log_odds(found)
