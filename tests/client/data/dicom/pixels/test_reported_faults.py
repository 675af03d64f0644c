"""Faults that users of other programs have reported, each as a file of its own."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from client.data.dicom.pixels.faults import NoPicture, PixelFault
from client.data.dicom.pixels.preprocessing import Preprocessing, picture
from tests.client.data.dicom.pixels.written import file_of, grey, item, shown, shown_again, with_vr

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
BRIGHT = np.rint(RAMP / 4095 * 255)
WHOLE = {"WindowCenter": 2048, "WindowWidth": 4096}


def lut(descriptor: list[int], data: bytes, vr: str = "US") -> Dataset:
    """Data of VR OW, in little-endian order."""
    if vr == "SS":
        descriptor = [descriptor[0], descriptor[1] - 65536, descriptor[2]]
    table = with_vr(item(), 0x00283002, vr, descriptor)
    return with_vr(table, 0x00283006, "OW", data)


def test_a_first_value_mapped_of_unsigned_input_is_unsigned() -> None:
    """dcm4che 1521."""
    table = lut([4096, 40000, 16], (RAMP * 16 + 15).astype("<u2").tobytes())
    made = grey((RAMP + 40000).astype(np.uint16), VOILUTSequence=[table])
    assert np.abs(shown(made) - BRIGHT).max() <= 1


def test_a_first_value_mapped_of_rescaled_input_is_signed() -> None:
    """PS3.3, C.11.2.1.1: SS if the output of the rescale may be; often written as US."""
    table = lut([4096, 65536 - 1024, 12], RAMP.tobytes())
    made = grey(RAMP, 12, VOILUTSequence=[table], RescaleIntercept=-1024, RescaleSlope=1)
    assert np.abs(shown(made) - BRIGHT).max() <= 1


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_lut_data_are_unsigned_though_samples_are_signed(vr: str) -> None:
    """cornerstoneWADOImageLoader 259: half of the picture turned black."""
    table = lut([4096, 65536 - 2048, 16], (RAMP * 16 + 15).astype("<u2").tobytes(), vr)
    samples = RAMP.astype(np.int16) - 2048
    asked = {"WindowCenter": 32768, "WindowWidth": 65536}
    made = grey(samples, 12, ModalityLUTSequence=[table], **asked)
    assert np.abs(shown(made) - BRIGHT).max() <= 1


def test_the_number_of_entries_is_unsigned_though_the_first_value_is_signed() -> None:
    """pydicom 942: 40,000 entries, written with VR SS, are not -25,536."""
    entries = np.minimum(np.arange(40000) * 2, 65535).astype("<u2")
    table = lut([40000, 65536 - 20000, 16], entries.tobytes(), "SS")
    samples = np.linspace(-20000, 19999, 4096).astype(np.int16).reshape(64, 64)
    wanted = np.minimum((samples.astype(int) + 20000) * 2, 65535) / 65535 * 255
    assert np.abs(shown(grey(samples, VOILUTSequence=[table])) - wanted).max() <= 1


@pytest.mark.parametrize("packed", [True, False])
def test_entries_of_eight_bits_lie_in_bytes_or_in_words(packed: bool) -> None:
    """cornerstone3D 2856; the note in PS3.3, C.11.1.1.1."""
    entries = np.arange(256)[::-1].astype(np.uint8 if packed else np.uint16)
    samples = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = grey(samples, VOILUTSequence=[lut([256, 0, 8], entries.tobytes())])
    assert np.array_equal(shown(made), 255 - samples)


def test_entries_may_fill_fewer_bits_than_the_descriptor_says() -> None:
    """dicom-rs 825, of Agfa's radiographs."""
    made = grey(RAMP, 12, VOILUTSequence=[lut([4096, 0, 16], (RAMP // 2).tobytes())])
    assert np.abs(shown(made) - BRIGHT).max() <= 1


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("high", [11, 13, 15])
def test_a_sample_ends_at_high_bit_and_overlays_around_it_go(high: int, syntax: UID) -> None:
    """fo-dicom 138: 12 of 16 bits, High Bit 15; an overlay in the bits that are left."""
    shift = high - 11
    overlay = np.where(np.eye(64, dtype=bool), 0xFFFF, 0) & ~(0xFFF << shift)
    words = ((RAMP.astype(int) << shift) | overlay).astype(np.uint16)
    made = grey(words, 12, HighBit=high, **WHOLE)
    assert np.abs(shown(made, syntax) - BRIGHT).max() <= 1


def test_an_overlay_in_a_compressed_stream_goes_too() -> None:
    """pydicom 2260: the codestream's precision is 16, Bits Stored says 12."""
    words = (RAMP | np.where(np.eye(64, dtype=bool), 1 << 14, 0)).astype(np.uint16)
    made = grey(words, 16, **WHOLE)
    file_of(made, JPEG2000Lossless)
    made.BitsStored, made.HighBit = 12, 11
    assert np.abs(shown_again(made) - BRIGHT).max() <= 1


def test_a_compressed_stream_of_twelve_bits_is_not_moved_by_high_bit() -> None:
    """PS3.5, 8.2: the stream has a precision of its own."""
    made = grey(RAMP, 12, **WHOLE)
    file_of(made, JPEG2000Lossless)
    made.HighBit = 15
    assert np.abs(shown_again(made) - BRIGHT).max() <= 1


FRAMES = np.stack([RAMP, RAMP, RAMP])


def windows(*asked: tuple[object, object]) -> list[Dataset]:
    return [item(FrameVOILUTSequence=[item(WindowCenter=c, WindowWidth=w)]) for c, w in asked]


def test_each_frame_has_its_own_window_and_of_several_the_first() -> None:
    """cornerstone 443, cornerstoneWADOImageLoader 380."""
    own = windows((1, 2), ([2048, 9, 9], [4096, 9, 9]), (1, 2))
    made = grey(FRAMES, 12, PerFrameFunctionalGroupsSequence=own)
    assert np.abs(shown(made) - BRIGHT).max() <= 1


def test_each_frame_has_its_own_rescale() -> None:
    """pydicom 2359."""
    own = [
        item(PixelValueTransformationSequence=[item(RescaleSlope=s, RescaleIntercept=i)])
        for s, i in ((1, 0), (2, -4096), (1, 0))
    ]
    made = grey(FRAMES, 12, PerFrameFunctionalGroupsSequence=own, WindowCenter=0, WindowWidth=8192)
    assert np.abs(shown(made) - BRIGHT).max() <= 1


def test_a_frames_own_group_that_lacks_an_attribute_leaves_the_shared_one() -> None:
    """cornerstone3D 2291: the frame's Pixel Measures had no spacing."""
    shared = [item(PixelMeasuresSequence=[item(PixelSpacing=[0.5, 1.0])])]
    own = [item(PixelMeasuresSequence=[item(SpacingBetweenSlices=3)]) for _ in FRAMES]
    made = grey(FRAMES + 1, 13, SharedFunctionalGroupsSequence=shared,
                PerFrameFunctionalGroupsSequence=own, WindowCenter=0, WindowWidth=9)  # fmt: skip
    small = picture(file_of(made), Preprocessing(64, 64))
    assert not small[:16].any()
    assert small[16:48].all()
    assert not small[48:].any()


def test_frames_whose_groups_say_nothing_of_the_view_are_shown_as_the_object_says() -> None:
    """dicom-rs 437."""
    own = [item(FrameContentSequence=[item(FrameComments="no view")]) for _ in FRAMES]
    made = grey(FRAMES, 12, PerFrameFunctionalGroupsSequence=own[:1], **WHOLE)
    assert np.abs(shown(made) - BRIGHT).max() <= 1


def test_a_slope_below_one_is_no_zero() -> None:
    """ImageMagick 477."""
    window = {"WindowCenter": 2.048, "WindowWidth": 4.095, "VOILUTFunction": "LINEAR_EXACT"}
    made = grey(RAMP, 12, RescaleSlope=0.001, RescaleIntercept=0, **window)
    assert np.abs(shown(made) - BRIGHT).max() <= 1


def as_typed(dataset: Dataset, tag: int, text: bytes) -> Dataset:
    """A decimal string that is none."""
    place = Tag(tag)
    dataset[place] = RawDataElement(place, "DS", len(text), text, 0, False, True)
    return dataset


TYPED = [b"NaN ", b"40,5", b"1e999 ", b"wide"]
"""fo-dicom 1756: seen in production; decimal commas, of consoles set to another language."""


@pytest.mark.parametrize("text", TYPED)
@pytest.mark.parametrize("tag", [0x00281050, 0x00281051], ids=["centre", "width"])
def test_a_window_that_is_no_number_is_none(tag: int, text: bytes) -> None:
    made = as_typed(grey(RAMP, 12, WindowCenter=7, WindowWidth=9), tag, text)
    assert np.array_equal(shown(made), shown(grey(RAMP, 12)))


@pytest.mark.parametrize("text", TYPED)
@pytest.mark.parametrize("tag", [0x00281052, 0x00281053], ids=["intercept", "slope"])
def test_a_rescale_that_is_no_number_is_named_and_not_passed_over(tag: int, text: bytes) -> None:
    """A window in Hounsfield units would show other values than it is for."""
    said = {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": 0}
    with pytest.raises(NoPicture) as told:
        shown(as_typed(grey(RAMP, 12, **said), tag, text))
    assert told.value.fault is PixelFault.RESCALE


def test_a_rescale_that_is_empty_is_none() -> None:
    made = grey(RAMP, 12, RescaleSlope=None, RescaleIntercept=None, **WHOLE)
    assert np.abs(shown(made) - BRIGHT).max() <= 1


@pytest.mark.parametrize("said", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("stream", ["YCbCr", "RGB"])
def test_a_jpeg_stream_says_itself_in_which_colours_it_is(stream: str, said: str) -> None:
    """dcm4che 565, dicom-rs 829: the header says RGB of a JFIF stream, whose components are YCbCr,
    or the other way round."""
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50)], np.uint8)
    painted = np.repeat(np.repeat(colours.reshape(2, 2, 3), 32, axis=0), 32, axis=1)
    file = io.BytesIO()
    as_it_is = {"keep_rgb": True} if stream == "RGB" else {}
    Image.fromarray(painted).save(file, "JPEG", quality=95, subsampling=0, **as_it_is)
    made = grey(painted[..., 0], PhotometricInterpretation=said, PlanarConfiguration=0)
    file_of(made)
    made.SamplesPerPixel, made.file_meta.TransferSyntaxUID = 3, JPEGBaseline8Bit
    made.PixelData = encapsulate([file.getvalue()])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    luma = painted @ np.array([0.299, 0.587, 0.114])
    assert np.abs(shown_again(made) - luma).max() <= 3


def test_one_bit_is_black_or_white() -> None:
    """fo-dicom 1432."""
    checked = np.indices((64, 64)).sum(axis=0) % 2
    made = grey(checked.astype(np.uint8))
    made.BitsAllocated, made.BitsStored, made.HighBit = 1, 1, 0
    made["PixelData"].value = np.packbits(checked.ravel(), bitorder="little").tobytes()
    assert np.array_equal(shown(made), checked * 255)


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("broken", ["no data", "no entries", "no descriptor"])
def test_a_table_that_is_none_is_named(name: str, broken: str) -> None:
    table = lut([16, 0, 16], b"" if broken == "no entries" else b"\1\0" * 16)
    if broken != "no entries":
        del table[0x00283006 if broken == "no data" else 0x00283002]
    with pytest.raises(NoPicture) as told:
        shown(grey(RAMP, 12, **{name: [table]}))
    assert told.value.fault is PixelFault.LOOKUP_TABLE
