"""A file's bytes -> one frame of sample values, by the fastest decoder that reads them rightly.

Transfer syntaxes and who decodes them, first choice first (each checked against the others over
public test files; images a second of 512 x 512 to 2,500 x 2,048, one thread):

    uncompressed, big-endian, deflated    pydicom
    RLE                                   pylibjpeg-rle (4 times pydicom), pydicom
    JPEG baseline                         gdcm (1.6 times Pillow), Pillow
    JPEG extended, 12 bits                gdcm's reader of whole files: nothing else can
    JPEG lossless                         gdcm
    JPEG-LS                               pyjpegls (1.7 times gdcm), gdcm, which fails on 7 bits
    JPEG 2000                             openjpeg (1.25 times gdcm), gdcm; Pillow ignores signs
    high-throughput JPEG 2000             openjpeg
    deflated frames                       zlib

Only in a process of its own (client/data/dicom/isolation.py): a codec in C may crash.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders import get_decoder
from pydicom.pixels.processing import apply_color_lut, convert_color_space
from pydicom.pixels.utils import get_j2k_parameters, pixel_array, unpack_bits
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from client.data.dicom.header import open_dataset

_FIRST = {
    RLELossless: ("pylibjpeg", "pydicom"),
    JPEGBaseline8Bit: ("gdcm", "pillow"),
    JPEGExtended12Bit: ("gdcm", "pillow"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, ("pyjpegls", "gdcm")),
    **dict.fromkeys(JPEG2000TransferSyntaxes, ("pylibjpeg", "gdcm")),
}
_DEFLATED_FRAMES = UID("1.2.840.10008.1.2.8.1")
_BITS = {8: np.uint8, 16: np.uint16, 32: np.uint32}
LARGEST_FRAME = 1 << 27
"""Samples in a frame, at most; 134 million."""
_WANTED: list[Any] = [
    *range(0x00280002, 0x00280015),  # samples, photometric interpretation, frames, sides, aspect
    *(0x00280030, 0x00181164),  # pixel spacing, of the patient or of the detector
    *(0x00280100, 0x00280101, 0x00280102, 0x00280103),  # bits, sign
    *(0x00280120, 0x00280121),  # padding
    *range(0x00281050, 0x00281057),  # window, rescale, VOI LUT function
    *(0x00283000, 0x00283010, 0x20500020),  # modality LUT, VOI LUT, presentation shape
    *range(0x00281101, 0x00281104),  # palette
    *range(0x00281201, 0x00281204),
    *(0x00281221, 0x00281222, 0x00281223),
]


@dataclass(frozen=True)
class Frame:
    """`values`: (rows, columns) of any real type, or (rows, columns, 3) red, green, blue of an
    unsigned type that uses its `bits`. `header`: the attributes that say what they mean."""

    values: npt.NDArray[Any]
    header: Dataset
    bits: int


class NoPixels(Exception):
    """An object without pixel data."""


class TooLarge(Exception):
    """A frame of more samples than `LARGEST_FRAME`."""


def middle_frame(data: bytes, path: Path | None = None) -> Frame:
    """The frame in the middle of a file's bytes, number n // 2 counted from 0: of several views
    of one thing, the one that most likely shows it. `path`: the same file, for gdcm's own reader.

    Raises NoPixels, TooLarge, and whatever a decoder raises.
    """
    header, there = open_dataset(io.BytesIO(data), len(data), _WANTED)
    if not there:
        raise NoPixels
    count = max(1, int(header.get("NumberOfFrames", 1) or 1))
    samples = int(header.get("SamplesPerPixel", 1) or 1)
    if int(header.Rows) * int(header.Columns) * samples > LARGEST_FRAME:
        raise TooLarge
    number = count // 2
    syntax = header.file_meta.TransferSyntaxUID
    values = _decoded(data, path, syntax, header, number)
    return _coloured(_sign_of_codestream(values, data, syntax, header, number), header, samples)


def _decoded(
    data: bytes, path: Path | None, syntax: UID, header: Dataset, number: int
) -> npt.NDArray[Any]:
    if syntax == _DEFLATED_FRAMES:
        return _inflated(data, header, number)
    source: Any = io.BytesIO(data)
    if not syntax.is_encapsulated:
        whole = dcmread(source, force=True)
        whole.file_meta.TransferSyntaxUID = syntax
        return pixel_array(whole, index=number, raw=True)
    failure: Exception = NotImplementedError()
    available = get_decoder(syntax).available_plugins
    for plugin in _FIRST.get(syntax, available):
        try:
            source.seek(0)
            return pixel_array(source, index=number, raw=True, decoding_plugin=plugin)
        except Exception as error:
            failure = error
    if syntax == JPEGExtended12Bit and path is not None:
        return _read_by_gdcm(path, header, number)
    raise failure


def _inflated(data: bytes, header: Dataset, number: int) -> npt.NDArray[Any]:
    """Deflated Image Frame Compression (PS3.5, A.4.14): each frame deflated by itself."""
    whole = dcmread(io.BytesIO(data), force=True)
    rows, columns = int(header.Rows), int(header.Columns)
    count = max(1, int(header.get("NumberOfFrames", 1) or 1))
    frame = get_frame(whole.PixelData, number, number_of_frames=count)
    bits = int(header.BitsAllocated)
    most = rows * columns * max(1, bits // 8) + 16
    raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, most)
    if bits == 1:
        return np.asarray(unpack_bits(raw, as_array=True))[: rows * columns].reshape(rows, columns)
    values = np.frombuffer(raw, _BITS[bits], rows * columns)
    return values.reshape(rows, columns)


def _read_by_gdcm(path: Path, header: Dataset, number: int) -> npt.NDArray[Any]:
    import gdcm  # type: ignore[import-untyped]

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError
    image = reader.GetImage()
    buffer = image.GetBuffer()  # text in which a byte that is not UTF-8 is a lone surrogate
    raw = buffer.encode("utf-8", "surrogateescape") if isinstance(buffer, str) else bytes(buffer)
    size = int(header.Rows) * int(header.Columns)
    kind = _BITS[image.GetPixelFormat().GetBitsAllocated()]
    values = np.frombuffer(raw, kind, size, number * size * np.dtype(kind).itemsize)
    return values.reshape(int(header.Rows), int(header.Columns))


def _sign_of_codestream(
    values: npt.NDArray[Any], data: bytes, syntax: UID, header: Dataset, number: int
) -> npt.NDArray[Any]:
    """JPEG 2000 says itself whether samples are signed (ISO 15444-1, A.5.1). Where the header
    calls signed samples unsigned, the codestream is believed: it was written with the pixels."""
    if syntax not in JPEG2000TransferSyntaxes or values.dtype != np.uint16:
        return values
    whole = dcmread(io.BytesIO(data), force=True)
    count = max(1, int(header.get("NumberOfFrames", 1) or 1))
    stream = get_frame(whole.PixelData, number, number_of_frames=count)
    said = get_j2k_parameters(stream)
    if said.get("is_signed") and said.get("precision") == 16:
        return values.view(np.int16)
    return values


def _coloured(values: npt.NDArray[Any], header: Dataset, samples: int) -> Frame:
    """Palettes looked up, and YBR as RGB."""
    bits = int(header.get("BitsStored", 0) or 8 * values.dtype.itemsize)
    shape = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if shape == "PALETTE COLOR":
        values = apply_color_lut(values, header)[..., :3]
        return Frame(values, header, 8 * values.dtype.itemsize)
    if samples == 3 and shape in ("YBR_FULL", "YBR_FULL_422"):
        values = convert_color_space(values, shape, "RGB", bits_stored=bits)
    return Frame(values, header, bits)
