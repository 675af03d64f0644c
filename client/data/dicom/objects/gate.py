"""The gate: decides which indexed instances are ready for a cohort, and why others are kept out.

    unreadable -> what is wrong with the file
    set aside  -> what is wrong with the object, its company, or its pixels
    ready      -> visible to the site's views

An instance is ready when it can be decoded, names a patient, a study and itself, contradicts no
other, and nothing suggests that its pixels show text or a face. The reasons are a closed list:
each is shown to the site's operator, and none quotes an object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.data.dicom.objects.header import Header


class Reason(StrEnum):
    """Why an object is set aside."""

    NOT_AN_IMAGE = "not an image (report, contour, segmentation, map)"
    NO_PIXELS = "no pixel data"
    NO_PATIENT = "names no patient"
    NO_UID = "lacks a study, series or instance UID"
    COPY = "a copy, or an earlier version, of another file"
    TWO_OBJECTS = "one instance UID, different objects"
    TWO_PATIENTS_ACCESSION = "two patients under one accession number"
    TWO_PATIENTS_STUDY = "two patients in one study"
    UNDECODABLE = "pixels cannot be decoded"
    FACE = "says that a face can be recognised"
    BURNED_IN = "says that identifiers are burned in"
    HEAD = "a volume of a head, from which a face can be drawn"
    AT_RISK = "of a kind that often has text burned in"
    TEXT = "text found in the picture"
    WITHHELD = "withheld by a person who looked at it"
    NOT_LOOKED = "not yet looked at for burned-in text"
    SLOW = "took too long to look at: tried again later"
    CRASHED = "ended the process that looked at it: tried again later"
    MEMORY = "not enough memory to look at it: tried again later"
    UNREACHABLE = "cannot be opened: tried again later"


RULES = 2
"""Of everything by which a file is judged: what a header says, and what the detector sees. Another
number has every file read and looked at again; what a person decided stays."""
SUSPICIONS = (Reason.FACE, Reason.BURNED_IN, Reason.HEAD, Reason.AT_RISK, Reason.TEXT)
"""Reasons that a person who has seen the picture may overrule."""


TRANSIENT = (Reason.SLOW, Reason.CRASHED, Reason.MEMORY, Reason.UNREACHABLE)
"""Reasons that are no property of the file, and pass."""


@dataclass(frozen=True)
class GatePolicy:
    """A site's settings of the gate. The defaults keep out whatever is in doubt.

    accept_modalities: modalities at risk that pass unless a tag or the detector speaks against
    them; detect_text: whether every picture is screened for text; accept_heads: whether CT and MR
    of heads pass.
    """

    accept_modalities: frozenset[str] = frozenset()
    detect_text: bool = True
    accept_heads: bool = False


_DRAWN_UPON = "BDUS DG DMS DOC ECG ES FA GM HC IVUS OAM OCT OP OPM OPT OPV OT RF SC SM TG US XC"
MODALITIES_AT_RISK = frozenset(_DRAWN_UPON.split(" "))
"""Of PS3.3, C.7.3.1.1.1: those whose pictures are drawn upon, photographed from a screen or
labelled as a rule, and "other". Fluoroscopy (RF) holds screen saves."""
_CLASSES_AT_RISK = re.compile(
    r"1\.2\.840\.10008\.5\.1\.("
    r"4\.1\.1\.(3|3\.1|6|6\.1|6\.2"  # ultrasound, also retired
    r"|7(\.[1-4])?"  # secondary capture
    r"|77\.1\..*|77\.2"  # visible light: endoscopy, microscopy, photography, ophthalmology
    r"|9(\.[0-9.]+)?"  # waveforms
    r"|104\.[0-9.]+)"  # encapsulated documents
    r"|1\.(29|30))"  # hard copies
)
_CONVERSIONS_AT_RISK = frozenset({"DV", "DI", "DF", "DRW", "SYN", "SD", "SI", "WSD"})
"""ConversionType (PS3.3, C.8.6.1): captured from a screen, a film, a drawing, a scanner."""
_NOT_IMAGES = re.compile(
    r"1\.2\.840\.10008\.5\.1\.4\.(1\.1\.(88\..*|11\..*|481\.([2-9]|[1-9][0-9])|66(\..*)?|67"
    r"|68\..*|30|104\..*|9(\..*)?|200\..*|4\.2|90\..*|78\..*|79\..*)|34\..*|38\..*|39\..*)"
)
"""Reports, presentation states, RT objects, registrations, segmentations, waveforms, documents."""


def object_reason(header: Header) -> Reason | None:
    """Why an object is kept out by its header alone; None where nothing speaks against it."""
    values = header.values
    if _NOT_IMAGES.fullmatch(header.sop_class) or values["modality"] in ("SEG", "SR", "PR", "KO"):
        return Reason.NOT_AN_IMAGE
    if not header.pixels:
        return Reason.NO_PIXELS
    if values["patient"] is None:
        return Reason.NO_PATIENT
    if None in (values["image"], values["study"], values["series"]):
        return Reason.NO_UID
    return None


def suspicions(header: Header) -> tuple[Reason, ...]:
    """What the header says against the pixels. A policy may accept one and not the other."""
    found = []
    if header.face == "YES":
        found.append(Reason.FACE)
    if header.burned_in == "YES":
        found.append(Reason.BURNED_IN)
    if header.head and header.values["modality"] in ("CT", "MR") and header.face != "NO":
        found.append(Reason.HEAD)
    if (
        header.values["modality"] in (None, *MODALITIES_AT_RISK)
        or _CLASSES_AT_RISK.fullmatch(header.sop_class)
        or header.conversion in _CONVERSIONS_AT_RISK
        or header.screen
    ):
        found.append(Reason.AT_RISK)
    return tuple(found)
