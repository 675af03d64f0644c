"""Sample values -> how bright they are meant to be shown, in [0, 1] (PS3.3, C.11; PS3.4, N.2).

    modality LUT, or slope and intercept -> VOI LUT, or window -> inversion of MONOCHROME1

What the standard leaves to the reader is settled here, by the object alone, and is part of the key
of the cache of pictures (`CHOICES`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from client.data.dicom.pixels.faults import NoPicture, PixelFault
from client.data.dicom.pixels.lookup_tables import lookup_table

Values = npt.NDArray[np.float64]
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
TAILS = (0.5, 99.5)
_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as in DICOM's YBR_FULL (PS3.3, C.7.6.3.1.2)."""
_DOMAIN = 1 << 16
CHOICES = (
    "of several views the first; a VOI LUT before a window",  # C.11.2.1: alternatives
    f"without either, 8 bits as they are, deeper values between percentiles {TAILS}",
    "and so where the view shows nothing of the picture",
    "padding black",  # C.7.5.1.1.2
    f"colours by luma {_LUMA}",
)


def displayed(values: npt.NDArray[Any], header: Dataset, bits: int) -> npt.NDArray[np.uint8]:
    """(rows, columns) or (rows, columns, 3) samples -> (rows, columns) uint8. bits: of a sample.

    Padding is black. A picture that is not all of one value never becomes all black: a window
    that shows none of it is given up for the percentiles.
    """
    if values.ndim == 3:
        light = values[..., :3].astype(np.float32) @ np.array(_LUMA, dtype=np.float32)
        return _bytes(light / np.float32(2 ** min(bits, 8 * values.dtype.itemsize) - 1))
    padding = padded(values, header)
    seen = values if padding is None else values[~padding]
    if values.dtype.kind == "f":
        seen = seen[np.isfinite(seen)]
    if not seen.size:
        return np.zeros(values.shape, dtype=np.uint8)
    for by_window in (True, False):
        shown = _shown(values, seen, header, bits, by_window)
        if padding is not None:
            shown[padding] = 0
        if shown.any() and (shown.min() < shown.max() or seen.min() == seen.max()):
            break
    return shown


def coloured(values: npt.NDArray[Any], header: Dataset, bits: int) -> npt.NDArray[np.uint8]:
    """(rows, columns) or (rows, columns, 3) samples of `bits` each -> (rows, columns, 3) uint8 red,
    green, blue; three alike of what is grey, as `displayed` shows it."""
    if values.ndim == 2:
        return np.repeat(displayed(values, header, bits)[..., None], 3, axis=2)
    return _bytes(values[..., :3] / np.float32(2 ** min(bits, 8 * values.dtype.itemsize) - 1))


def measured(
    values: npt.NDArray[Any], header: Dataset, hounsfield: tuple[float, float]
) -> npt.NDArray[np.uint8]:
    """(rows, columns) samples of computed tomography -> (rows, columns) uint8: from the one value,
    black, to the other, white, whatever view the object names. Padding is black.

    Raises NoPicture(UNITS) unless the rescale gives Hounsfield units: its type says so, or is
    absent in a CT image (PS3.3, C.8.2.1, C.11.1.1.2).
    """
    kind = str(header.get("RescaleType") or "").strip()
    absent = not kind and str(header.get("Modality") or "").strip() == "CT"
    if values.ndim == 3 or "RescaleSlope" not in header or not (kind == "HU" or absent):
        raise NoPicture(PixelFault.UNITS)
    black, white = hounsfield
    units = modality(header, values.dtype.kind == "i")(values)
    shown = _bytes((units - black) / (white - black))
    padding = padded(values, header)
    return shown if padding is None else np.where(padding, np.uint8(0), shown)


