"""A file becomes the picture that the DICOM standard says it shows, or a reason that helps.

What each case stands for: table data whose byte order or width is not that of the pixels; a
descriptor that is trusted over the data it describes; a value coded unsigned and meant signed;
Enhanced objects read as if they were classic ones; one reason for every fault, from which nobody
can tell what to repair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from client.data.dicom.pixels.decode import middle_frame
from client.data.dicom.pixels.preprocessing import Preprocessing, picture, prepare_picture
from client.data.dicom.pixels.windowing import displayed

HERE = Path(__file__).resolve().parent
RAMP = np.arange(4096).reshape(64, 64)
UP, DOWN = np.rint(RAMP / 4095 * 255), np.rint((4095 - RAMP) / 4095 * 255)
ENHANCED = "enhanced_ct_shared_window"


def windowed(values: npt.NDArray[Any], centre: float, width: float) -> npt.NDArray[Any]:
    """PS3.3, C.11.2.1.2, linear."""
    return np.rint(np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("voilut_be_OW", DOWN),
        ("voilut_desc16_data12_agfa", UP),
        ("voilut_rescaled_first_US", UP),
        (ENHANCED, windowed(RAMP // 2 + 1 - 1024.0, 40, 400)),
    ],
)
def test_a_file_shows_what_the_standard_says(name: str, expected: npt.NDArray[Any]) -> None:
    path = HERE / f"{name}.dcm"
    frame = middle_frame(path.read_bytes(), path)
    grey = displayed(frame.values, frame.header, frame.bits).astype(float)
    assert float(np.abs(grey - expected).mean()) <= 1, "mean error, of 255 grey values"


def test_pixels_of_an_enhanced_object_become_square() -> None:
    """Pixels of 0.5 by 1 mm: half as high as wide, so that black borders fill up."""
    path = HERE / f"{ENHANCED}.dcm"
    made = picture(path.read_bytes(), Preprocessing(64, 64))
    borders = "stretched" if made[0].any() or made[-1].any() else "letterboxed"
    assert borders == "letterboxed"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("mono1_pi_lower", "PhotometricInterpretation"),
        ("samples_missing", "SamplesPerPixel"),
        ("frames_text", "NumberOfFrames"),
        ("huge_dims", "too large"),
        ("short_pixeldata", "cut short"),
    ],
)
def test_a_file_is_read_or_the_reason_says_what_is_wrong(name: str, word: str) -> None:
    fault = prepare_picture(HERE / f"{name}.dcm", Preprocessing(28, 28)).fault
    assert fault is None or word.lower() in fault.value.lower()
