"""The detector of burned-in text sees it at every angle and size, and is not alarmed by markers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from client.data.dicom.pixels.text_detector import looks, shows_text
from support.burned_in import Style, background, burned_in, calm, faces

FACES = faces(held_out=True)
TEXT = "QUIST^ADA 22.07.1933"


def plain(side: int = 512) -> npt.NDArray[np.uint8]:
    """A background without much grain."""
    rng = np.random.default_rng(3)
    return next(each for each in (background(rng, (side,)) for _ in range(99)) if calm(each))


STYLES = {
    "level": Style(FACES[0], 14),
    "a quarter": Style(FACES[1], 14, 90),
    "upside down": Style(FACES[2], 14, 180),
    "three quarters": Style(FACES[0], 14, 270),
    "aslant": Style(FACES[1], 16, 45),
    "mirrored": Style(FACES[2], 14, mirrored=True),
    "faint": Style(FACES[0], 16, contrast=30),
    "small": Style(FACES[2], 8),
    "large": Style(FACES[1], 40),
}


@pytest.mark.parametrize("kind", STYLES)
def test_text_is_seen(kind: str) -> None:
    rng = np.random.default_rng(1)
    assert shows_text(burned_in(rng, plain(), STYLES[kind], TEXT))


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Three letters alone are seen.")
@pytest.mark.parametrize("size", [12, 110])
def test_three_letters_are_seen_however_large(size: int) -> None:
    rng = np.random.default_rng(1)
    assert shows_text(burned_in(rng, plain(), Style(FACES[0], size), "FUX"))


def test_pictures_without_text_are_clear_whatever_their_size() -> None:
    assert not shows_text(plain())
    for shape in ((0, 0), (4, 4), (16, 16), (17, 200), (200, 17), (33, 1100)):
        assert not shows_text(np.zeros(shape, np.uint8))
        assert not shows_text(np.full(shape, 77, np.uint8))


def test_every_look_is_half_of_the_one_before() -> None:
    assert [look.shape for look in looks(np.zeros((100, 70), np.uint8))] == [
        (100, 70),
        (50, 35),
        (25, 17),
    ]
    assert looks(np.zeros((6000, 6000), np.uint8))[0].shape == (3000, 3000)