def _shown(
    values: npt.NDArray[Any], seen: npt.NDArray[Any], header: Dataset, bits: int, by_window: bool
) -> npt.NDArray[np.uint8]:
    """`by_window`: with the window that the object names, if any; else by percentiles."""
    signed = values.dtype.kind == "i"
    meaning = modality(header, signed)
    lowest = -(2 ** (bits - 1)) if signed else 0
    ends = meaning(np.array([lowest, lowest + 2**bits - 1], np.float64))
    voi = window(header, signed=bool(ends.min() < 0)) if by_window else None
    voi = voi or _percentiles(meaning(seen), bits, by_window)

    def brightness(samples: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        light = voi(meaning(samples))
        return _bytes(1 - light if inverted(header) else light)

    low, high = seen.min(), seen.max()
    if values.dtype.kind in "iu" and int(high) - int(low) < min(_DOMAIN, values.size):
        table = brightness(np.arange(int(low), int(high) + 1))
        return np.asarray(table[np.clip(values, low, high).astype(np.int64) - int(low)])
    return brightness(np.clip(np.nan_to_num(values, nan=float(low)), low, high))


def modality(header: Dataset, signed: bool) -> Callable[[npt.NDArray[Any]], Values]:
    """Stored values -> what was measured (PS3.3, C.11.1): the modality LUT, whose output is never
    negative, else slope and intercept. signed: whether stored values may be negative.

    Raises NoPicture: LOOKUP_TABLE; RESCALE where one of the two is given and is no number: to pass
    over it would show other values through the window than it is for.
    """
    if items := header.get("ModalityLUTSequence"):
        table = lookup_table(items[0], signed)
        return lambda samples: table(samples).astype(np.float64)
    slope = _given(header, "RescaleSlope", 1.0) or 1.0
    intercept = _given(header, "RescaleIntercept", 0.0)
    return lambda samples: samples.astype(np.float64) * slope + intercept


def window(header: Dataset, signed: bool) -> Callable[[Values], Values] | None:
    """Measured values -> [0, 1] (PS3.3, C.11.2): the first VOI LUT, else the first window; None
    without either. signed: whether measured values may be negative, which is what decides on the
    sign of the first value mapped (C.11.2.1.1), not the VR that it was written with.

    Raises NoPicture(LOOKUP_TABLE).
    """
    if items := header.get("VOILUTSequence"):
        table = lookup_table(items[0], signed)
        return lambda measured: table(measured) / float(2**table.bits - 1)
    centre, width = _number(header.get("WindowCenter")), _number(header.get("WindowWidth"))
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if not math.isfinite(centre) or not width >= (1 if function == "LINEAR" else 1e-12):
        return None
    curve = {"SIGMOID": sigmoid, "LINEAR_EXACT": linear_exact}.get(function, linear)
    return lambda measured: curve(measured, centre, width)


def linear(measured: Values, centre: float, width: float) -> Values:
    """PS3.3, C.11.2.1.2.1; a width of 1 is a threshold."""
    if width == 1:
        return np.asarray(measured > centre - 0.5, dtype=np.float64)
    return np.clip((measured - (centre - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)


def linear_exact(measured: Values, centre: float, width: float) -> Values:
    """PS3.3, C.11.2.1.3.2."""
    return np.clip((measured - centre) / width + 0.5, 0.0, 1.0)


def sigmoid(measured: Values, centre: float, width: float) -> Values:
    """PS3.3, C.11.2.1.3.1."""
    return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (measured - centre) / width, -700, 700)))


def inverted(header: Dataset) -> bool:
    """Whether the least value is the brightest: MONOCHROME1 (PS3.3, C.7.6.3.1.2), which a
    presentation LUT shape, where there is one, repeats or overrules (C.11.6)."""
    shape = str(header.get("PresentationLUTShape") or "").strip()
    if shape in ("INVERSE", "IDENTITY"):
        return shape == "INVERSE"
    return str(header.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1"


def padded(values: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.bool_] | None:
    """(rows, columns) bool: which samples are no part of the picture (PS3.3, C.7.5.1.1.2), of one
    value or of a range; None where the object names no such value."""
    real = values.dtype.kind == "f"
    kind = "" if not real else "Float" if values.dtype.itemsize == 4 else "DoubleFloat"
    edge = header.get(f"{kind}PixelPaddingValue")
    if edge is None:
        return None
    limit = header.get(f"{kind}PixelPaddingRangeLimit")
    ends = [edge, edge if limit is None else limit]
    low, high = sorted(float(v) if real else _as_sample(v, header, values.dtype) for v in ends)
    return np.asarray((values >= low) & (values <= high))


def _percentiles(measured: Values, bits: int, whole: bool) -> Callable[[Values], Values]:
    """Without a window: 8 bits as they are (if `whole`), else from percentile to percentile."""
    low, high = (float(edge) for edge in np.percentile(measured, TAILS))
    if whole and bits == 8 and measured.min() >= 0 and measured.max() <= 255:
        low, high = 0.0, 255.0
    elif low == high:
        low, high = float(measured.min()), float(measured.max())
    if low == high:
        return lambda values: np.full(values.shape, float(low > 0))
    return lambda values: np.clip((values - low) / (high - low), 0.0, 1.0)


def _as_sample(value: Any, header: Dataset, dtype: np.dtype[Any]) -> int:
    """A padding value as these samples would hold it: headers confuse US and SS."""
    allocated = 8 * dtype.itemsize
    held = int(value) & ((1 << allocated) - 1)
    for bits in (allocated, int(header.get("BitsStored", 0) or allocated)):
        if dtype.kind == "i" and 1 << bits - 1 <= held < 1 << bits:
            return held - (1 << bits)
    return held


def _given(header: Dataset, keyword: str, otherwise: float) -> float:
    """Of what is absent or empty `otherwise`. Raises NoPicture(RESCALE)."""
    value = header.get(keyword)
    if value is None or value == "":
        return otherwise
    if not math.isfinite(number := _number(value)):
        raise NoPicture(PixelFault.RESCALE)
    return number


def _number(value: Any, otherwise: float = math.nan) -> float:
    """The first of several values, where it is a finite number."""
    if isinstance(value, MultiValue | list):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return otherwise
    return number if math.isfinite(number) else otherwise


def _bytes(light: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(np.clip(light, 0, 1) * 255), dtype=np.uint8)
