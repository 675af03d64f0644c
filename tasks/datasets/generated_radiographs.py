"""Generated chest radiographs with findings and lung fields, of nobody: shapes on a grey ground.

Everything is drawn from a seed. Each picture has two dark lung fields, a bright heart and ribs, of
varied size, place, brightness and noise. A figure on them says how a method works, and nothing
about patients. Findings go together as far as they share a severity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.schema import PATIENT, Table

SIDE = 32
LUNGS = 2
"""Lung fields of a mask: 1 is on the picture's left, which is the patient's right one, 2 on its
right; 0 is none."""
FINDINGS = ("cardiomegaly", "effusion", "consolidation", "pneumothorax")
_SEED = 20_263
_SITES: Mapping[str, tuple[int, float]] = {
    "coast": (2400, -1.4),
    "plain": (1600, -1.0),
    "valley": (1000, -1.8),
}
"""Pictures, and the log odds of a finding where nothing speaks for it."""
_UNSAID = 0.15
"""Share of findings of which a report says nothing."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """pictures (N, SIDE, SIDE) uint8; lungs (N, SIDE, SIDE) uint8, the lung field of each pixel,
    whatever a heart or a finding covers of it."""

    pictures: npt.NDArray[np.uint8]
    lungs: npt.NDArray[np.uint8]


def sites(picture: str, lungs: str = "") -> dict[str, Table]:
    """Site -> one picture a patient, in the column `picture`, and a column for each finding: 1, 0
    or NaN where the report says nothing; with `lungs`, masks of the lung fields in the column of
    that name. No two sites share a patient."""
    return {
        name: _site(name, count, base, picture, lungs, np.random.default_rng((_SEED, number)))
        for number, (name, (count, base)) in enumerate(_SITES.items())
    }


def _site(
    name: str, count: int, base: float, picture: str, lungs: str, draw: np.random.Generator
) -> Table:
    severity = draw.normal(0, 0.7, (count, 1))
    there = draw.random((count, len(FINDINGS))) < 1 / (1 + np.exp(-base - severity))
    said = np.where(draw.random(there.shape) < _UNSAID, np.nan, there.astype(np.float64))
    drawn = radiographs(there, draw)
    table: dict[str, npt.NDArray[Any]] = {
        PATIENT: np.array([f"{name}-{row:04d}" for row in range(count)], dtype=object),
        picture: drawn.pictures,
    }
    if lungs:
        table[lungs] = drawn.lungs
    return table | {finding: said[:, place] for place, finding in enumerate(FINDINGS)}


def radiographs(there: npt.NDArray[np.bool_], draw: np.random.Generator) -> Drawn:
    """(N, findings) -> N of them."""
    count = len(there)

    def each(low: float, high: float) -> Floats:
        return draw.uniform(low, high, (count, 1, 1))

    rows, columns = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    rows, columns = rows - each(-0.08, 0.08), columns - each(-0.08, 0.08)
    wide, high = each(0.3, 0.38), each(0.62, 0.78)
    fields = [_ellipse(rows, columns - side * each(0.42, 0.48), high, wide) for side in (-1.0, 1.0)]
    lungs = np.maximum(*fields)
    grey = 0.75 - 0.5 * lungs
    big = np.where(there[:, 0, None, None], each(0.42, 0.58), each(0.22, 0.38))
    heart = _ellipse(rows - 0.35, columns - 0.12, each(0.3, 0.4), big)
    grey = np.maximum(grey, 0.8 * heart)
    side = np.where(draw.random((count, 1, 1)) < 0.5, -1.0, 1.0)
    own = np.where(side < 0, fields[0], fields[1])
    level = np.where(there[:, 1, None, None], each(0.15, 0.45), 2.0)
    grey = np.where((rows > level) & (own > 0.5), 0.8, grey)
    patch = _ellipse(
        rows - each(-0.4, 0.2), columns + side * 0.45, each(0.16, 0.26), each(0.14, 0.22)
    )
    grey = np.maximum(grey, np.where(there[:, 2, None, None], each(0.55, 0.75), 0.0) * patch)
    air = (rows < each(-0.35, -0.15)) & (own > 0.5)
    grey = np.where(there[:, 3, None, None] & air, 0.08, grey)
    ribs = 0.05 * np.sin(rows * 22 + each(0, 6)) * lungs
    grey = (grey + ribs) * each(0.8, 1.15) + draw.normal(0, 0.06, grey.shape)
    masks = np.where(fields[0] > 0.5, 1, np.where(fields[1] > 0.5, LUNGS, 0))
    return Drawn(np.asarray(np.clip(grey * 255, 0, 255), dtype=np.uint8), masks.astype(np.uint8))


def _ellipse(rows: Floats, columns: Floats, high: Floats, wide: Floats) -> Floats:
    """1 inside, 0 outside, soft between."""
    away = np.sqrt((rows / high) ** 2 + (columns / wide) ** 2)
    return np.asarray(1 / (1 + np.exp((away - 1) * 18)))
