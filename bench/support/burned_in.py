"""Synthetic pictures with and without burned-in text, for the detector's precision and recall.

Backgrounds: radiographs with ribs, CT with noise and inserts, vessels, speckle, MR with streaks;
some with a collimated border, many with a side marker (L, R, PA, AP), which is no text to be found.
Text: names, numbers and dates in six typefaces, 10 pixels and more high, on some of them boxed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Picture = npt.NDArray[np.uint8]
_FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"
_FACES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "STIXGeneral.ttf",
    "cmr10.ttf",
)
_NAMES = (
    "SMITH", "GARCIA", "Rossi", "OYELARAN", "Nguyen", "MUELLER", "Ivanova", "KIM", "Haddad",
    "ANDERSEN",
)  # fmt: skip
_SIDES = (256, 384, 512, 768, 1024)


def background(rng: np.random.Generator, sides: tuple[int, ...] = _SIDES) -> Picture:
    """(side, side) uint8 without text but a marker."""
    side = int(rng.choice(sides))
    y, x = np.mgrid[:side, :side] / side
    kinds = (_radiograph, _slice, _vessels, _speckle, _streaks)
    kind = kinds[rng.integers(len(kinds))]
    picture: Picture = np.clip(kind(rng, side, x, y), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        border = int(side * rng.uniform(0.02, 0.12))
        inside = picture[border:-border, border:-border]
        picture = np.pad(inside, border)
    if rng.random() < 0.4:
        place = (side * rng.uniform(0.05, 0.9), side * rng.uniform(0.05, 0.9))
        marker = str(rng.choice(["L", "R", "PA", "AP"]))
        picture = _drawn(picture, place, marker, _font(_FACES[1], int(side * 0.05)), 255)
    return picture


def burned_in(rng: np.random.Generator, picture: Picture) -> Picture:
    """The picture with one to three lines of text."""
    side = min(picture.shape)
    size = int(rng.uniform(10, max(14, side * 0.045)))
    font = _font(str(rng.choice(_FACES)), size)
    for _ in range(rng.integers(1, 4)):
        line = _line(rng)
        width = font.getlength(line)
        x, y = rng.uniform(2, max(3, side - width - 2)), rng.uniform(2, side - size - 4)
        behind = picture[int(y) : int(y) + size, int(x) : int(x + width)]
        dark = not behind.size or float(behind.mean()) < 140
        box = bool(rng.random() < 0.25)
        light = int(rng.uniform(200, 255)) if dark or box else 0
        picture = _drawn(picture, (x, y), line, font, light, box=box)
    return picture


def _line(rng: np.random.Generator) -> str:
    family, given = str(rng.choice(_NAMES)), str(rng.choice(_NAMES))
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1930, 2015)
    return (
        f"{family}^{given}",
        f"{family}, {given} {day:02d}/{month:02d}/{year}",
        f"ID: {rng.integers(10**6, 10**7)}",
        f"{family} {year}-{month:02d}-{day:02d}",
    )[rng.integers(4)]


def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONTS / face), size)


def _drawn(
    picture: Picture,
    place: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont,
    light: int,
    *,
    box: bool = False,
) -> Picture:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    if box:
        left, top, right, bottom = draw.textbbox(place, text, font)
        draw.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill=0)
    draw.text(place, text, fill=light, font=font)
    return np.asarray(image)


def _field(rng: np.random.Generator, side: int, scale: float) -> Any:
    """Smooth noise of unit deviation."""
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), scale)
    return noise / noise.std()


def _radiograph(rng: np.random.Generator, side: int, x: Any, y: Any) -> Any:
    body = 110 + 50 * np.cos(3 * (x - 0.5)) * np.cos(2 * (y - 0.5))
    for lung in (0.3, 0.7):
        body -= 70 * np.exp(-((x - lung) ** 2 / 0.02 + (y - 0.5) ** 2 / 0.08))
    ribs = np.sin(2 * np.pi * rng.uniform(8, 16) * (y + 0.4 * (x - 0.5) ** 2))
    noise = rng.uniform(1, 10) * rng.standard_normal((side, side))
    return body + 18 * ribs * (abs(x - 0.5) > 0.08) + 12 * _field(rng, side, side / 20) + noise


def _slice(rng: np.random.Generator, side: int, x: Any, y: Any) -> Any:
    body = np.where((x - 0.5) ** 2 / 0.2 + (y - 0.5) ** 2 / 0.12 < 1, 120.0, 10.0)
    for _ in range(rng.integers(3, 12)):
        a, b, r = rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.7), rng.uniform(0.01, 0.1)
        body += rng.uniform(-80, 110) * ((x - a) ** 2 + (y - b) ** 2 < r * r)
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), 0.7)
    return ndimage.gaussian_filter(body, side / 512) + rng.uniform(4, 22) * noise


def _vessels(rng: np.random.Generator, side: int, x: Any, y: Any) -> Any:
    count, points = rng.integers(100, 800), np.zeros((side, side))
    points[rng.integers(0, side, count), rng.integers(0, side, count)] = rng.uniform(
        300, 3000, count
    )
    bright = ndimage.gaussian_filter(points, rng.uniform(1.2, 3))
    noise = rng.uniform(2, 12) * rng.standard_normal((side, side))
    return 60 + 10 * _field(rng, side, side / 12) + bright + noise


def _speckle(rng: np.random.Generator, side: int, x: Any, y: Any) -> Any:
    grain = rng.uniform(10, 40) * _field(rng, side, rng.uniform(1, 3))
    return 90 + grain + 25 * _field(rng, side, side / 15)


def _streaks(rng: np.random.Generator, side: int, x: Any, y: Any) -> Any:
    body = 100 * np.exp(-((x - 0.5) ** 2 / 0.06 + (y - 0.5) ** 2 / 0.1))
    body = body * (1 + 0.4 * _field(rng, side, side / 30)) + 20 * abs(_field(rng, side, 1.0))
    for angle in rng.uniform(0, np.pi, rng.integers(0, 25)):
        away = abs((x - 0.5) * np.sin(angle) - (y - 0.4) * np.cos(angle))
        body += 90 * np.exp(-((away * side / 1.2) ** 2))
    return body
