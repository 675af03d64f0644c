"""Synthetic pictures with and without burned-in text, for the detector's recipe and its figures.

Backgrounds: radiographs with ribs, CT with noise and inserts, vessels, speckle, MR with streaks;
some with a collimated border, many with what consoles draw that is no text: a side marker (L, R,
PA, AP), a ruler, a grid, frames, circles, a bar of greys.
Text: names, numbers and dates, boxed, bright, dark or faint, at any angle, mirrored or not. Half
of the typefaces, by a hash of their names, are for the recipe; the others are held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Picture = npt.NDArray[np.uint8]
Draw = Callable[[str, float], Image.Image]
"""(text, pixels of the font's size) -> how much of each pixel the text covers, mode L."""

_FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"
_FAMILIES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
_STYLES = ("", "-Bold", "-Oblique", "-BoldOblique", "-Italic", "-BoldItalic", "Bol", "Italic",
           "BolIta")  # fmt: skip
_FACES = (
    "console",
    "Aileron",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmti10",
    "cmtt10",
    *(f + s for f in _FAMILIES for s in _STYLES if (_FONTS / f"{f}{s}.ttf").exists()),
)
_NAMES = (
    "SMITH", "GARCIA", "Rossi", "OYELARAN", "Nguyen", "MUELLER", "Ivanova", "KIM", "Haddad",
    "ANDERSEN", "Lee", "WANG", "Fischer", "Dubois", "JONES", "Kowalski", "Yilmaz", "OKAFOR",
    "Quist", "Zhivkov", "VARGA", "Bjerg", "FUX", "Maxwell",
)  # fmt: skip
_WORDS = ("DOB", "MRN", "ID", "Acc", "ERECT", "Dr.", "Ward", "ICU", "F", "M", "St. Anne", "kV")
_SIDES = (256, 384, 512, 768, 1024)


@dataclass(frozen=True)
class Style:
    """How text is drawn: `size` in pixels of the font, `angle` in degrees counterclockwise;
    contrast: how far, of 255, it stands out of its surroundings."""

    face: str
    size: float
    angle: float = 0.0
    mirrored: bool = False
    contrast: float = 200.0
    boxed: bool = False


def faces(*, held_out: bool) -> list[str]:
    return [f for f in _FACES if (hashlib.sha256(f.encode()).digest()[0] % 2 == 0) == held_out]


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
    return furnished(rng, picture)


def furnished(rng: np.random.Generator, picture: Picture) -> Picture:
    """The picture with what is drawn upon pictures, and is no text."""
    image = Image.fromarray(picture)
    draw, side = ImageDraw.Draw(image), min(picture.shape)
    light = int(rng.choice([0, 255, int(rng.integers(256))], p=[0.1, 0.6, 0.3]))

    def place(low: float = 0.05, high: float = 0.9) -> tuple[int, int]:
        x, y = rng.uniform(low, high, 2) * side
        return int(x), int(y)

    if rng.random() < 0.4:
        marker = str(rng.choice(["L", "R", "PA", "AP"]))
        mark = covered(marker, Style(str(rng.choice(_FACES)), side * rng.uniform(0.03, 0.08)))
        image.paste(light, place(), mark)
    if rng.random() < 0.2:
        x, y = place()
        step, count = int(rng.integers(3, 30)), int(rng.integers(5, 40))
        for n in range(count):
            long = step * (1 + (n % 5 == 0)) // 2 + 2
            draw.line((x, y + n * step, x + long, y + n * step), light)
    if rng.random() < 0.08:
        step = int(rng.integers(8, 80))
        for at in range(int(rng.integers(step)), max(picture.shape), step):
            draw.line((at, 0, at, picture.shape[0]), light)
            draw.line((0, at, picture.shape[1], at), light)
    if rng.random() < 0.15:
        for _ in range(rng.integers(1, 4)):
            (x, y), (w, h) = place(), place(0.02, 0.3)
            shape = (draw.rectangle, draw.ellipse)[rng.integers(2)]
            shape((x, y, x + w, y + h), outline=light, width=int(rng.integers(1, 4)))
    if rng.random() < 0.08:
        (x, y), steps = place(), int(rng.integers(4, 24))
        w, h = rng.integers(4, 24, 2)
        for n in range(steps):
            draw.rectangle((x, y + n * h, x + w, y + n * h + h), int(255 * n / steps))
    return np.asarray(image)


def line(rng: np.random.Generator) -> str:
    family, given = str(rng.choice(_NAMES)), str(rng.choice(_NAMES))
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1930, 2015)
    return (
        f"{family}^{given}",
        f"{family}, {given} {day:02d}/{month:02d}/{year}",
        f"ID: {rng.integers(10**6, 10**7)}",
        f"{family} {year}-{month:02d}-{day:02d}",
        f"{rng.choice(_WORDS)} {rng.integers(10, 10**5)} {rng.choice(_WORDS)} {given}",
        short(rng),
    )[rng.integers(6)]


