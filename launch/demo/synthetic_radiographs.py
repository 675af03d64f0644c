"""Synthetic chest radiographs as real DICOM files, for demos and tests. Drawn; they show nobody.

Shadows of a chest by a few formulas, with clouds in the lungs of those who are "ill", written the
way scanners of several makes do: bit depths, windows, inverted greys, padding, spacing, transfer
syntaxes. Some are made to be set aside: a name burned in, no pixels, a cut codestream, a second
patient under one accession number. Every file says that it is synthetic, in its tags.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

Flaw = Literal["", "name", "says so", "no pixels", "cut", "blank", "lateral"]
_ON_SHEET, _CAPTION = 6, 28
COMMENT = "SYNTHETIC: drawn by wardround, shows no patient"
_ROOT = "1.2.826.0.1.3680043.10.1525."
"""Below a root that Medical Connections gives out for free use; serves these files only."""


@dataclass(frozen=True)
class ScannerModel:
    """How one make of scanner writes its pictures."""

    manufacturer: str
    modality: Literal["CR", "DX"]
    syntax: str
    bits: int
    inverted: bool = False
    window: Literal["", "LINEAR", "SIGMOID", "LINEAR_EXACT"] = "LINEAR"
    border: int = 0
    """Pixels of padding on either side."""
    aspect: float = 1.0


SCANNER_MODELS = (
    ScannerModel("Synthetic Imaging A", "DX", ExplicitVRLittleEndian, 12),
    ScannerModel("Synthetic Imaging B", "CR", JPEG2000Lossless, 10, inverted=True),
    ScannerModel("Synthetic Imaging C", "DX", JPEGLSLossless, 14, window="SIGMOID", border=6),
    ScannerModel(
        "Synthetic Imaging D", "CR", RLELossless, 12, inverted=True, window="LINEAR_EXACT"
    ),
    ScannerModel("Synthetic Imaging E", "DX", ImplicitVRLittleEndian, 8, window="", aspect=1.25),
)


@dataclass(frozen=True)
class Radiograph:
    """One file to be: whose, whether ill, and what is wrong with it."""

    patient: str
    accession: str
    ill: bool
    scanner: ScannerModel
    flaw: Flaw = ""


def cohort(
    site: str, patients: int, prevalence: float, scanners: tuple[ScannerModel, ...], seed: int
) -> list[Radiograph]:
    """A site's radiographs: one or two of each patient, and one with each flaw besides."""
    rng = np.random.default_rng(seed)
    flaws: tuple[Flaw, ...] = ("name", "says so", "no pixels", "cut", "blank", "lateral")
    radiographs = []
    for number in range(patients + len(flaws)):
        patient = f"SYN-{site.upper()}-{number:04d}"
        scanner = scanners[int(rng.integers(len(scanners)))]
        ill = bool(rng.random() < prevalence)
        flaw = flaws[number - patients] if number >= patients else ""
        for view in range(1 if flaw else 1 + int(rng.random() < 0.1)):
            accession = f"{site.upper()}{number:05d}{view}"
            radiographs.append(Radiograph(patient, accession, ill, scanner, flaw))
    return radiographs


def datasets(radiographs: list[Radiograph], side: int, seed: int) -> Iterator[Dataset]:
    """Each as a complete DICOM data set with file meta information, `side` pixels square or so."""
    rng = np.random.default_rng(seed)
    for radiograph in radiographs:
        light = draw(rng, side, ill=radiograph.ill)
        yield _dataset(radiograph, light, rng)


