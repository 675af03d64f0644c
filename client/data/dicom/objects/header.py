"""Reads a DICOM file's header: what the index may store of it. Every file is read here first.

A header is read up to the pixel data, and of it only the attributes of an allow-list; identifiers
are hashed here, so that none leaves this module. Whatever a file holds, the result is a `Header`
or an `Unreadable` with a reason from a closed list: no value of a file is in an error.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import warnings
import zlib
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, assert_never

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from client.data.dicom.objects import (
    attributes,
    defined_terms,
    descriptors,
    dose_report,
    segmentation_header,
)
from client.data.dicom.objects.directions import directions
from client.data.dicom.objects.pseudonym import Pseudonyms

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, double float and integer pixel data."""
_BURNED_IN, _FACE, _CONVERSION = 0x00280301, 0x00280302, 0x00080064
_SOP_CLASS, _IMAGE_TYPE, _BODY_PART = 0x00080016, 0x00080008, 0x00180015
_WANTED: list[Any] = sorted(
    {a.tag for a in attributes.ATTRIBUTES}
    | {_BURNED_IN, _FACE, _CONVERSION, _SOP_CLASS, _IMAGE_TYPE}
    | {attributes.OTHER_LATERALITY, attributes.ISSUER, attributes.PATIENT_ORIENTATION}
    | set(attributes.IDENTIFYING)
    | set(attributes.ANATOMY)
)
_CONTENT = 0x0040A730
_NOT_TEXT = ("US", "SS", "UL", "SL", "FL", "FD", "SQ", "OB", "OW", "AT")
_BINARY = frozenset(tag for tag in _WANTED if dictionary_VR(tag) in _NOT_TEXT)
Stated = Literal["YES", "NO"] | None
_MAX_INFLATED = 16 << 20
"""Bytes of a deflated data set in which its header must end."""


class Problem(StrEnum):
    """Why a file is not read. The values are shown to the site's operator."""

    OTHER = "not a DICOM file"
    DIRECTORY = "a DICOMDIR"
    EMPTY = "empty"
    NOT_THERE = "named by a DICOMDIR, but not there"
    DENIED = "cannot be opened: tried again later"
    DAMAGED = "header damaged"
    CUT_SHORT = "cut short"
    SYNTAX = "transfer syntax unknown"
    OLD_RULES = "judged by other rules than those of today: read again"
    SLOW = "took too long to read: tried again later"
    CRASHED = "ended the process that read it: tried again later"
    MEMORY = "not enough memory to read it: tried again later"


TRANSIENT = (Problem.OLD_RULES, Problem.DENIED, Problem.SLOW, Problem.CRASHED, Problem.MEMORY)
"""Problems that are no property of the file, and pass."""


