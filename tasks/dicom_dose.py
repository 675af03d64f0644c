"""Radiation dose of a site's images, for queries: nothing is learned from it.

One row an image or dose report, newest first, so that a patient counts by the newest one. CTDIvol
and DLP as IEC 60601-2-44 defines them, exposure as DICOM's (0018,1152). Ranges are public bounds of
what diagnostic protocols give, and only bin and clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from protocol.errors import Code, WardroundError
from tasks.base import Task
from tasks.schema import Column, Schema, Table

REGIONS = {
    "head": "HEAD|BRAIN|SKULL|FACE|FACIAL|SINUS|ORBIT|CRANI|NECK|CAROTID|THYROID|LARYNX",
    "chest": "CHEST|THORA|LUNG|HEART|CARDIAC|CORONARY|RIB",
    "abdomen": "ABDOM|LIVER|KIDNEY|PANCREAS|COLON",
    "pelvis": "PELVI|HIP|BLADDER",
    "spine": "SPINE|CSPINE|TSPINE|LSPINE|SSPINE|LUMBAR|CERVICAL|SACRUM",
    "breast": "BREAST|MAMMO",
    "extremity": "EXTREMITY|ARM|HAND|FINGER|WRIST|ELBOW|SHOULDER|LEG|KNEE|ANKLE|FOOT|TOE|FEMUR",
}
"""Region of the body: how a word begins in Body Part Examined (PS3.16, Annex L) or the protocol."""
VENDORS = {
    "GE": r"GE\b|GENERAL ELECTRIC",
    "Siemens": "SIEMENS",
    "Philips": "PHILIPS",
    "Canon": "CANON|TOSHIBA",
    "Fujifilm": "FUJI",
    "Agfa": "AGFA",
    "Carestream": "CARESTREAM|KODAK",
    "Samsung": "SAMSUNG",
    "Hologic": "HOLOGIC|LORAD",
}
"""The same for Manufacturer (0008,0070)."""
MODALITIES = ("CT", "CR", "DX", "MG", "RF", "XA", "PX")

_COLUMNS = (
    Column("modality", "modality", "category", categories=MODALITIES, other=True),
    Column("region", "region of the body", "category", categories=tuple(REGIONS), other=True),
    Column("vendor", "manufacturer", "category", categories=tuple(VENDORS), other=True),
    Column("ctdi_vol", "CTDIvol, of CT", unit="mGy", low=0, high=100),
    Column("dlp", "dose-length product of the study, of CT", unit="mGy.cm", low=0, high=4000),
    Column("exposure", "exposure", unit="mA.s", low=0, high=1000),
    Column("kvp", "tube voltage", unit="kV", low=20, high=150),
)


def _cases(text: str, words: Mapping[str, str]) -> str:
    lines = [
        f"    WHEN regexp_matches({text}, '\\b({known})') THEN '{name}'"
        for name, known in words.items()
    ]
    return "CASE\n" + "\n".join(lines) + f"\n    WHEN trim({text}) <> '' THEN 'other'\n  END"


VIEW = f"""WITH named AS (
  SELECT
    *,
    upper(concat_ws(' ', body_part, protocol)) AS part,
    upper(coalesce(manufacturer, '')) AS maker
  FROM images
)
SELECT
  patient,
  modality,
  {_cases("part", REGIONS)} AS region,
  {_cases("maker", VENDORS)} AS vendor,
  coalesce(ctdivol_report, ctdivol) AS ctdi_vol,
  dlp,
  exposure,
  kvp
FROM named
WHERE patient IS NOT NULL
ORDER BY study_date DESC NULLS LAST, image"""  # noqa: S608 (constants of this file)
"""The usual view: over the table `images` of the site's imaging index."""


class DicomDose(Task):
    """Has no label and no model."""

    name = "dicom_dose"
    title = "Radiation dose of images by protocol and vendor (for queries)"
    schema = Schema(_COLUMNS, "", "")
    view = VIEW

    def model(self) -> nn.Module:
        """Raises WardroundError(CONFIGURATION)."""
        raise WardroundError(
            Code.CONFIGURATION,
            f"The task {self.name} is for queries: there is nothing to train.",
            remedy="wardround query dose",
        )

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Raises WardroundError(NO_DATA): images are at hospitals."""
        raise WardroundError(
            Code.NO_DATA,
            f"The task {self.name} has no public data.",
            remedy="Ask a deployment: --credentials names the coordinator's file.",
        )
