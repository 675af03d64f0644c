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

Only in a process of its own (client/data/dicom/isolated_workers.py): a codec in C may crash.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import get_j2k_parameters, pixel_array
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from client.data.dicom.objects.header import Problem, Unreadable, open_dataset
from client.data.dicom.pixels import functional_groups
from client.data.dicom.pixels.faults import NoPicture, PixelFault, explained
from client.data.dicom.pixels.lookup_tables import palette
from client.data.dicom.pixels.stored_bits import samples

_FIRST = {
    RLELossless: ("pylibjpeg", "pydicom"),
    JPEGBaseline8Bit: ("gdcm", "pillow"),
    JPEGExtended12Bit: ("gdcm", "pillow"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, ("pyjpegls", "gdcm")),
    **dict.fromkeys(JPEG2000TransferSyntaxes, ("pylibjpeg", "gdcm")),
}
_BITS = {8: np.uint8, 16: np.uint16, 32: np.uint32}
_HEADERS = {Problem.CUT_SHORT: PixelFault.CUT_SHORT, Problem.SYNTAX: PixelFault.SYNTAX}
FRAME = "frame n // 2, counted from 0"
LARGEST_FRAME = 1 << 27
"""Samples in a frame, at most; 134 million."""
_WANTED: list[Any] = [
    0x00080060,  # modality
    *range(0x00280002, 0x00280015),  # samples, photometric interpretation, frames, sides
    *(0x00280030, 0x00280034, 0x00181164, 0x00182010),  # pixels: spacing and aspect
    *(0x00200020, 0x00200037, 0x00102210),  # orientation
    *(0x00280100, 0x00280101, 0x00280102, 0x00280103),  # bits, sign
    *range(0x00280120, 0x00280126),  # padding
    *range(0x00281050, 0x00281057),  # window, rescale and its type, VOI LUT function
    *(0x00283000, 0x00283010, 0x20500020),  # modality LUT, VOI LUT, presentation shape
    *range(0x00281101, 0x00281104),  # palette
    *range(0x00281201, 0x00281204),
    *(0x00281221, 0x00281222, 0x00281223),
    *(functional_groups.SHARED, functional_groups.PER_FRAME),
    *(0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010),  # offsets, pixel data
]
"""All that is parsed. No attribute that is used of it names anybody."""


@dataclass(frozen=True)
class DecodedFrame:
    """`values`: (rows, columns) of any real type, or (rows, columns, 3) red, green, blue of an
    unsigned type, of which `bits` are in use. `header`: what says what they mean."""

    values: npt.NDArray[Any]
    header: Dataset
    bits: int


def middle_frame(data: bytes, path: Path | None = None) -> DecodedFrame:
    """The frame in the middle of a file's bytes, number n // 2 counted from 0: of several views
    of one thing, the one that most likely shows it. `path`: the same file, for gdcm's own reader.

    Raises NoPicture, MemoryError.
    """
    try:
        header, there = open_dataset(io.BytesIO(data), len(data), [0x00280010])
        if not there:
            raise NoPicture(PixelFault.NO_PIXELS)
        dataset = dcmread(io.BytesIO(data), force=True, specific_tags=_WANTED)
    except (NoPicture, MemoryError):
        raise
    except Unreadable as error:
        raise NoPicture(_HEADERS.get(error.problem, PixelFault.UNDECODABLE)) from None
    except (Exception, RecursionError):
        raise NoPicture(PixelFault.UNDECODABLE) from None
    if len(header) and not len(dataset):  # pydicom gives nothing where the file ends in its pixels
        raise NoPicture(PixelFault.CUT_SHORT)
    dataset.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    try:
        return _frame(dataset, path)
    except (NoPicture, MemoryError):
        raise
    except (Exception, RecursionError):
        raise NoPicture(explained(dataset)) from None


def _frame(dataset: Dataset, path: Path | None) -> DecodedFrame:
    planes = int(dataset.get("SamplesPerPixel", 1) or 1)
    if int(dataset.Rows) * int(dataset.Columns) * planes > LARGEST_FRAME:
        raise NoPicture(PixelFault.TOO_LARGE)
    number = _frames(dataset) // 2
    syntax = dataset.file_meta.TransferSyntaxUID
    words = _decoded(dataset, number, path)
    values = samples(words, dataset, syntax.is_encapsulated and syntax != RLELossless)
    header = functional_groups.of_frame(dataset, number)
    if str(header.get("PhotometricInterpretation", "")).strip() == "PALETTE COLOR":
        tables = palette(header, signed=values.dtype.kind == "i")
        colours = np.stack([table(values) for table in tables], axis=-1)
        return DecodedFrame(colours, header, max(table.bits for table in tables))
    return DecodedFrame(
        values, header, int(header.get("BitsStored", 0) or 8 * values.dtype.itemsize)
    )


def _frames(dataset: Dataset) -> int:
    return max(1, int(dataset.get("NumberOfFrames", 1) or 1))


def _decoded(dataset: Dataset, number: int, path: Path | None) -> npt.NDArray[Any]:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return pixel_array(dataset, index=number, correct_unused_bits=False)
    failure: Exception = NotImplementedError()
    for plugin in _FIRST.get(syntax) or get_decoder(syntax).available_plugins:
        try:
            values = pixel_array(
                dataset, index=number, decoding_plugin=plugin, correct_unused_bits=False
            )
        except Exception as error:
            failure = error
        else:
            signed = syntax in JPEG2000TransferSyntaxes and _codestream_signed(dataset, number)
            return values.view(np.int16) if signed and values.dtype == np.uint16 else values
    if syntax == JPEGExtended12Bit and path is not None:
        return _read_by_gdcm(dataset, number, path)
    raise failure


def _codestream_signed(dataset: Dataset, number: int) -> bool:
    """Whether a JPEG 2000 codestream says that its 16-bit samples are signed (ISO 15444-1, A.5.1).
    Where the header disagrees, the codestream is believed: it was written with the pixels."""
    stream = get_frame(dataset.PixelData, number, number_of_frames=_frames(dataset))
    parameters = get_j2k_parameters(stream)
    return bool(parameters.get("is_signed")) and parameters.get("precision") == 16


def _read_by_gdcm(dataset: Dataset, number: int, path: Path) -> npt.NDArray[Any]:
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError
    image = reader.GetImage()
    buffer = image.GetBuffer()  # text in which a byte that is not UTF-8 is a lone surrogate
    raw = buffer.encode("utf-8", "surrogateescape") if isinstance(buffer, str) else bytes(buffer)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    kind = np.dtype(_BITS[image.GetPixelFormat().GetBitsAllocated()])
    start = number * rows * columns * kind.itemsize
    return np.frombuffer(raw, kind, rows * columns, start).reshape(rows, columns)
