"""One file -> one small grey picture: every transfer syntax, whatever is wrong with the file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from client.data.dicom.pixels import decode, preprocessing
from client.data.dicom.pixels.faults import NoPicture, PixelFault
from client.data.dicom.pixels.preprocessing import (
    Preprocessing,
    picture,
    prepare_picture,
    resized,
)
from launch.demo.synthetic_radiographs import SCANNER_MODELS, Radiograph, datasets
from tests.client.data.dicom.pixels.written import file_of, grey

DATA = Path(os.environ.get("WARDROUND_DATA", "nowhere")) / "dicom"
needs_files = pytest.mark.skipif(not DATA.is_dir(), reason="WARDROUND_DATA has no folder dicom")
SMALL = Preprocessing(64, 64)
UNREADABLE = {
    "emri_small_jpeg_2k_lossless_too_short.dcm": PixelFault.CUT_SHORT,
    "966.dcm": PixelFault.UNDECODABLE,  # its codestream is cut
    "liver_deflate.dcm": PixelFault.SYNTAX,  # a segmentation in one that pydicom does not know
    "liver_nonbyte_aligned_deflate.dcm": PixelFault.SYNTAX,
    "liver_rle.dcm": PixelFault.UNDECODABLE,  # a segmentation of 1 bit in RLE
    "liver_nonbyte_aligned_rle.dcm": PixelFault.UNDECODABLE,
}
SAME = (
    ("emri_small", "emri_small_RLE", "emri_small_big_endian", "emri_small_jpeg_2k_lossless",
     "emri_small_jpeg_ls_lossless"),
    ("color-pl", "color-px"),
    ("JLSL_RGB_ILV0", "JLSL_RGB_ILV1", "JLSL_RGB_ILV2"),
    ("SC_rgb_16bit", "SC_rgb_expb_16bit"),
    ("liver", "liver_expb", "liver_j2k"),
    ("CT1_UNC.explicit_big_endian", "CT1_UNC.implicit_little_endian",
     "CT1_UNC.fragmented_bot_jpeg_ls.80", "CT1_UNC.fragmented_no_bot_jpeg_ls.80",
     "CT1_UNC.not_fragmented_bot_jpeg_ls.80"),
    ("CT0012.not_fragmented_bot_rle", "CT0012.fragmented_no_bot_jpeg_lossless.57",
     "CT0012.fragmented_no_bot_jpeg_lossless.70", "CT0012.fragmented_no_bot_jpeg_ls.80"),
    ("TOSHIBA_J2K_SIZ0_PixRep1", "TOSHIBA_J2K_SIZ1_PixRep0"),
)  # fmt: skip
"""Public files that hold one picture; the last two disagree only on whether it is signed."""


def files() -> dict[str, Path]:
    return {path.name: path for path in sorted(DATA.glob("*/*.dcm"))}


def written(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def plain(bits: int = 12) -> Dataset:
    """A synthetic radiograph without compression."""
    scanner = next(
        h for h in SCANNER_MODELS if h.bits == bits and h.syntax == ExplicitVRLittleEndian
    )
    return next(datasets([Radiograph("P", "A", True, scanner)], 96, seed=1))


@needs_files
def test_every_public_file_has_a_picture_or_a_known_fault() -> None:
    found = {name: prepare_picture(path, SMALL) for name, path in files().items()}
    assert {name: one.fault for name, one in found.items() if one.fault} == UNREADABLE
    assert all(len(one.picture or b"") == 64 * 64 for one in found.values() if not one.fault)


@needs_files
@pytest.mark.parametrize("names", SAME, ids=lambda names: names[0])
def test_lossless_variants_of_one_picture_are_identical(names: tuple[str, ...]) -> None:
    where = files()
    pictures = [picture(where[f"{name}.dcm"].read_bytes(), SMALL) for name in names]
    assert pictures[0].any()
    for other in pictures[1:]:
        assert np.array_equal(other, pictures[0])


@needs_files
@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("CT0012.not_fragmented_bot_rle.dcm", ("pydicom",)),
        ("IM00001.fragmented_no_bot_jpeg_baseline.50.dcm", ("pillow",)),
        ("JLSL_16_15_1_1F.dcm", ("gdcm",)),
        ("CT0012.fragmented_no_bot_jpeg_ls.81.dcm", ("gdcm",)),
        ("MAROTECH_CT_JP2Lossy.dcm", ("gdcm", "pillow")),
        ("J2K_pixelrep_mismatch.dcm", ("gdcm", "pillow")),
    ],
)
def test_the_first_decoder_says_what_the_others_say(name: str, others: tuple[str, ...]) -> None:
    path = files()[name]
    ours = decode.middle_frame(path.read_bytes(), path).values
    dataset = dcmread(path)
    number = int(dataset.get("NumberOfFrames", 1)) // 2
    for other in others:
        assert np.array_equal(pixel_array(dataset, index=number, decoding_plugin=other), ours)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless],
)
def test_a_lossless_syntax_changes_no_pixel(syntax: str) -> None:
    expected = picture(written(plain()), SMALL)
    dataset = plain()
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    else:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    assert np.array_equal(picture(written(dataset), SMALL), expected)


def test_the_middle_frame_is_the_one() -> None:
    dataset = plain()
    frame = np.frombuffer(dataset.PixelData, "<u2").reshape(96, 96)
    dataset.NumberOfFrames = 3
    dataset.PixelData = np.stack([frame * 0, frame, frame // 2]).astype("<u2").tobytes()
    assert np.array_equal(picture(written(dataset), SMALL), picture(written(plain()), SMALL))


def test_bits_that_are_not_stored_do_not_show() -> None:
    dataset = plain()
    pixels = np.frombuffer(dataset.PixelData, "<u2") | 0xF000  # an overlay in the high bits
    dataset.PixelData = pixels.astype("<u2").tobytes()
    assert np.array_equal(picture(written(dataset), SMALL), picture(written(plain()), SMALL))


def test_pixels_that_are_not_square_keep_the_picture_in_proportion() -> None:
    dataset = plain()
    dataset.PixelSpacing = ["0.4", "0.2"]  # each pixel twice as high as wide
    shown = picture(written(dataset), SMALL)
    columns = np.flatnonzero(shown.any(axis=0))
    assert (columns[0], columns[-1]) == (16, 47)
    assert shown.any(axis=1).all()


def test_a_picture_of_the_right_size_is_left_alone_and_light_is_never_lost() -> None:
    same = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    assert np.array_equal(resized(same, 1.0, 64, 64), same)
    faint = np.zeros((1000, 1000), dtype=np.uint8)
    faint[500, 500] = 1
    assert resized(faint, 1.0, 8, 8).any()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_pixels(_: bytes) -> bytes:
    dataset = plain()
    del dataset.PixelData
    return written(dataset)


def blank(_: bytes) -> bytes:
    dataset = plain()
    dataset.PixelData = bytes(len(dataset.PixelData))
    return written(dataset)


def enormous(_: bytes) -> bytes:
    dataset = plain()
    dataset.Rows = dataset.Columns = 65535
    return written(dataset)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (cut, PixelFault.CUT_SHORT),
        (without_pixels, PixelFault.NO_PIXELS),
        (blank, PixelFault.BLANK),
        (enormous, PixelFault.TOO_LARGE),
        (lambda _: b"", PixelFault.UNDECODABLE),
        (lambda _: b"PK\x03\x04 not DICOM at all", PixelFault.UNDECODABLE),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, spoil: Callable[[bytes], bytes], fault: PixelFault
) -> None:
    path = tmp_path / "DOE_JANE.dcm"
    path.write_bytes(spoil(written(plain())))
    found = prepare_picture(path, SMALL)
    assert found.fault is fault
    assert found.picture is None


def test_a_file_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    with path.open("wb") as file:
        file.truncate(2 << 30)
    found = prepare_picture(path, SMALL)
    assert found.fault is PixelFault.TOO_LARGE
    assert found.content is None


def test_no_attribute_that_names_anybody_is_parsed() -> None:
    frame = decode.middle_frame(written(plain()))
    assert "PatientName" not in frame.header
    assert "AccessionNumber" not in frame.header
    assert "InstitutionName" not in frame.header


def tomography(**said: object) -> bytes:
    """From -1024 to 3071 Hounsfield units, the last row padding."""
    words = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    asked = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, **said}
    asked |= {"PixelPaddingValue": 4032, "PixelPaddingRangeLimit": 4095}
    return file_of(grey(words, 12, **asked))


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"RescaleType": "HU"},
        {"Modality": "OT", "RescaleType": "HU"},
        {"WindowCenter": 0, "WindowWidth": 9, "PhotometricInterpretation": "MONOCHROME1"},
    ],
)
def test_a_tasks_window_in_hounsfield_units_holds_for_every_object(said: dict[str, object]) -> None:
    made = picture(tomography(**said), Preprocessing(64, 64, (-160.0, 240.0)))
    units = np.arange(4096).reshape(64, 64) - 1024
    wanted = np.rint(np.clip((units + 160) / 400, 0, 1) * 255)
    wanted[63] = 0
    assert np.array_equal(made, wanted)


@pytest.mark.parametrize("said", [{"Modality": "MR"}, {"RescaleType": "US"}])
def test_what_is_not_in_hounsfield_units_has_no_picture_in_them(said: dict[str, object]) -> None:
    with pytest.raises(NoPicture) as told:
        picture(tomography(**said), Preprocessing(64, 64, (-160.0, 240.0)))
    assert told.value.fault is PixelFault.UNITS


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_task_may_ask_for_colours_in_sizes_to_512(bits: int) -> None:
    most = 2**bits - 1
    words = np.zeros((20, 10, 3), np.uint8 if bits == 8 else np.uint16)
    words[..., 0], words[:10, :, 1], words[10:, :, 2] = most, most, most // 2
    one = grey(words[..., 0], bits, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    one.PlanarConfiguration, one.PixelData = 0, words.tobytes()
    made = picture(file_of(one), Preprocessing(512, 512, colour=True))
    assert made.shape == (512, 512, 3)
    assert not made[:, :120].any(), "borders are black"
    assert made[10, 256].tolist() == [255, 255, 0]
    assert made[-10, 256].tolist() == [255, 0, round(most // 2 * 255 / most)]
    prepared = Preprocessing(16, 8, colour=True), Preprocessing(16, 8)
    assert prepared[0].name == prepared[1].name + "-rgb"


def test_pictures_of_two_windows_lie_in_two_caches() -> None:
    names = {Preprocessing(8, 8, window).name for window in (None, (0, 1), (0, 1.5), (-1, 1))}
    assert len(names) == 4


def test_what_dicom_leaves_open_is_in_the_key_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SMALL.name
    assert now == Preprocessing(64, 64).name != Preprocessing(64, 65).name
    assert not now.startswith("v1")
    for n in range(len(preprocessing.CHOICES)):
        others = [*preprocessing.CHOICES[:n], "otherwise", *preprocessing.CHOICES[n + 1 :]]
        monkeypatch.setattr(preprocessing, "CHOICES", tuple(others))
        assert SMALL.name != now
        monkeypatch.undo()
