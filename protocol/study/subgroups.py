"""By what an evaluation tells patients apart: partitions, each with a public list of levels.

Levels are fixed before any data is seen, and every patient is in exactly one level of a partition:
"missing" is one. So one patient changes one level's cells by what he changes in the whole
evaluation, and a partition is one more release of the same size. Two partitions are about the same
patients: their costs add up, whatever their levels.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Annotated, Literal, Self, assert_never

from pydantic import Field
from pydantic import model_validator as validator

from protocol.document import Document
from protocol.errors import Code, WardroundError
from protocol.study.condition import Category, ColumnName
from protocol.study.query import Edge, Label

MISSING = "missing"
"""The level of patients whose column has no value, or none of those that are listed."""
MOST_PARTITIONS = 8
MOST_LEVELS = 50
SiteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]


class Categories(Document):
    """A column of words: one level for each that is listed."""

    kind: Literal["categories"] = "categories"
    column: ColumnName
    values: Annotated[
        tuple[Category, ...], Field(min_length=1, max_length=MOST_LEVELS, strict=False)
    ]

    @validator(mode="after")
    def _different(self) -> Self:
        _check_levels(self.column, self.values)
        return self

    @property
    def name(self) -> str:
        return self.column

    @property
    def levels(self) -> tuple[str, ...]:
        return (*self.values, MISSING)


class Bands(Document):
    """A column of numbers, in bands: below the first cut, from one cut to below the next, from the
    last one on."""

    kind: Literal["bands"] = "bands"
    column: ColumnName
    cuts: Annotated[tuple[Edge, ...], Field(min_length=1, max_length=MOST_LEVELS, strict=False)]

    @validator(mode="after")
    def _rising(self) -> Self:
        if any(not low < high for low, high in pairwise(self.cuts)):
            raise ValueError(f"the cuts of {self.column} must rise")
        return self

    @property
    def name(self) -> str:
        return self.column

    @property
    def levels(self) -> tuple[str, ...]:
        text = [f"{cut:.6g}" for cut in self.cuts]
        between = (f"{low} to below {high}" for low, high in pairwise(text))
        return (f"below {text[0]}", *between, f"{text[-1]} or more", MISSING)


class HospitalClass(Document):
    """Hospitals of one class, such as those with scanners of one vendor."""

    level: Label
    sites: Annotated[tuple[SiteName, ...], Field(min_length=1, max_length=1000, strict=False)]


class Hospitals(Document):
    """An attribute of whole hospitals: it tells them apart, so it is stated here, each hospital
    affirms its own in its site.yaml, and no sum is of fewer than m hospitals of a class."""

    kind: Literal["hospitals"] = "hospitals"
    attribute: ColumnName
    classes: Annotated[
        tuple[HospitalClass, ...], Field(min_length=1, max_length=MOST_LEVELS, strict=False)
    ]

    @validator(mode="after")
    def _different(self) -> Self:
        _check_levels(self.attribute, self.levels)
        named = [site for one in self.classes for site in one.sites]
        if len(set(named)) < len(named):
            raise ValueError(f"{self.attribute} has a hospital in two classes")
        return self

    @property
    def name(self) -> str:
        return self.attribute

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(one.level for one in self.classes)

    def level_of(self, site: str) -> int:
        """The place of a site's class."""
        return next(place for place, one in enumerate(self.classes) if site in one.sites)

    def fewest(self, sites: Collection[str]) -> int:
        """Of these sites, how many are in the class that has fewest."""
        return min(len(set(one.sites) & set(sites)) for one in self.classes)


Partition = Annotated[Categories | Bands | Hospitals, Field(discriminator="kind")]
ByColumn = Categories | Bands


def by_hospital(partitions: Collection[Partition]) -> tuple[Hospitals, ...]:
    """Those that tell hospitals apart."""
    return tuple(one for one in partitions if isinstance(one, Hospitals))


def in_words(partition: Partition) -> str:
    """What a person who decides about the study reads."""
    match partition:
        case Categories() | Bands():
            return f"{partition.column} ({', '.join(partition.levels)})"
        case Hospitals():
            sizes = ", ".join(f"{one.level}: {len(one.sites)} sites" for one in partition.classes)
            return f"{partition.attribute} of the hospital ({sizes})"
    assert_never(partition)


def check_partitions(
    partitions: Collection[Partition], sites: Collection[str], least_sites: int
) -> None:
    """Raises ValueError where two partitions have one name, or where a class of hospitals lacks one
    of the study's sites or has fewer than `least_sites`."""
    names = [one.name for one in partitions]
    if len(set(names)) < len(names):
        raise ValueError("each of subgroups needs a column or an attribute of its own")
    for one in by_hospital(partitions):
        if {site for of in one.classes for site in of.sites} != set(sites):
            raise ValueError(f"subgroups by {one.attribute} must name each site of the roster")
        if one.fewest(sites) < least_sites:
            raise ValueError(
                f"subgroups by {one.attribute} have a class of fewer than least_sites = "
                f"{least_sites} hospitals"
            )


def check_participants(
    partitions: Collection[Partition], sites: Collection[str], least_sites: int
) -> None:
    """Raises WardroundError(AGGREGATION) where a sum over these sites would have fewer than
    `least_sites` hospitals of a class, whose figures would be theirs."""
    for one in by_hospital(partitions):
        if one.fewest(sites) < least_sites:
            raise WardroundError(
                Code.AGGREGATION,
                f"Fewer than {least_sites} hospitals of a class of {one.attribute} take part.",
                remedy="Such a study needs all of its hospitals in every sum that evaluates.",
            )


def _check_levels(name: str, levels: Collection[str]) -> None:
    if len(set(levels)) < len(levels) or MISSING in levels:
        raise ValueError(f"{name} needs levels that differ, none of them {MISSING!r}")
