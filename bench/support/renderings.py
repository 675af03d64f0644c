"""Public DICOM files as another program renders them: dcmtk, over its own or a second decoder.

dcmtk 3.6.7 reads uncompressed, RLE, JPEG (`dcmj2pnm`) and JPEG-LS files (`dcml2pnm`). What it does
not read, gdcm or Pillow decodes, and dcmtk renders what they decoded. The view is that of
client/data/dicom/pixels/windowing.py: a VOI LUT or window that the object names, 8 bits as they
are, or the percentiles, as a window. Padding is left out: dcmtk shows it (PS3.3, C.7.5.1.1.2).
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from client.data.dicom.objects.header import quiet
from client.data.dicom.pixels import windowing
from client.data.dicom.pixels.decode import DecodedFrame, middle_frame
from client.data.dicom.pixels.faults import NoPicture

Grey = npt.NDArray[np.float64]
BAR = 2.0
"""Of 255 grey values: how far any pixel may lie from the other rendering."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Compared:
    """far: the largest difference of a pixel, None where nobody else renders the file; by: who
    decoded it for that."""

    name: str
    far: float | None
    by: str


@cache
def public_files() -> dict[str, Path]:
    """Each content once, by name: WARDROUND_DATA/dicom, and pydicom's own test files."""
    data = Path(os.environ.get("WARDROUND_DATA", "nowhere")) / "dicom"
    own = Path(pydicom.__file__).parent / "data" / "test_files"
    found: dict[bytes, Path] = {}
    for path in (*sorted(data.glob("*/*.dcm")), *sorted(own.rglob("*.dcm"))):
        found.setdefault(hashlib.sha256(path.read_bytes()).digest(), path)
    return {path.name: path for path in found.values()}


def compared() -> Iterator[Compared]:
    """Every public file of which there is a picture."""
    quiet()
    for name, path in public_files().items():
        try:
            frame = middle_frame(path.read_bytes(), path)
        except NoPicture:
            if (seen := _by_dcmtk(path, 1, ["-W"])) is not None and seen.any():
                yield Compared(name, 255.0, "dcmtk")
            continue
        yield _compared(name, path, frame)


def _compared(name: str, path: Path, frame: DecodedFrame) -> Compared:
    header = frame.header
    ours = windowing.displayed(frame.values, header, frame.bits).astype(np.float64)
    number = max(1, int(header.get("NumberOfFrames", 1) or 1)) // 2
    view = _view(frame)
    padding = windowing.padded(frame.values, header) if frame.values.ndim == 2 else None
    shown = np.ones(ours.shape, bool) if padding is None else ~padding
    for by, theirs in _others(path, header, number, view):
        if theirs is not None and theirs.shape == ours.shape:
            return Compared(name, float(np.abs(ours - theirs)[shown].max(initial=0)), by)
    return Compared(name, None, "")


def _others(
    path: Path, header: Dataset, number: int, view: list[str]
) -> Iterator[tuple[str, Grey | None]]:
    yield "dcmtk", _by_dcmtk(path, number + 1, view)
    for by in ("gdcm", "pillow", "pydicom"):
        decoded = None
        with suppress(Exception):
            decoded = pixel_array(pydicom.dcmread(path, force=True), index=number,
                                  decoding_plugin="" if by == "pydicom" else by)  # fmt: skip
        if decoded is not None:
            with tempfile.TemporaryDirectory() as folder:
                plain = _plain(decoded, header, Path(folder) / "plain.dcm")
                yield by, _by_dcmtk(plain, 1, view)


def _view(frame: DecodedFrame) -> list[str]:
    """dcmtk's options for what `windowing.displayed` shows."""
    header, values = frame.header, frame.values
    if values.ndim == 3:
        return []
    if header.get("VOILUTSequence"):
        return ["+Wl", "1"]
    meaning = windowing.modality(header, values.dtype.kind == "i")
    centre, width = header.get("WindowCenter"), header.get("WindowWidth")
    if centre is None or width is None:
        padding = windowing.padded(values, header)
        seen = meaning(values if padding is None else values[~padding])
        if frame.bits == 8 and seen.min() >= 0 and seen.max() <= 255:
            return ["+Ww", "128", "256"]
        low, high = np.percentile(seen, windowing.TAILS)
        low, high = (low, high) if low < high else (seen.min(), seen.max())
        return ["+Ww", repr(float(low + high + 1) / 2), repr(float(high - low + 1))]
    first = [v[0] if isinstance(v, list | pydicom.multival.MultiValue) else v for v in (centre, width)]
    return ["+Ww", *(str(float(v)) for v in first)]


def _by_dcmtk(path: Path, number: int, view: list[str]) -> Grey | None:
    for program in ("dcmj2pnm", "dcml2pnm"):
        command = [program, "-q", "-O", "+F", str(number), *view, "+op", str(path)]
        made = subprocess.run(command, capture_output=True, check=False, timeout=60)  # noqa: S603
        if made.returncode == 0 and made.stdout:
            grey = np.asarray(Image.open(io.BytesIO(made.stdout)), np.float64)
            return grey @ np.array(_LUMA) if grey.ndim == 3 else grey
    return None


def _plain(values: npt.NDArray[Any], header: Dataset, path: Path) -> Path:
    """Decoded samples as an uncompressed file that means the same."""
    dataset = Dataset()
    for tag in (0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056, 0x00283000, 0x00283010):
        if tag in header:
            dataset[tag] = header[tag]
    meta = dataset.file_meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    inverted = windowing.inverted(header)
    grey = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.PhotometricInterpretation = "RGB" if values.ndim == 3 else grey
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path
