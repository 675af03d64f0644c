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


@pytest.mark.parametrize("seed", range(3))
def test_turned_text_is_seen(tmp_path: Path, seed: int) -> None:
    assert seen(turned(seed), tmp_path) == "text"


@pytest.mark.parametrize("seed", range(3))
def test_the_same_text_is_seen_when_the_picture_is_turned_back(tmp_path: Path, seed: int) -> None:
    assert seen(np.rot90(turned(seed)), tmp_path) == "text"


@pytest.mark.parametrize("size", [12, 16, 36])
def test_text_on_a_large_picture_is_seen(tmp_path: Path, large: Picture, size: int) -> None:
    assert seen(captioned(large, TEXT, size), tmp_path) == "text"


@pytest.mark.parametrize("size", [12, 16])
def test_text_of_that_size_is_seen_on_a_part_of_the_picture(
    tmp_path: Path, large: Picture, size: int
) -> None:
    assert seen(captioned(large, TEXT, size)[:400, :800], tmp_path) == "text"


def test_text_on_a_film_scanned_from_behind_is_seen(tmp_path: Path) -> None:
    """Reported of an OCR of radiographs (SMI/dicompixelanon, issue 8)."""
    assert seen(np.fliplr(captioned(chest(0, 512), TEXT, 16)), tmp_path) == "text"


def test_text_of_little_contrast_is_seen_and_no_name_in_the_header_is_needed(
    tmp_path: Path,
) -> None:
    """Reported of a redactor that compares with the header (presidio, issues 968 and 1309)."""
    faint = chest(0, 512).astype(np.int16)
    words = captioned(np.zeros((512, 512), np.uint8), TEXT, 16)
    faint += np.where(faint < 128, words // 8, -(words // 8).astype(np.int16))
    assert seen(faint.astype(np.uint8), tmp_path) == "text"


def test_a_picture_without_text_is_clear(tmp_path: Path, large: Picture) -> None:
    for picture in (large, chest(0, 512), np.rot90(chest(0, 512))):
        assert seen(picture, tmp_path) == "clear"