def short(rng: np.random.Generator) -> str:
    """Three to five letters or digits: the shortest names, initials with a number, a year."""
    name = str(rng.choice([n for n in _NAMES if len(n) < 6]))
    letters = "".join(rng.choice(list("ABCDEFGHJKLMNOPRSTUVWXYZ"), rng.integers(3, 6)))
    return (name, letters, str(rng.integers(100, 100_000)))[rng.integers(3)]


def covered(text: str, style: Style) -> Image.Image:
    """How much of each pixel the text covers, as it stands: turned, mirrored; mode L."""
    flat = _console(text, style.size) if style.face == "console" else _typeset(text, style)
    if style.mirrored:
        flat = flat.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return flat.rotate(style.angle, Image.Resampling.BICUBIC, expand=True)


def burned_in(
    rng: np.random.Generator, picture: Picture, style: Style | None = None, text: str | None = None
) -> Picture:
    """The picture with text: of that style, or else one to three bright lines from left to right,
    of 10 pixels and more. It lies within the picture wherever it is smaller than that."""
    side = min(picture.shape)
    face, size = str(rng.choice(_FACES)), rng.uniform(10, max(14, side * 0.045))
    boxed = bool(rng.random() < 0.25)
    for _ in range(1 if style or text else rng.integers(1, 4)):
        written = text or line(rng)
        each = style or Style(face, size, contrast=rng.uniform(180, 255), boxed=boxed)
        picture = drawn(rng, picture, covered(written, each), each)
    return picture


def drawn(rng: np.random.Generator, picture: Picture, mark: Image.Image, style: Style) -> Picture:
    """A mark somewhere on the picture, bright where the picture is dark, and dark where it is
    bright."""
    rows, columns = picture.shape
    x = int(rng.uniform(2, max(3, columns - mark.width - 2)))
    y = int(rng.uniform(2, max(3, rows - mark.height - 2)))
    out = picture.astype(np.float32)
    behind = out[y : y + mark.height, x : x + mark.width]
    cover = np.asarray(mark, np.float32)[: behind.shape[0], : behind.shape[1]] / 255
    if style.boxed:
        near = ndimage.maximum_filter(cover, 7) > 0
        behind[near] = 0
    level = float(behind[cover > 0.5].mean()) if (cover > 0.5).any() else float(behind.mean())
    light = level + style.contrast if level < 140 else level - style.contrast
    behind += cover * (np.clip(light, 0, 255) - behind)
    return np.asarray(np.rint(out), np.uint8)


def calm(picture: Picture) -> bool:
    """Whether faint writing is legible upon it: its grain deviates by 4 of 255 at most."""
    smooth = ndimage.gaussian_filter(picture.astype(np.float32), 2)
    return float(np.abs(picture - smooth).mean()) < 3.2


def _typeset(text: str, style: Style) -> Image.Image:
    if style.face == "Aileron":
        font: Any = ImageFont.load_default(style.size)
    else:
        font = ImageFont.truetype(str(_FONTS / f"{style.face}.ttf"), style.size)
    left, top, right, bottom = (round(v) for v in font.getbbox(text))
    image = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, 255, font)
    return image


def _console(text: str, size: float) -> Image.Image:
    """Dots, 11 high: as many pixels each as `size` gives."""
    font: Any = ImageFont.load_default_imagefont()
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(image).text((0, 0), text, 255, font)
    scale = max(1, round(size / 11))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


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
