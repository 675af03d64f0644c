"""Length of stay: for how many days will a patient with diabetes be in hospital?

Diabetes 130-US hospitals (Strack et al. 2014; see the task `readmission`), by what is known at
admission. The data has stays of 1 to 14 days alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from protocol.outcomes.events import EventCount
from tasks.base import Task
from tasks.datasets import diabetes130
from tasks.models import initialisation
from tasks.schema import Schema, Table
from tasks.shipped import readmission

_AT_ADMISSION = (
    "age",
    "sex",
    "admission_type",
    "admission_source",
    "payer",
    "specialty",
    "diagnosis_primary",
    "outpatient_visits",
    "emergency_visits",
    "inpatient_stays",
)
_DAYS = 4.5
"""The usual stay in hospitals of the United States."""


class LengthOfStay(Task):
    """Poisson regression on public one-hot and ranged features."""

    name = "length_of_stay"
    title = "Days in hospital of patients with diabetes"
    licence = readmission.Readmission.licence
    schema = Schema(
        tuple(
            column
            for column in readmission.Readmission.schema.columns
            if column.name in _AT_ADMISSION
        ),
        "length_of_stay",
        "days from admission to discharge",
    )
    outcome = EventCount(most=14)
    downloads = (diabetes130.DOWNLOAD,)
    parts = (diabetes130, initialisation, readmission)

    def model(self) -> nn.Module:
        linear = initialisation.zero(self.schema.width)
        nn.init.constant_(linear.bias, math.log(_DAYS))
        return linear

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Six simulated hospitals; all stays of a patient are at one.

        Raises WardroundError: NO_DATA without the file, MALFORMED_DATA where it differs.
        """
        return diabetes130.sites(root, readmission.DRUGS)
