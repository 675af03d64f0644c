"""The allow-list of attributes of a DICOM object; everything else is never read.

PS3.15 Annex E, Table E.1-1 says what the Basic Application Level Confidentiality Profile does to
an attribute: Z replace by nothing or a dummy, X remove, D replace by a dummy, U replace by another
UID, C clean. "-" is an attribute that the table does not list. What this list keeps of each:

    pseudonym  a keyed hash (client/data/dicom/objects/pseudonym.py), in place of Z, U
    date       as it is: the option to retain longitudinal temporal information with full dates
               (E.3.6), for joins by patient and date; it goes no further than the site's own view
    code       a defined term of the standard (VR CS, defined_terms.py); the rest is dropped
    words      cleaned (option E.3.5, clean descriptors): only words of a public vocabulary stay
    maker      a known manufacturer's name; for any other text its keyed hash
    directions two letters (client/data/dicom/objects/directions.py), of rows and of columns
    age        the ten years it lies in, "90+" from 90 on: the option to retain patient
               characteristics (E.3.7), for cohorts; no further than the site's own view
    sex        F, M or O, by the same option
    number     finite and within a public range, in the unit given

Private attributes (odd groups) are on no list and so are never kept, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from client.data.dicom.objects import defined_terms

AttributeKind = Literal[
    "pseudonym", "date", "code", "words", "maker", "directions", "age", "sex", "number"
]


@dataclass(frozen=True)
class Attribute:
    """One column of the index. `profile`: the Basic Profile's action. Numbers outside [low, high]
    count as not given. `part`: which of several values, from 0. `terms`: of a code, see
    `defined_terms.term`."""

    column: str
    tag: int
    kind: AttributeKind
    profile: str
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    part: int = 0
    terms: Mapping[str, str] = field(default_factory=dict)


ATTRIBUTES = (
    Attribute("image", 0x00080018, "pseudonym", "U"),
    Attribute("patient", 0x00100020, "pseudonym", "Z"),
    Attribute("patient_id", 0x00100020, "pseudonym", "Z"),
    Attribute("study", 0x0020000D, "pseudonym", "U"),
    Attribute("series", 0x0020000E, "pseudonym", "U"),
    Attribute("accession", 0x00080050, "pseudonym", "Z"),
    Attribute("study_date", 0x00080020, "date", "Z"),
    Attribute("modality", 0x00080060, "code", "-", terms=defined_terms.MODALITIES),
    Attribute("body_part", 0x00180015, "code", "-", terms=defined_terms.BODY_PARTS),
    Attribute("view_position", 0x00185101, "code", "-", terms=defined_terms.VIEWS),
    Attribute("laterality", 0x00200060, "code", "-", terms=defined_terms.LATERALITIES),
    Attribute("photometric", 0x00280004, "code", "-", terms=defined_terms.PHOTOMETRIC),
    Attribute("manufacturer", 0x00080070, "maker", "-"),
    Attribute("device", 0x00081090, "pseudonym", "-"),
    Attribute("protocol", 0x00181030, "words", "X/D"),
    Attribute("rows", 0x00280010, "number", "-", "pixels", 1, 65535),
    Attribute("columns", 0x00280011, "number", "-", "pixels", 1, 65535),
    Attribute("frames", 0x00280008, "number", "-", "1", 1, 1e6),
    Attribute("kvp", 0x00180060, "number", "-", "kV", 1, 500),
    Attribute("exposure_time", 0x00181150, "number", "-", "ms", 0, 1e6),
    Attribute("tube_current", 0x00181151, "number", "-", "mA", 0, 1e4),
    Attribute("exposure", 0x00181152, "number", "-", "mA.s", 0, 1e5),
    Attribute("exposure_index", 0x00181411, "number", "-", "1", 0, 1e6),
    Attribute("deviation_index", 0x00181413, "number", "-", "1", -100, 100),
    Attribute("area_dose_product", 0x0018115E, "number", "-", "dGy.cm2", 0, 1e6),
    Attribute("entrance_dose", 0x00408302, "number", "-", "mGy", 0, 1e5),
    Attribute("ctdivol", 0x00189345, "number", "-", "mGy", 0, 1e4),
    Attribute("slice_thickness", 0x00180050, "number", "-", "mm", 0, 1e3),
    Attribute("instance_number", 0x00200013, "number", "-", "1", 0, 2**31),
    Attribute("position_x", 0x00200032, "number", "-", "mm", -1e5, 1e5),
    Attribute("position_y", 0x00200032, "number", "-", "mm", -1e5, 1e5, part=1),
    Attribute("position_z", 0x00200032, "number", "-", "mm", -1e5, 1e5, part=2),
    Attribute("row_spacing", 0x00280030, "number", "-", "mm", 1e-4, 1e3),
    Attribute("column_spacing", 0x00280030, "number", "-", "mm", 1e-4, 1e3, part=1),
    Attribute("orientation", 0x00200037, "directions", "-"),
    Attribute("age_band", 0x00101010, "age", "X"),
    Attribute("sex", 0x00100040, "sex", "Z"),
)
"""What the index keeps of an instance, by column. patient: of Patient ID and issuer; patient_id: of
the Patient ID alone, which is another patient's too where two issuers gave it."""

ISSUER = 0x00100021
"""Issuer of Patient ID, a part of `patient`: a Patient ID is unique within it (PS3.3,
C.7.1.1)."""
SERIES_DESCRIPTION = 0x0008103E
ANATOMY = (
    0x00081030,  # Study Description
    SERIES_DESCRIPTION,
    0x00180015,  # Body Part Examined
    0x00181030,  # Protocol Name
    0x00321060,  # Requested Procedure Description
)
"""Read only to tell whether a head, or a screen, is in the picture: not stored as they are."""
OTHER_LATERALITY = 0x00200062
"""Image Laterality, of the newer objects; serves where Laterality (0020,0060) is not given."""
PATIENT_ORIENTATION = 0x00200020
"""Serves before Image Orientation (Patient) for `orientation`."""
DOSE_COLUMNS = ("dlp", "ctdivol_report")
"""Read from a radiation dose report: its total DLP in mGy.cm, its greatest mean CTDIvol in mGy."""
DOSE_LINKS = ("dose_events", "dose_replaces")
"""What tells the reports of a study apart: pseudonyms of the irradiation events that one is about,
and of the reports that it replaces."""
COLUMNS = tuple(a.column for a in ATTRIBUTES)
NUMBERS = tuple(a.column for a in ATTRIBUTES if a.kind == "number")

IDENTIFYING = (
    0x00080050,  # Accession Number
    0x00080090,  # Referring Physician's Name
    0x00081048,  # Physician(s) of Record
    0x00081050,  # Performing Physician's Name
    0x00081060,  # Name of Physician(s) Reading Study
    0x00081070,  # Operators' Name
    0x00100010,  # Patient's Name
    0x00100020,  # Patient ID
    0x00101000,  # Other Patient IDs
    0x00101001,  # Other Patient Names
    0x00101005,  # Patient's Birth Name
    0x00101060,  # Patient's Mother's Birth Name
    0x00181000,  # Device Serial Number
)
"""Read only for comparison: a text that repeats one of them is not stored."""
