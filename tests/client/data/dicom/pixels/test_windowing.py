"""Windows, look-up tables, inversion and padding, against the standard's own formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from client.data.dicom.pixels.windowing import coloured, displayed, linear, linear_exact, sigmoid

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def header(**values: object) -> Dataset:
    dataset = Dataset()
    for name, value in {"PhotometricInterpretation": "MONOCHROME2", **values}.items():
        setattr(dataset, name, value)
    return dataset


def lut(first: int, entries: list[int], bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = entries
    return item


def test_linear_window_is_the_example_of_the_standard() -> None:
    # PS3.3, C.11.2.1.2.1: c=2048, w=4096 over 0 to 4095 is the identity, scaled
    assert np.allclose(linear(RAMP.astype(float), 2048, 4096), RAMP / 4095)
    # c=2048, w=1: all below 2047.5 is black, all above white
    assert np.array_equal(linear(RAMP.astype(float), 2048, 1), (RAMP > 2047.5).astype(float))
    # c=0, w=100: -49.5 - .5 and 49.5 - .5 are the ends
    assert linear(np.array([-50.0, -0.5, 49.0]), 0, 100) == pytest.approx([0, 0.5, 1])


def test_linear_exact_and_sigmoid_follow_their_formulas() -> None:
    assert linear_exact(np.array([-50.0, 0.0, 50.0]), 0, 100) == pytest.approx([0, 0.5, 1])
    assert sigmoid(np.array([-50.0, 0.0, 50.0]), 0, 100) == pytest.approx(
        [1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2))]
    )


def test_monochrome1_shows_the_negative() -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = displayed(RAMP, header(**window), 12)
    inverted = displayed(RAMP, header(PhotometricInterpretation="MONOCHROME1", **window), 12)
    shaped = displayed(RAMP, header(PresentationLUTShape="INVERSE", **window), 12)
    assert np.abs(plain.astype(int) + inverted - 255).max() <= 1
    assert np.array_equal(inverted, shaped)


def test_rescale_comes_before_the_window() -> None:
    asked = header(RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    shown = displayed(RAMP, asked, 12)
    expected = linear(RAMP.astype(np.float64) * 2.0 - 1024, 40, 400)
    assert np.abs(shown - expected * 255).max() <= 0.5


def test_look_up_tables_of_modality_and_voi() -> None:
    values = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    both = header(
        ModalityLUTSequence=[lut(1, [10, 20, 30], 16)],
        VOILUTSequence=[lut(10, list(range(21)), 8)],
    )
    measured = np.array([[10, 10], [20, 30]])  # below the first value: the first entry
    assert np.array_equal(displayed(values, both, 8), measured - 10)


def test_padding_is_black_and_does_not_stretch_the_rest() -> None:
    values = np.full((8, 8), 4095, dtype=np.uint16)
    values[2:6, 2:6] = np.arange(16).reshape(4, 4) + 1000
    shown = displayed(values, header(PixelPaddingValue=4095), 12)
    assert not shown[0].any()
    assert shown[2:6, 2:6].max() == 255
    inverted = header(PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1")
    assert not displayed(values, inverted, 12)[0].any()


def test_a_padding_value_of_the_other_sign_is_understood() -> None:
    values = np.full((4, 4), -2000, dtype=np.int16)
    values[1:3, 1:3] = [[10, 20], [30, 40]]
    shown = displayed(values, header(PixelPaddingValue=65536 - 2000), 16)
    assert not shown[0].any()
    assert shown[1, 1] < shown[2, 2] == 255


@pytest.mark.parametrize("ends", [(4000, 4095), (4095, 4000)])
def test_padding_may_be_a_range_given_from_either_end(ends: tuple[int, int]) -> None:
    said = header(PixelPaddingValue=ends[0], PixelPaddingRangeLimit=ends[1])
    shown = displayed(RAMP, said, 12)
    assert not shown[RAMP >= 4000].any()
    assert shown.max() == shown[RAMP == 3999] == 255


def test_padding_may_be_of_real_numbers() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0] = -9999
    shown = displayed(values, header(FloatPixelPaddingValue=-9999.0), 32)
    assert not shown[0].any()
    assert shown[1].max() < 80


def test_a_window_that_shows_nothing_is_given_up() -> None:
    lost = header(WindowCenter=-5000, WindowWidth=10)
    assert np.unique(displayed(RAMP, lost, 12)).size > 100
    dark = header(WindowCenter=50000, WindowWidth=10)
    assert np.unique(displayed(RAMP, dark, 12)).size > 100


def test_eight_bits_without_a_window_stay_as_they_are() -> None:
    values = np.arange(40, 104, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(displayed(values, header(), 8), values)


def test_colours_become_their_luminance() -> None:
    red = np.zeros((2, 2, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert displayed(red, header(PhotometricInterpretation="RGB"), 8)[0, 0] == round(0.299 * 255)
    deep = np.full((2, 2, 3), 65535, dtype=np.uint16)
    assert displayed(deep, header(PhotometricInterpretation="RGB"), 16)[0, 0] == 255


@pytest.mark.parametrize("bits", range(8, 17))
def test_colours_that_are_kept_are_those_of_the_object_at_every_depth(bits: int) -> None:
    most = 2**bits - 1
    samples = np.array([[[most, 0, most // 2], [0, most, 1]]], np.uint8 if bits == 8 else np.uint16)
    shown = coloured(samples, header(PhotometricInterpretation="RGB"), bits)
    wanted = np.rint(samples * (255 / most))
    assert shown.dtype == np.uint8
    assert np.abs(shown.astype(float) - wanted).max() == 0


def test_grey_is_three_colours_alike() -> None:
    shown = coloured(RAMP, header(WindowCenter=100, WindowWidth=80), 12)
    grey = displayed(RAMP, header(WindowCenter=100, WindowWidth=80), 12)
    assert all(np.array_equal(shown[..., channel], grey) for channel in range(3))


@given(
    centre=st.floats(-1e4, 1e4),
    width=st.floats(1e-3, 1e4),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", "NONSENSE"]),
    slope=st.floats(-10, 10),
    kind=st.sampled_from([np.uint8, np.int16, np.uint16, np.float32]),
)
def test_whatever_is_asked_some_of_a_picture_shows(
    centre: float, width: float, function: str, slope: float, kind: type
) -> None:
    values: npt.NDArray[Any] = (np.arange(64).reshape(8, 8) * 3).astype(kind)
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.WindowCenter, dataset.WindowWidth = f"{centre:.6g}", f"{width:.6g}"
    dataset.VOILUTFunction = function
    dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:.6g}", "0"
    shown = displayed(values, dataset, 8 * np.dtype(kind).itemsize)
    assert shown.shape == (8, 8)
    assert shown.dtype == np.uint8
    assert shown.any()


def test_a_flat_picture_stays_flat() -> None:
    assert not displayed(np.zeros((4, 4), dtype=np.uint16), header(), 12).any()
    assert np.unique(displayed(np.full((4, 4), 7, dtype=np.uint16), header(), 12)).size == 1