def write(radiographs: list[Radiograph], side: int, seed: int, folder: Path) -> list[Path]:
    """The files, by accession number. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for radiograph, dataset in zip(radiographs, datasets(radiographs, side, seed), strict=True):
        path = folder / f"{radiograph.accession}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def draw(rng: np.random.Generator, side: int, *, ill: bool) -> npt.NDArray[np.float64]:
    """(side, side) in [0, 1], bright where a body stops X-rays; no two alike."""
    down, right = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    tilt, zoom = rng.normal(0, 0.05), rng.normal(1.05, 0.06)
    x = (right * np.cos(tilt) - down * np.sin(tilt) - rng.normal(0, 0.05)) / zoom
    y = (down * np.cos(tilt) + right * np.sin(tilt) - rng.normal(0, 0.06)) / zoom
    trunk = _soft(1.08 + 0.1 * y - np.abs(x), 0.05)
    shoulders = np.maximum(_soft(y + 1 - 0.35 * np.abs(x) ** 1.5, 0.06), _soft(0.35 - abs(x), 0.05))
    light = 0.6 * trunk * shoulders
    for lung_side in (-1, 1):
        light += _lung(rng, lung_side * x, y, lung_side, ill)
    heart = _soft(1 - np.hypot((x - 0.16) / 0.36, (y - 0.2 - 0.25 * (x - 0.1)) / 0.4), 0.12)
    light = np.maximum(light, 0.6 * heart) + 0.14 * np.exp(-((x / 0.13) ** 2))
    ribs = 0.5 + 0.5 * np.cos(2 * np.pi * ((y - 0.3 * np.abs(x)) * 3.6 + rng.uniform()))
    light += 0.05 * ribs * trunk + 0.08 * _soft(y - 0.62, 0.08)
    light = light * rng.uniform(0.9, 1.1) + rng.normal(0, 0.006, light.shape)
    return np.asarray(np.clip(light, 0, 1))


def sheet(side: int, seed: int) -> bytes:
    """A PNG file: a row of pictures without finding above a row with one, and a caption that says
    what they are."""
    rng = np.random.default_rng(seed)
    rows = [
        np.hstack([draw(rng, side, ill=ill) for _ in range(_ON_SHEET)]) for ill in (False, True)
    ]
    pictures = np.rint(np.vstack(rows) * 255).astype(np.uint8)
    page = Image.new("L", (pictures.shape[1], pictures.shape[0] + _CAPTION))
    page.paste(Image.fromarray(pictures), (0, _CAPTION))
    text = "SYNTHETIC, drawn by wardround, shows no patient. Above: no finding. Below: a finding."
    ImageDraw.Draw(page).text((6, 4), text, fill=255, font_size=_CAPTION - 10)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _lung(
    rng: np.random.Generator,
    across: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    side: int,
    ill: bool,
) -> npt.NDArray[np.float64]:
    middle = 0.47 + rng.normal(0, 0.02) + 0.06 * y
    apex = np.sqrt(np.clip(1 - np.clip((-0.05 - y) / 0.85, 0, 1) ** 2, 0, 1))
    base = (0.45 if side < 0 else 0.52) + rng.normal(0, 0.04)
    lung = _soft((0.36 + rng.normal(0, 0.02)) * apex - np.abs(across - middle), 0.05)
    lung = lung * _soft(base - y + 0.9 * np.clip(across - middle, -0.3, 0.4), 0.05)
    shadow = -lung * (0.36 + rng.normal(0, 0.03))
    for _ in range(int(rng.integers(2, 5)) if ill else 0):
        at, height = 0.47 + rng.normal(0, 0.12), rng.normal(0.1, 0.2)
        size = rng.uniform(0.15, 0.3)
        cloud = np.exp(-((across - at) ** 2 + (y - height) ** 2) / size**2)
        shadow = shadow + rng.uniform(0.2, 0.35) * cloud * lung
    return np.asarray(shadow)


def _soft(depth: Any, width: float) -> Any:
    """0 outside, 1 inside, an edge of some width."""
    return 1 / (1 + np.exp(-np.clip(depth / width, -50, 50)))


def _dataset(
    radiograph: Radiograph, light: npt.NDArray[np.float64], rng: np.random.Generator
) -> Dataset:
    scanner, flaw = radiograph.scanner, radiograph.flaw
    if flaw == "name":
        light = _burned(light, f"{radiograph.patient} SYNTHETIC")
    if flaw == "blank":
        light = np.zeros(light.shape)
    if scanner.aspect != 1:
        rows = round(light.shape[0] / scanner.aspect)
        size = (light.shape[1], rows)
        light = np.asarray(Image.fromarray(light.astype(np.float32)).resize(size))
    largest = 2**scanner.bits - 1
    stored = np.rint((1 - light if scanner.inverted else light) * largest)
    kind = np.uint8 if scanner.bits == 8 else np.uint16
    pixels = stored.astype(kind)
    if scanner.border:
        pixels = np.pad(pixels, ((0, 0), (scanner.border, scanner.border)), constant_values=largest)
    dataset = header(radiograph, rng)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = scanner.bits, scanner.bits - 1
    if scanner.border:
        dataset.PixelPaddingValue = largest
    if scanner.window:
        dataset.WindowCenter, dataset.WindowWidth = str(largest // 2), str(largest)
        dataset.VOILUTFunction = scanner.window
    if scanner.aspect != 1:
        dataset.PixelSpacing = [f"{0.2 * scanner.aspect:g}", "0.2"]
    if flaw != "no pixels":
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OB" if scanner.bits == 8 else "OW"
        if scanner.syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
            dataset.compress(scanner.syntax, generate_instance_uid=False)
        if flaw == "cut":
            dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 3 // 2 * 2]
    return dataset


def header(radiograph: Radiograph, rng: np.random.Generator) -> Dataset:
    """All but what describes the pixels."""
    scanner = radiograph.scanner
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = (
        ImplicitVRLittleEndian
        if scanner.syntax == ImplicitVRLittleEndian
        else ExplicitVRLittleEndian
    )
    dataset.SOPClassUID = (
        ComputedRadiographyImageStorage
        if scanner.modality == "CR"
        else DigitalXRayImageStorageForPresentation
    )
    dataset.StudyInstanceUID = _uid("study", radiograph)
    dataset.SeriesInstanceUID = _uid("series", radiograph)
    dataset.SOPInstanceUID = _uid("image", radiograph)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.Modality = scanner.modality
    dataset.Manufacturer = scanner.manufacturer
    dataset.InstitutionName = "SYNTHETIC HOSPITAL"
    dataset.PatientID = radiograph.patient
    dataset.PatientName = f"Synthetic^{radiograph.patient}"
    dataset.PatientBirthDate, dataset.PatientSex = "20150101", "O"
    dataset.StudyDate, dataset.StudyTime = f"2024{1 + int(rng.integers(12)):02d}15", "120000"
    dataset.AccessionNumber = radiograph.accession
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", "1", "1"
    dataset.ReferringPhysicianName = "Synthetic^Physician"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "LL" if radiograph.flaw == "lateral" else "PA"
    dataset.ImageComments = COMMENT
    dataset.KVP = f"{60 + int(rng.integers(60))}"
    dataset.Exposure = f"{1 + int(rng.integers(8))}"
    dataset.BurnedInAnnotation = "YES" if radiograph.flaw == "says so" else "NO"
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME1" if scanner.inverted else "MONOCHROME2"
    return dataset


def _uid(kind: str, radiograph: Radiograph) -> str:
    named = [kind, radiograph.patient, radiograph.accession]
    return generate_uid(prefix=_ROOT, entropy_srcs=named)


def _burned(light: npt.NDArray[np.float64], text: str) -> npt.NDArray[np.float64]:
    picture = Image.fromarray(np.rint(light * 255).astype(np.uint8))
    ImageDraw.Draw(picture).text((6, 6), text, fill=255, font_size=max(10, light.shape[0] // 16))
    return np.asarray(picture, dtype=np.float64) / 255