class Unreadable(Exception):
    """A file that is not read. Holds the reason and nothing of the file."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.value)
        self.problem = problem


@dataclass(frozen=True)
class Header:
    """One instance as the index stores it. `values`: column -> pseudonym, text, number or None.

    `sop_class`, `conversion`: of closed vocabularies, for the gate. `burned_in`, `face`:
    BurnedInAnnotation and RecognizableVisualFeatures, None where absent. `head`: whether it says
    that a head, or a part of one, was examined; `screen`: that it is a copy of a screen. `mask_of`:
    the pseudonym of the image that a segmentation is of.
    """

    values: dict[str, str | float | None]
    sop_class: str
    transfer_syntax: str
    pixels: bool
    burned_in: Stated
    face: Stated
    head: bool
    conversion: str | None
    screen: bool
    dose: dict[str, float | str | None] = field(default_factory=dict)
    mask_of: str | None = None


class BoundedFile(io.BufferedReader):
    """A file that never allocates more than it holds, whatever length an element claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb"), 16384)
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def quiet() -> None:
    """Silences pydicom, whose warnings and log quote values. Every process calls it first."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom", "pylibjpeg", "PIL"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.CRITICAL + 1)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def read_header(path: Path, names: Pseudonyms, words: frozenset[str] = frozenset()) -> Header:
    """Raises Unreadable and nothing else. `words`: see `descriptors.cleaned`."""
    try:
        with BoundedFile(path) as file:
            return _read(file, file.size, names, words)
    except Unreadable:
        raise
    except (PermissionError, FileNotFoundError):
        raise Unreadable(Problem.DENIED) from None
    except (OSError, EOFError) as error:  # the system's have a number, pydicom's have none
        failed = isinstance(error, OSError) and error.errno is not None
        raise Unreadable(Problem.DENIED if failed else Problem.CUT_SHORT) from None
    except MemoryError:
        raise Unreadable(Problem.MEMORY) from None
    except (Exception, RecursionError):
        raise Unreadable(Problem.DAMAGED) from None


def _read(file: Any, size: int, names: Pseudonyms, words: frozenset[str]) -> Header:
    dataset, reached = open_dataset(file, size, _WANTED)
    sop_class = _text(dataset, _SOP_CLASS) or _text(dataset.file_meta, 0x00020002)
    if sop_class == MediaStorageDirectoryStorage:
        raise Unreadable(Problem.DIRECTORY)
    dose = {}
    if sop_class in dose_report.SOP_CLASSES:
        file.seek(0)
        report = open_dataset(file, size, [_CONTENT, dose_report.PREDECESSORS])[0]
        dose = dose_report.read(report, names.of).columns
    mask_of = None
    if sop_class in segmentation_header.SOP_CLASSES:
        file.seek(0)
        mask = open_dataset(file, size, [*segmentation_header.WANTED])[0]
        mask_of = _hash(segmentation_header.picture_of(mask), names)
    return Header(
        values=_values(dataset, names, words),
        sop_class=sop_class if re.fullmatch(r"[0-9.]{1,64}", sop_class) else "",
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        pixels=reached,
        burned_in=_stated(dataset, _BURNED_IN),
        face=_stated(dataset, _FACE),
        head=_head(dataset),
        conversion=descriptors.code(_text(dataset, _CONVERSION)),
        screen=descriptors.names_a_screen(
            _text(dataset, _IMAGE_TYPE), _text(dataset, attributes.SERIES_DESCRIPTION)
        ),
        dose=dose,
        mask_of=mask_of,
    )


def open_dataset(file: Any, size: int, wanted: list[Any] | None) -> tuple[FileDataset, bool]:
    """An open file of `size` bytes -> the `wanted` attributes (None: all) before its pixel data,
    and whether there are pixels.

    Reads files without preamble, and data sets without file meta information (PS3.10, section
    7.1), where their first element is one of those that come first. Raises Unreadable, and
    whatever pydicom raises.
    """
    file.seek(0)
    start = file.read(132)
    if not start:
        raise Unreadable(Problem.EMPTY)
    if start[128:] != b"DICM" and start[:2] not in (b"\x02\0", b"\x08\0"):
        raise Unreadable(Problem.OTHER)
    file.seek(0)
    reached: list[int] = []

    def at_pixels(tag: Any, vr: str | None, length: int) -> bool:
        if tag in PIXELS:
            reached.append(length)
        return tag in PIXELS

    inflated = _inflated(file, start)
    stream = file if inflated is None else io.BytesIO(inflated)
    dataset = read_partial(stream, at_pixels, force=True, specific_tags=wanted)
    if inflated is not None:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    directory = dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
    if not len(dataset) and not directory:
        raise Unreadable(Problem.DAMAGED)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = ImplicitVRLittleEndian if implicit else explicit
        dataset.file_meta.TransferSyntaxUID = syntax
    if not UID(str(syntax)).is_transfer_syntax:
        raise Unreadable(Problem.SYNTAX)
    length = reached[0] if reached else 0
    whole = inflated is None and length not in (0, 0xFFFFFFFF)
    if whole and file.tell() + 8 + length > size:
        raise Unreadable(Problem.CUT_SHORT)
    return dataset, length > 0


def _inflated(file: Any, start: bytes) -> bytes | None:
    """The data set of a deflated file (PS3.5, A.5) up to a bound, None for other files.

    pydicom would inflate without one: a file of a megabyte can stand for a thousand.
    """
    if DeflatedExplicitVRLittleEndian.encode() not in start + file.read(1024):
        file.seek(0)
        return None
    if start[128:] != b"DICM":
        raise Unreadable(Problem.DAMAGED)
    file.seek(132)
    group_length = file.read(12)
    if group_length[:8] != b"\x02\0\0\0UL\x04\0":
        raise Unreadable(Problem.DAMAGED)
    file.seek(int.from_bytes(group_length[8:], "little"), io.SEEK_CUR)
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), _MAX_INFLATED)
    except zlib.error:
        raise Unreadable(Problem.DAMAGED) from None


def _values(
    dataset: Dataset, names: Pseudonyms, words: frozenset[str]
) -> dict[str, str | float | None]:
    identifying = descriptors.words_of(_text(dataset, tag) for tag in attributes.IDENTIFYING)

    values: dict[str, str | float | None] = {}
    for attribute in attributes.ATTRIBUTES:
        text = _text(dataset, attribute.tag).strip()
        value: str | float | None
        match attribute.kind:
            case "pseudonym":
                value = _pseudonym(dataset, attribute, text, names)
            case "date":
                value = _date(text)
            case "number":
                value = _number(text, attribute)
            case "directions":
                letters = _text(dataset, attributes.PATIENT_ORIENTATION)
                value = "".join(directions(letters.split("\\"), text.split("\\")) or ()) or None
            case "age":
                value = _age_band(text)
            case "sex":
                value = text if text in ("F", "M", "O") else None
            case "code":
                value = defined_terms.term(text, attribute.terms)
            case "words":
                kept = descriptors.cleaned(text, words - identifying)
                value = None if descriptors.betrays(kept, identifying) else kept
            case "maker":
                value = defined_terms.manufacturer(text) or _hash(text, names)
            case _:
                assert_never(attribute.kind)
        values[attribute.column] = value
    if values["laterality"] is None:
        other = _text(dataset, attributes.OTHER_LATERALITY)
        values["laterality"] = defined_terms.term(other, defined_terms.LATERALITIES)
    return values


def _stated(dataset: Dataset, tag: int) -> Stated:
    """Of an attribute whose terms are YES and NO: what is neither counts as YES."""
    text = _text(dataset, tag).strip().upper()
    return None if not text else "NO" if text == "NO" else "YES"


def _head(dataset: Dataset) -> bool:
    part = defined_terms.term(_text(dataset, _BODY_PART), defined_terms.BODY_PARTS)
    described = (_text(dataset, tag) for tag in attributes.ANATOMY)
    return part in defined_terms.HEAD or any(map(descriptors.names_a_head, described))


def _pseudonym(
    dataset: Dataset, attribute: attributes.Attribute, text: str, names: Pseudonyms
) -> str | None:
    if text and attribute.column == "patient":
        return names.of_patient(text, _text(dataset, attributes.ISSUER))
    return _hash(text, names)


def _hash(text: str, names: Pseudonyms) -> str | None:
    return names.of(text) if text else None


def _text(dataset: Dataset, tag: int) -> str:
    """The value as text, "" where there is none; several are joined as they are written.

    Plain ASCII is taken as it stands, which is several times faster than pydicom's conversion.
    """
    if tag not in dataset:
        return ""
    item = dataset.get_item(tag)
    if isinstance(item, RawDataElement) and tag not in _BINARY and item.VR not in _NOT_TEXT:
        raw = item.value or b""
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii").rstrip("\0 ")
    value = dataset[tag].value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, MultiValue | list):
        return "\\".join(str(part) for part in value)
    return "" if value is None else str(value)


def _date(text: str) -> str | None:
    """DA (PS3.5, section 6.2), and the form with periods that precedes it -> YYYY-MM-DD."""
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", text, re.ASCII)
    try:
        return date(*map(int, match.groups())).isoformat() if match else None
    except ValueError:
        return None


def _age_band(text: str) -> str | None:
    """AS (PS3.5, section 6.2) -> the ten years that it lies in, as "40-49"."""
    match = re.fullmatch(r"(\d{3})([DWMY])", text, re.ASCII)
    if match is None:
        return None
    years = int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match[2]]
    decade = int(years) // 10 * 10
    return "90+" if decade >= 90 else f"{decade}-{decade + 9}"


def _number(text: str, attribute: attributes.Attribute) -> float | None:
    """One of several values."""
    try:
        number = float(text.split("\\")[attribute.part])
    except (ValueError, IndexError):
        return None
    return number if math.isfinite(number) and attribute.low <= number <= attribute.high else None
