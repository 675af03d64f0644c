"""Identified radiographs as DICOM files: every identifier in them holds a planted word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

DX = "1.2.840.10008.5.1.4.1.1.1.1"
CANARIES = (b"CANARY", b"7770777", b"19330722")
"""What no output may hold: in names, patients' numbers, birth dates."""


def radiograph(number: int = 0, *, side: int = 64, **changes: Any) -> Dataset:
    """Patient number // 2, one study each. A change of None takes an attribute away."""
    patient = number // 2
    plain: dict[str, Any] = {
        "PatientName": "CANARY^JOHN",
        "PatientID": f"7770777{patient}",
        "PatientBirthDate": "19330722",
        "OperatorsName": "CANARYOPERATOR",
        "ReferringPhysicianName": "CANARYDOCTOR^A",
        "InstitutionName": "CANARY HOSPITAL",
        "AccessionNumber": f"A{patient}",
        "StudyDate": "20240131",
        "StudyTime": "101500",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": number + 1,
        "SOPClassUID": DX,
        "SOPInstanceUID": f"1.2.826.0.1.{patient}.1.{number + 1}",
        "StudyInstanceUID": f"1.2.826.0.1.{patient}",
        "SeriesInstanceUID": f"1.2.826.0.1.{patient}.1",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "Manufacturer": "Maker",
        "ProtocolName": "Chest PA CANARY",
        "KVP": "120",
        "Rows": side,
        "Columns": side,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": _pixels(number, side),
    } | changes
    dataset = Dataset()
    for name, value in plain.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.add_new(0x00990010, "LO", "CANARY PRIVATE")
    dataset.add_new(0x00991001, "LO", "CANARY^PRIVATE")
    return dataset


def written(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """As a file of the DICOM file format."""
    meta = dataset.file_meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", DX)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def sparse(dataset: Dataset, path: Path) -> Path:
    """The same with zeros for pixels that take no room on disk."""
    size = len(dataset.PixelData)
    dataset.PixelData = b""
    written(dataset, path)
    with path.open("r+b") as file:
        file.seek(-4, 2)  # the last element: pixel data, of no length so far
        file.write(size.to_bytes(4, "little"))
        file.truncate(file.tell() + size)
    return path


def _pixels(number: int, side: int) -> bytes:
    y, x = np.mgrid[:side, :side] / side
    body: npt.NDArray[np.float64] = 2000 + 1500 * np.cos(3 * x + number) * np.cos(2 * y)
    return body.astype("<u2").tobytes()
