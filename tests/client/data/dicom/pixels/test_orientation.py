"""Pictures come to lie alike: every way that one can be stored, by either attribute."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from client.data.dicom.pixels.orientation import upright
from client.data.dicom.pixels.preprocessing import Preprocessing, aspect, picture
from tests.client.data.dicom.pixels.written import file_of, grey, item

PLANES = {"frontal": ("L", "F"), "lateral": ("P", "F"), "axial": ("L", "P")}
OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
UNIT = {"L": (1, 0, 0), "P": (0, 1, 0), "H": (0, 0, 1)}
LYING = np.arange(6, dtype=np.uint8).reshape(2, 3)


def stored_as(right: str, down: str, plane: tuple[str, str]) -> np.ndarray:
    """LYING, which has the plane's directions, as it looks with these; the slow way: pixel by
    pixel, each at its place along the two directions."""
    flip = {end: end != lead for lead in plane for end in (lead, OPPOSITE[lead])}
    across = right in (plane[0], OPPOSITE[plane[0]])
    rows, columns = LYING.shape if across else LYING.shape[::-1]
    out = np.zeros((rows, columns), np.uint8)
    for r in range(rows):
        for c in range(columns):
            along = {right: (c, columns), down: (r, rows)}
            place = []
            for lead in plane:  # the lying picture's column, then its row
                end = lead if lead in along else OPPOSITE[lead]
                at, of = along[end]
                place.append(of - 1 - at if flip[end] else at)
            out[r, c] = LYING[place[1], place[0]]
    return out


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES)
@pytest.mark.parametrize("by", ["PatientOrientation", "ImageOrientationPatient"])
def test_however_it_is_stored_it_comes_to_lie_the_same(plane: tuple[str, str], by: str) -> None:
    first, second = ([lead, OPPOSITE[lead]] for lead in plane)
    ways = [(a, b) for a in first for b in second] + [(b, a) for a in first for b in second]
    for right, down in ways:
        said: list[object] = [right + "H"[: right in "LR" and plane[1] == "P"], down]
        if by == "ImageOrientationPatient":
            said = [x * (1 if way in UNIT else -1) for way in (right, down)
                    for x in UNIT.get(way, UNIT.get(OPPOSITE[way], ()))]  # fmt: skip
        turned, pixels = upright(stored_as(right, down, plane), 2.0, item(**{by: said}))
        assert np.array_equal(turned, LYING)
        assert pixels == (2.0 if right in first else 0.5)


def test_breasts_of_both_sides_face_one_way() -> None:
    """From above, as they are hung: chest walls (9 and 8) in the middle, back to back."""
    right, _ = upright(np.array([[1, 9], [2, 8]], np.uint8), 1, item(PatientOrientation=["P", "L"]))
    left, _ = upright(np.array([[9, 1], [8, 2]], np.uint8), 1, item(PatientOrientation=["A", "R"]))
    assert right.tolist() == [[1, 2], [9, 8]]
    assert left.tolist() == [[2, 1], [8, 9]]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"PatientOrientation": ["", ""]},
        {"PatientOrientation": ["L"]},
        {"PatientOrientation": ["L", "R"]},
        {"PatientOrientation": ["X", "F"]},
        {"PatientOrientation": ["CR", "V"], "AnatomicalOrientationType": "QUADRUPED"},
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"ImageOrientationPatient": [1, 0, 0]},
    ],
)
def test_what_says_nothing_sensible_stays_as_it_is(said: dict[str, object]) -> None:
    dataset = Dataset()
    for name, value in said.items():
        setattr(dataset, name, value)
    turned, pixels = upright(LYING, 2.0, dataset)
    assert np.array_equal(turned, LYING)
    assert pixels == 2.0


def test_a_frames_own_orientation_turns_its_picture_with_its_pixels() -> None:
    """Feet to the left, pixels twice as wide as high: as the patient stands, twice as high."""
    frames = np.full((3, 8, 8), 200, np.uint8)
    own = [
        item(
            PatientOrientationInFrameSequence=[item(PatientOrientation=said)],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 2])],
        )
        for said in (["L", "F"], ["H", "R"], ["L", "F"])
    ]
    made = picture(file_of(grey(frames, PerFrameFunctionalGroupsSequence=own)),
                   Preprocessing(16, 16))  # fmt: skip
    assert not made[:, :4].any()
    assert made[:, 4:12].all()


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"PixelSpacing": [2, 1], "PixelAspectRatio": [1, 1]}, 2),
        ({"ImagerPixelSpacing": [1, 2]}, 0.5),
        ({"NominalScannedPixelSpacing": [3, 1]}, 3),
        ({"PixelAspectRatio": [4, 3]}, 4 / 3),
        ({"PixelSpacing": [0, 0], "PixelAspectRatio": [1, 2]}, 0.5),
        ({"PixelAspectRatio": [1, 99]}, 1),
        ({}, 1),
    ],
)
def test_the_height_of_a_pixel_over_its_width(said: dict[str, object], wanted: float) -> None:
    assert aspect(item(**said)) == pytest.approx(wanted)


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES)
def test_colours_are_turned_as_grey_is(plane: tuple[str, str]) -> None:
    for right in {*plane, *(OPPOSITE[end] for end in plane)}:
        for down in {*plane, *(OPPOSITE[end] for end in plane)} - {right, OPPOSITE[right]}:
            lies = stored_as(right, down, plane)
            said = item(PatientOrientation=[right, down])
            colours = np.stack([lies, lies + 100, 255 - lies], axis=2)
            turned, ratio = upright(colours, 2.0, said)
            for channel, wanted in enumerate((LYING, LYING + 100, 255 - LYING)):
                assert np.array_equal(turned[..., channel], wanted)
            assert ratio == upright(lies, 2.0, said)[1]
