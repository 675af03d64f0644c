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
from collections.abc import Callable, Iterator
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
from pydicom.encaps import encapsulate, get_frame
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut
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
_VIEW = (0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056, 0x00283000, 0x00283010)
"""Window, rescale and LUTs."""
EXCEPTIONS = {
    "TOSHIBA_J2K_SIZ1_PixRep0.dcm": (
        "PS3.5, 8.2.4: the codestream says that samples are signed, the header that they are not;"
        " the codestream was written with them, and the same picture with the right header agrees"
    ),
    **dict.fromkeys(
        ("rtdose_expb.dcm", "rtdose_expb_1frame.dcm"),
        "PS3.5, 7.3: samples of 32 bits, big-endian; dcmtk swaps within words of 16 bits, and"
        " the same picture in little-endian agrees",
    ),
    **dict.fromkeys(
        ("parametric_map_float.dcm", "parametric_map_double_float.dcm"),
        "PS3.3, C.11.2.1.2.1: a window of width 1 about 0.5 shows all above 0 as white; the values"
        " are real numbers below 1, which dcmtk rounds to whole ones first",
    ),
}
"""Files whose picture lies further off, and the section that says why."""


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
    """dcmtk on the file; on its stream in one fragment; on what another decodes."""
    yield "dcmtk", _by_dcmtk(path, number + 1, view)
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "file.dcm"
        for by, make in _DECODED.items():
            with suppress(Exception):
                make(path, header, number, there)
                yield by, _by_dcmtk(there, 1, view)


def _in_one_fragment(path: Path, header: Dataset, number: int, there: Path) -> None:
    """dcmtk fails on a frame in several fragments, which PS3.5, A.4 allows."""
    dataset = pydicom.dcmread(path)
    frames = max(1, int(header.get("NumberOfFrames", 1) or 1))
    frame = get_frame(dataset.PixelData, number, number_of_frames=frames)
    dataset.PixelData = encapsulate([frame])
    dataset.pop("NumberOfFrames", None)
    dataset.save_as(there)


def _by(plugin: str) -> Decoded:
    def decoded(path: Path, header: Dataset, number: int, there: Path) -> None:
        dataset = pydicom.dcmread(path, force=True)
        values = pixel_array(dataset, index=number, decoding_plugin=plugin)
        if header.PhotometricInterpretation == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)[..., :3]
        _write_plain(values, header, there)

    return decoded


Decoded = Callable[[Path, Dataset, int, Path], None]
_DECODED: dict[str, Decoded] = {
    "dcmtk, in one fragment": _in_one_fragment,
    **{plugin or "pydicom": _by(plugin) for plugin in ("gdcm", "pillow", "")},
}


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
    middle, wide = (float(v[0] if isinstance(v, MultiValue) else v) for v in (centre, width))
    function = header.get("VOILUTFunction")
    if function == "LINEAR_EXACT":  # which dcmtk does not know, as the other that equals it
        middle, wide = middle + 0.5, wide + 1
    return ["+Ww", repr(middle), repr(wide), *(["+Wfs"] if function == "SIGMOID" else [])]


def _by_dcmtk(path: Path, number: int, view: list[str]) -> Grey | None:
    for program in ("dcmj2pnm", "dcml2pnm"):
        command = [program, "-q", "-O", "+F", str(number), *view, "+op", str(path)]
        made = subprocess.run(command, capture_output=True, check=False, timeout=60)
        if made.returncode == 0 and made.stdout:
            grey = np.asarray(Image.open(io.BytesIO(made.stdout)), np.float64)
            return grey @ np.array(_LUMA) if grey.ndim == 3 else grey
    return None


def _write_plain(values: npt.NDArray[Any], header: Dataset, path: Path) -> None:
    """Decoded samples as an uncompressed file that means the same. Real numbers are rounded to
    16 bits, which a rescale turns back."""
    dataset = Dataset()
    for tag in _VIEW:
        if tag in header:
            dataset[tag] = header[tag]
    if values.dtype.kind == "f":
        low, step = float(values.min()), float(np.ptp(values)) / 65535
        dataset.RescaleIntercept, dataset.RescaleSlope = f"{low:.10g}", f"{step:.10g}"
        values = np.rint((values - low) / step).astype(np.uint16)
    meta = dataset.file_meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    grey = "MONOCHROME1" if windowing.inverted(header) else "MONOCHROME2"
    dataset.PhotometricInterpretation = "RGB" if values.ndim == 3 else grey
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes()
    dataset.save_as(path, enforce_file_format=True)
