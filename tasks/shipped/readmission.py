"""Readmission: does a patient with diabetes come back within 30 days of discharge?

Diabetes 130-US hospitals, doi 10.24432/C5230J, CC BY 4.0: Strack et al. 2014, "Impact of HbA1c
measurement on hospital readmission rates" (BioMed Research International, 781670). A row is a stay
that ended alive and not in a hospice; every step of training sees one stay of a patient. Race is
in the data and left out on purpose: a model should not treat equal patients unequally by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.datasets import diabetes130
from tasks.encoders import Bands
from tasks.models.initialisation import LinearFromScore
from tasks.published_scores import hospital_score
from tasks.schema import Column, Schema, Table, texts

DRUGS = (
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
_YEAR = Bands((1, 2, 3, 5), usual=True)


def _count(name: str, meaning: str, high: float, encoder: Bands | None = None) -> Column:
    return Column(name, meaning, high=high, flag_missing=False, encoder=encoder)


def _category(name: str, meaning: str, categories: Iterable[str]) -> Column:
    return Column(name, meaning, "category", categories=tuple(categories), other=True)


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
    _category("admission_type", "how urgent the admission was", diabetes130.ADMISSION_TYPES),
    _category("admission_source", "where the patient came from", diabetes130.ADMISSION_SOURCES),
    _category(
        "discharged_to", "where the patient went, alive and to no hospice", diabetes130.DISCHARGES
    ),
    _category("payer", "who pays", diabetes130.PAYERS),
    _category("specialty", "specialty of the admitting physician", diabetes130.SPECIALTIES),
    *(
        _category(f"diagnosis_{rank}", f"group of the {ordinal} diagnosis", diabetes130.DIAGNOSES)
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
        for drug in DRUGS
    ),
    *(
        Column(name, meaning, "category", categories=("no", "yes"), usual="no")
        for name, meaning in (
            ("drugs_changed", "any change of the diabetes drugs"),
            ("diabetes_drug", "any diabetes drug prescribed"),
        )
    ),
)


class Readmission(LinearFromScore):
    """Logistic regression on public one-hot and ranged features, beside the HOSPITAL score."""

    name = "readmission"
    title = "Readmission within 30 days of patients with diabetes"
    licence = "CC BY 4.0 (Diabetes 130-US hospitals, doi 10.24432/C5230J)"
    schema = Schema(_COLUMNS, "readmitted", "1: in hospital again within 30 days of discharge")
    downloads = (diabetes130.DOWNLOAD,)
    parts = (diabetes130, hospital_score)

    def log_odds(self, table: Table) -> npt.NDArray[np.float64]:
        """(N,) log odds by what these columns say of the HOSPITAL score."""
        column = {column.name: column for column in _COLUMNS}
        points = hospital_score.points(
            texts(table["specialty"]) == "oncology",
            column["procedures"].numbers(table["procedures"]) > 0,
            np.isin(texts(table["admission_type"]), ("emergency", "urgent", "trauma")),
            column["inpatient_stays"].numbers(table["inpatient_stays"]),
            column["length_of_stay"].numbers(table["length_of_stay"]),
        )
        return hospital_score.log_odds(points)

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Six simulated hospitals; all stays of a patient are at one.

        Raises WardroundError: NO_DATA without the file, MALFORMED_DATA where it differs.
        """
        return diabetes130.sites(root, DRUGS)
