"""Readmission in three levels: never seen again, later than 30 days, or within 30 days.

Diabetes 130-US hospitals (Strack et al. 2014), in the columns of the task `readmission`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from protocol.outcomes.ordinal import Ordinal
from tasks.base import Task
from tasks.datasets import diabetes130
from tasks.schema import Schema, Table
from tasks.shipped import readmission

_STAYS = (0.55, 0.75)
"""Share never seen again, and, of the others, share that comes later than 30 days."""


class ReadmissionLevels(Task):
    """Linear model of continuation ratios on public one-hot and ranged features."""

    name = "readmission_levels"
    title = "Readmission of patients with diabetes, in three levels"
    licence = readmission.Readmission.licence
    schema = Schema(
        readmission.Readmission.schema.columns,
        diabetes130.LEVEL,
        "0: not in hospital again, 1: later than 30 days after discharge, 2: within 30 days",
    )
    outcome = Ordinal(levels=3)
    downloads = (diabetes130.DOWNLOAD,)
    parts = (diabetes130, readmission)

    def model(self) -> nn.Module:
        linear = nn.Linear(self.schema.width, self.outcome.levels - 1)
        nn.init.zeros_(linear.weight)
        with torch.no_grad():
            linear.bias.copy_(torch.logit(torch.tensor(_STAYS)))
        return linear

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Six simulated hospitals; all stays of a patient are at one.

        Raises WardroundError: NO_DATA without the file, MALFORMED_DATA where it differs.
        """
        return diabetes130.sites(root, readmission.DRUGS)
