"""Text burned into a radiograph is seen whichever way it runs, and however large the picture.

Stands for names that pass the gate because the detector looks one way only, or at a picture made
smaller until its letters are gone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data.dicom.index.text_screening import screen_pixels
from tests.cases.imaging.objects import Picture, captioned, chest, showing

TEXT = "JANE EXAMPLE 22.07.1933 MRN 88801"


def seen(picture: Picture, folder: Path) -> str:
    """What a look at a file with this picture finds."""
    path = folder / "x.dcm"
    showing(np.ascontiguousarray(picture)).save_as(path, enforce_file_format=True)
    return str(screen_pixels(path).seen)


def turned(seed: int) -> Picture:
    """An upright chest of 512 by 512 with words that run down its right border."""
    return np.rot90(captioned(np.rot90(chest(seed, 512)), TEXT, 16), -1)


@pytest.fixture(scope="module")
def large() -> Picture:
    """A chest of 3000 rows and 2500 columns."""
    return np.asarray(Image.fromarray(chest(0, 512)).resize((2500, 3000)))


def wrong(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)


@wrong("Text turned by 90 degrees is seen.")
@pytest.mark.parametrize("seed", range(3))
def test_turned_text_is_seen(tmp_path: Path, seed: int) -> None:
    assert seen(turned(seed), tmp_path) == "text"


@pytest.mark.parametrize("seed", range(3))
def test_the_same_text_is_seen_when_the_picture_is_turned_back(tmp_path: Path, seed: int) -> None:
    assert seen(np.rot90(turned(seed)), tmp_path) == "text"


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(12, marks=wrong("Letters of 12 pixels are seen on a large picture.")),
        pytest.param(16, marks=wrong("Letters of 16 pixels are seen on a large picture.")),
        36,
    ],
)
def test_text_on_a_large_picture_is_seen(tmp_path: Path, large: Picture, size: int) -> None:
    assert seen(captioned(large, TEXT, size), tmp_path) == "text"


@pytest.mark.parametrize("size", [12, 16])
def test_text_of_that_size_is_seen_on_a_part_of_the_picture(
    tmp_path: Path, large: Picture, size: int
) -> None:
    assert seen(captioned(large, TEXT, size)[:400, :800], tmp_path) == "text"


def test_a_picture_without_text_is_clear(tmp_path: Path, large: Picture) -> None:
    for picture in (large, chest(0, 512), np.rot90(chest(0, 512))):
        assert seen(picture, tmp_path) == "clear"
