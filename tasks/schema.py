"""The cohort schema: which columns a task reads, with public ranges that no cohort decides.

A site maps its own data to these columns. Numbers are clipped to a public clinical range and
missing values become a constant (with an indicator where the task wants one): nothing is fitted on
a cohort, since normalising with a hospital's own mean would release data. Each feature lies in
[-1, 1] and 0 is "missing", "middle of the range" or "usual": a row has norm sqrt(F) at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from tasks.encoders import Encoder

Table = Mapping[str, npt.NDArray[Any]]
"""Columns of equal length. Numbers: float with NaN where missing. Categories: str, None missing.
Pictures: see `Image`."""

PATIENT = "patient"
"""The column that names the patient, in every table; the unit of privacy."""
SPLIT = "split"
"""Optional column: "train" or "evaluation", for studies whose split is the cohort's own."""
DAY = "day"
"""Optional column: the record's day, 2027-03-31, for studies that train before a day and evaluate
from it on."""
Pooling = Literal["mean", "max"]
"""How several pictures of a record become one answer: by a mean, or by the largest value."""
_MISSING = 0.1
"""Of made-up values."""


@dataclass(frozen=True)
class Column:
    """One column of a cohort. `low` and `high` are public, in `unit` (UCUM).

    `missing_at`: numbers that stand for "not measured" in this column (an impossible 0, a -1).
    `flag_missing`: the model gets an indicator of missingness beside the number. Leave it out where
    values are always there: a constant feature uses up norm under clipping for nothing.
    `encoder`: turns a number into features instead of its place in the range.
    `usual`: the category that becomes a row of zeros (no drug taken) and so needs no norm.
    `other`: any other value is a feature of its own instead of an error.
    """

    name: str
    meaning: str
    kind: Literal["number", "category"] = "number"
    unit: str = "1"
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()
    missing_at: tuple[float, ...] = ()
    flag_missing: bool = True
    encoder: Encoder | None = None
    usual: str | None = None
    other: bool = False

    def __post_init__(self) -> None:
        if self.kind == "number" and not self.low < self.high:
            raise ValueError(f"column {self.name}: low must be below high")
        if self.kind == "category" and len(set(self.categories)) < max(2, len(self.categories)):
            raise ValueError(f"column {self.name}: needs at least two different categories")
        if self.usual is not None and self.usual not in self.categories:
            raise ValueError(f"column {self.name}: its usual category is none of its categories")
        if (self.kind == "category" and self.encoder) or (self.kind == "number" and self.other):
            raise ValueError(f"column {self.name}: an encoder is for numbers, other for categories")

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return len(self.feature_names)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What each feature is, for a reader of the model's weights."""
        if self.kind == "number":
            names = self.encoder.names(self.name) if self.encoder else (self.name,)
            return (*names, f"{self.name} missing") if self.flag_missing else names
        if self._signed:
            return (f"{self.name}={self.categories[1]}",)
        shown = (*self.categories, *(("other",) if self.other else ()))
        return tuple(f"{self.name}={category}" for category in shown if category != self.usual)

    @property
    def _signed(self) -> bool:
        """Two categories and nothing else: one feature of -1 or 1."""
        return len(self.categories) == 2 and self.usual is None and not self.other

    def numbers(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """(N,) values -> (N,) float64, NaN where missing, infinite or in `missing_at`.

        Raises WardroundError(MALFORMED_DATA) naming the first row that is not a number.
        """
        numbers = floats(values, self.name)
        return np.where(np.isfinite(numbers) & ~np.isin(numbers, self.missing_at), numbers, np.nan)

    def features(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(N,) values -> (N, width) float32 in [-1, 1]. Raises WardroundError(MALFORMED_DATA).

        A number becomes its place in the public range or what its encoder says, 0 where missing.
        Two categories become -1 and 1, 0 where missing; more, or one that is usual, become a
        one-hot row, all zeros where usual or missing.
        """
        if self.kind == "number":
            numbers = self.numbers(values)
            if self.encoder:
                parts = [self.encoder.encode(numbers, self.low, self.high)]
            else:
                placed = (np.clip(numbers, self.low, self.high) - self.low) / (self.high - self.low)
                parts = [np.where(np.isnan(numbers), 0.0, 2 * placed - 1)[:, None]]
            if self.flag_missing:
                parts.append(np.isnan(numbers)[:, None].astype(np.float64))
            return np.concatenate(parts, axis=1).astype(np.float32)
        hits, strange = self._hits(values)
        if self._signed:
            return hits[:, 1:].astype(np.float32) - hits[:, :1].astype(np.float32)
        columns = hits[:, [category != self.usual for category in self.categories]]
        if self.other:
            columns = np.concatenate([columns, strange[:, None]], axis=1)
        return np.asarray(columns, dtype=np.float32)

    def made_up(self, rows: int, generator: np.random.Generator) -> npt.NDArray[Any]:
        """(rows,) values that nobody has: anywhere in the public range or any category, a tenth
        missing."""
        if self.kind == "number":
            values = generator.uniform(self.low, self.high, rows)
            values[generator.random(rows) < _MISSING] = np.nan
            return values
        words = np.array([*self.categories, None], dtype=object)
        known = generator.integers(len(self.categories), size=rows)
        return words[np.where(generator.random(rows) < _MISSING, -1, known)]

    def places(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """(N,) values -> (N,) index of each one's category, NaN where missing; `other` is the index
        after the last. Raises WardroundError(MALFORMED_DATA)."""
        hits, strange = self._hits(values)
        every = np.concatenate([hits, strange[:, None]], axis=1)
        return np.where(every.any(axis=1), every.argmax(axis=1), np.nan)

    def _hits(
        self, values: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """(N, categories) whether it is this one, and (N,) whether it is none of them."""
        words = texts(values)
        hits = np.stack([words == category for category in self.categories], axis=1)
        strange = ~hits.any(axis=1) & (words != np.array(None))
        if strange.any() and not self.other:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"Column {self.name}, row {int(np.argmax(strange)) + 1} of the view: not one of "
                f"{', '.join(self.categories)}.",
                remedy=f"Map the column ({self.meaning}) in the site's view; NULL is missing.",
            )
        return hits, strange


def floats(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.float64]:
    """(N,) values -> (N,) float64, None as NaN. Raises WardroundError(MALFORMED_DATA) naming
    column and row (the first is 1) of what is not a number, and quoting nothing."""
    with suppress(TypeError, ValueError):
        return values.astype(np.float64)
    numbers = []
    for row, value in enumerate(values, start=1):
        try:
            numbers.append(float("nan" if value is None else value))
        except (TypeError, ValueError):
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"Column {name}, row {row} of the view: not a number.",
                remedy="Correct the source, or cast it in the site's view; NULL is missing.",
            ) from None
    return np.array(numbers)


def texts(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N,) values -> (N,) object: str, None where missing. 3 and 3.0 are the category "3"."""
    if values.dtype != object:
        values = values.astype(object)

    def text(value: Any) -> str | None:
        if value is None or value != value:
            return None
        if isinstance(value, bool | np.bool_):
            return str(int(value))
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return np.array([*map(text, values), None], dtype=object)[:-1]


@dataclass(frozen=True)
class Image:
    """One picture of a cohort, as every site prepares it: windowed, upright, resized.

    In a table it is (N, rows, columns) uint8, or (N, rows, columns, 3) red, green and blue; a row
    of zeros only stands for "no picture". At a site the view's column of this name holds keys of
    its image index, NULL for none.

    With `most` above 1 a record has several pictures, (N, most, rows, columns) in a table; places
    that are left over hold zeros. At a site the view's column then holds their keys with a space
    between two: string_agg(image, ' ' ORDER BY ...). All of them are one record of one patient.
    They are pooled, or the slices of one volume, which the site puts in order.
    """

    name: str
    meaning: str
    rows: int
    columns: int
    hounsfield: tuple[float, float] | None = None
    """The Hounsfield units shown as black and as white; None: as each object says of itself."""
    colour: bool = False
    """Whether colours are kept; otherwise colours become grey. What is grey has three alike."""
    most: int = 1
    """Pictures of a record, at most: a public constant. A site takes the first ones of a record
    that has more."""
    pooling: Pooling | None = None
    """How the model makes one answer of several pictures, whose order then says nothing."""
    spacing: float | None = None
    """Millimetres from one place to the next, where the pictures are slices of one volume: a site
    puts them in order by their positions, the middle of the volume in the middle place."""

    def __post_init__(self) -> None:
        said = (self.pooling is not None) + (self.spacing is not None)
        if self.most < 1 or said != (self.most > 1):
            raise ValueError(
                f"picture {self.name}: several pictures of a record (most above 1) need either a "
                "pooling, mean or max, or the spacing of a volume's slices, and one picture neither"
            )
        if self.spacing is not None and not self.spacing > 0:
            raise ValueError(f"picture {self.name}: the spacing of slices is above 0 mm")
        if self.hounsfield is not None and not self.hounsfield[0] < self.hounsfield[1]:
            raise ValueError(f"picture {self.name}: black must be below white in hounsfield")
        if self.hounsfield is not None and self.colour:
            raise ValueError(f"picture {self.name}: Hounsfield units have no colour")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture."""
        return (self.rows, self.columns, 3) if self.colour else (self.rows, self.columns)

    @property
    def shape_of_record(self) -> tuple[int, ...]:
        """Of all that a record has of it."""
        return self.shape if self.most == 1 else (self.most, *self.shape)

    def made_up(self, rows: int, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
        """(rows, ...) pictures of nothing: of each record one at least."""
        shape = (rows, *self.shape_of_record)
        pictures = generator.integers(256, size=shape, dtype=np.uint8)
        if self.most > 1:
            number = generator.integers(1, self.most + 1, size=rows)
            pictures[np.arange(self.most) >= number[:, None]] = 0
        return pictures


@dataclass(frozen=True)
class Schema:
    """Input columns, pictures and the label of a cohort, of the kind that the task's `outcome`
    says; no label ("") where nothing is to be learned, only to be asked."""

    columns: tuple[Column, ...]
    label: str
    label_meaning: str
    images: tuple[Image, ...] = ()
    dates: tuple[str, ...] = ()
    """Date columns that a view may add, in the order in which they must lie, for `check` alone."""
    labels: tuple[str, ...] = ()
    """The columns that the label is made of, where the task's `outcome` takes several; `label` is
    then their name together."""
    masked: str = ""
    """The picture of which the label is a mask, where it is one: in a table the label's column is
    then (N, rows, columns) uint8 of that picture's size, a class each pixel, UNKNOWN
    (`protocol.outcomes.segmentation`) where nobody said; at a site, the view's column holds keys of
    the table `masks`, NULL for none."""

    def __post_init__(self) -> None:
        if self.masked and self.mask is None:
            raise ValueError(f"masked names {self.masked}, which is no picture of the schema")
        if self.mask is not None and self.mask.most > 1:
            raise ValueError(f"masked names {self.masked}, of which a record has several")

    @property
    def mask(self) -> Image | None:
        """The picture that `masked` names."""
        return next((image for image in self.images if image.name == self.masked), None)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of a table that the label is made of."""
        return self.labels or ((self.label,) if self.label else ())

    @property
    def width(self) -> int:
        """Number of features F."""
        return sum(column.width for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Every column a cohort must have."""
        pictures = (image.name for image in self.images)
        columns = (column.name for column in self.columns)
        return (PATIENT, *columns, *pictures, *self.label_columns)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What each of the F features is."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def made_up(self, rows: int, seed: int = 0) -> Table:
        """A cohort of nobody: every value is drawn at random, each row is another patient."""
        generator = np.random.default_rng(seed)
        table: dict[str, npt.NDArray[Any]] = {
            PATIENT: np.array([f"nobody {row}" for row in range(rows)], dtype=object)
        }
        for column in self.columns:
            table[column.name] = column.made_up(rows, generator)
        for image in self.images:
            table[image.name] = image.made_up(rows, generator)
        for name in self.label_columns:
            if self.mask is not None:
                shape = (rows, self.mask.rows, self.mask.columns)
                table[name] = generator.integers(2, size=shape, dtype=np.uint8)
            else:
                table[name] = generator.integers(2, size=rows).astype(np.float64)
        return table

    def label_of(self, table: Table) -> npt.NDArray[Any]:
        """A table of N rows -> (N,) its label's column, or (N, columns) where there are several;
        NaN where missing; (N, rows, columns) uint8 of masks. Raises WardroundError(MALFORMED_DATA).
        """
        if self.mask is not None:
            masks = np.asarray(table[self.label])
            if masks.shape[1:] != (self.mask.rows, self.mask.columns) or masks.dtype != np.uint8:
                raise WardroundError(
                    Code.MALFORMED_DATA,
                    f"Column {self.label}: its masks are not {self.mask.rows} x "
                    f"{self.mask.columns} bytes, the size of the picture {self.masked}.",
                    remedy="Make each mask of its picture, as large as that is shown to the model.",
                )
            return masks
        numbers = [floats(table[name], name) for name in self.label_columns]
        return np.stack(numbers, axis=1) if self.labels else numbers[0]

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        """Columns of a table of N rows, pictures left aside -> (N, F) float32.

        Raises WardroundError(MALFORMED_DATA)."""
        for column in self.columns:
            if column.name not in table:
                raise WardroundError(
                    Code.MALFORMED_DATA,
                    f"The cohort lacks the column {column.name} ({column.meaning}).",
                    remedy="Add it to the site's view; NULL stands for a missing value.",
                )
        rows = np.empty((len(next(iter(table.values()), ())), 0), dtype=np.float32)
        return np.concatenate([rows, *(c.features(table[c.name]) for c in self.columns)], axis=1)
