"""Survival in a trial: when does HIV progress, as far as a patient was followed?

ACTG 175 (Hammer et al. 1996): what was known at randomisation, and the days until the CD4 count had
halved, AIDS or death. Race is in the data and left out on purpose, as is all that was seen later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import nn

from protocol.outcomes.time_to_event import TimeToEvent
from protocol.study.study import Scalar
from tasks.base import Task
from tasks.datasets import actg175, dealing
from tasks.encoders import Bands
from tasks.models import shared_risk
from tasks.schema import Column, Schema, Table

_COLUMNS = (
    Column("age", "age", unit="a", low=15, high=65, flag_missing=False),
    Column("sex", "sex", "category", categories=("female", "male")),
    Column("weight", "body weight", unit="kg", low=40, high=120, flag_missing=False),
    Column("karnofsky", "Karnofsky score", low=70, high=100, flag_missing=False),
    Column("cd4", "CD4 count", unit="/uL", low=150, high=600, flag_missing=False),
    Column("cd8", "CD8 count", unit="/uL", low=200, high=2200, flag_missing=False),
    Column(
        "treated_days",
        "days of treatment against HIV before the trial",
        unit="d",
        high=1500,
        flag_missing=False,
        encoder=Bands((1, 365), usual=True),
    ),
    *(
        Column(name, meaning, "category", categories=("no", "yes"), usual="no")
        for name, meaning in (
            ("haemophilia", "haemophilia"),
            ("homosexual_activity", "homosexual activity, as recorded"),
            ("injected_drugs", "history of injected drugs"),
            ("other_treatment", "treated other than by zidovudine before the trial"),
            ("recent_zidovudine", "zidovudine in the 30 days before the trial"),
            ("symptoms", "symptoms of HIV"),
        )
    ),
    Column("arm", "treatment in the trial", "category", categories=actg175.ARMS),
)
_HAZARD = 0.04
"""Of an interval of half a year, in trials of that time."""


class TrialSurvival(Task):
    """Linear model of one risk, with hazards by half-years (proportional odds).

    Option `data`: "published" patients, or "generated" ones of nobody.
    """

    name = "trial_survival"
    title = "Time to progression of HIV in a trial"
    licence = "public (Hammer et al. 1996), as shipped with lifelines"
    schema = Schema(
        _COLUMNS,
        "progression",
        "days until the CD4 count has halved, AIDS or death",
        labels=(actg175.DAYS, actg175.EVENT),
    )
    outcome = TimeToEvent(ends=(180, 360, 540, 720, 900, 1080))
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"data": ("published", "generated")}
    downloads = (actg175.DOWNLOAD,)
    parts = (shared_risk, actg175, dealing)

    def model(self) -> nn.Module:
        return shared_risk.SharedRisk(self.schema.width, self.outcome.intervals, _HAZARD)

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Three sites of 856, 748 and 535 patients. Raises WardroundError: NO_DATA without the
        published file, MALFORMED_DATA where it differs."""
        if self.options["data"] == "generated":
            return actg175.generated()
        return actg175.sites(root, self.name)
