"""Radiation dose of a site's images, for queries: nothing is learned from it.

One row an image or dose report, newest first, so that a patient counts by the newest one. CTDIvol
and DLP as IEC 60601-2-44 defines them, exposure as DICOM's (0018,1152). Ranges are public bounds of
what diagnostic protocols give, and only bin and clip. The view is `template:dicom`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from protocol.errors import Code, WardroundError
from tasks.base import Task
from tasks.schema import Column, Schema, Table

REGIONS = ("head", "chest", "abdomen", "pelvis", "spine", "breast", "extremity")
VENDORS = (
    "GE",
    "Siemens",
    "Philips",
    "Canon",
    "Fujifilm",
    "Agfa",
    "Carestream",
    "Samsung",
    "Hologic",
)
MODALITIES = ("CT", "CR", "DX", "MG", "RF", "XA", "PX")

_COLUMNS = (
    Column("modality", "modality", "category", categories=MODALITIES, other=True),
    Column("region", "region of the body", "category", categories=REGIONS, other=True),
    Column("vendor", "manufacturer", "category", categories=VENDORS, other=True),
    Column("ctdi_vol", "CTDIvol, of CT", unit="mGy", low=0, high=100),
    Column("dlp", "dose-length product of the study, of CT", unit="mGy.cm", low=0, high=4000),
    Column("exposure", "exposure", unit="mA.s", low=0, high=1000),
    Column("kvp", "tube voltage", unit="kV", low=20, high=150),
)


class DicomDose(Task):
    """Has no label and no model."""

    name = "dicom_dose"
    title = "Radiation dose of images by protocol and vendor (for queries)"
    schema = Schema(_COLUMNS, "", "")

    def model(self) -> nn.Module:
        """Raises WardroundError(CONFIGURATION)."""
        raise WardroundError(
            Code.CONFIGURATION,
            f"The task {self.name} is for queries: there is nothing to train.",
            remedy="wardround query dose",
        )

    @classmethod
    def public_files(cls) -> None:
        """There is none."""

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Raises WardroundError(NO_DATA): images are at hospitals."""
        raise WardroundError(
            Code.NO_DATA,
            f"The task {self.name} has no public data.",
            remedy="Ask a deployment: --credentials names the coordinator's file.",
        )
