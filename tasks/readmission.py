"""Readmission: does a patient with diabetes come back within 30 days of discharge?

Diabetes 130-US hospitals, doi 10.24432/C5230J, CC BY 4.0: Strack et al. 2014, "Impact of HbA1c
measurement on hospital readmission rates" (BioMed Research International, 781670). One encounter
per patient; who died or left for a hospice cannot come back and is left out. Race is in the data
and left out on purpose: it would let a hospital treat equal patients unequally and adds nothing.
"""

from __future__ import annotations

from torch import nn

from tasks.base import Task
from tasks.encoders import Bands
from tasks.schema import Column, Schema

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
    """Logistic regression on public one-hot and ranged features."""

    name = "readmission"
    title = "Readmission within 30 days of patients with diabetes"
    licence = "CC BY 4.0 (Diabetes 130-US hospitals, doi 10.24432/C5230J)"
    schema = Schema(_COLUMNS, "readmitted", "1: in hospital again within 30 days of discharge")

    def model(self) -> nn.Module:
        """Starts at the prevalence of its public literature, one in ten."""
        linear = nn.Linear(self.schema.width, 1)
        nn.init.zeros_(linear.weight)
        nn.init.constant_(linear.bias, -2.2)
        return linear
