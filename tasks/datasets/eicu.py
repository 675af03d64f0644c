"""The eICU demo as PhysioNet publishes it: stays, their region, and the first day's variables.

eICU Collaborative Research Database Demo 2.0.1, doi 10.13026/4mxk-na84, ODbL 1.0: Pollard et al.
2018. Its largest hospital has 40 stays, so that the sites are the four regions of the country.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from pathlib import Path

from tasks.base import Download
from tasks.datasets.downloads import published
from tasks.encoders import Hinge
from tasks.schema import Column

FOLDER = "eicu_demo"
_URL = "https://physionet.org/files/eicu-crd-demo/2.0.1/"
_SHA256 = {
    "patient.csv.gz": "15e1eb52169828e3cfff3b67132a087298de4d0365bbb31bb294f6043bffd474",
    "hospital.csv.gz": "4ed356f9c4e7c8ce80e89241697e94b77f21c2f325cd6ad126794b1e92805ef4",
    "apacheApsVar.csv.gz": "2dc6d63f9807c7e663ffa253998691605d527b702ac1db8cc5dda92308061e78",
    "apachePredVar.csv.gz": "99d5a4ab2c5cd07b6ee0a540c86a576e5975ed3b93df8525e3d287d5babf3eae",
}

APACHE = ("apacheApsVar.csv.gz", "apachePredVar.csv.gz")
_ORDER = ("unitvisitnumber", "hospitaldischargeyear", "patientunitstayid")
"""Number of the stay in intensive care within a stay in hospital, year, number of the stay."""
AGE = Column(
    "age",
    "age (90 stands for 90 and above)",
    unit="a",
    low=18,
    high=90,
    encoder=Hinge(high=45),
    flag_missing=False,
)
SEX = Column("sex", "sex", "category", categories=("female", "male"))


def download(file: str) -> Download:
    """One of its files."""
    return Download(_URL + file, _SHA256[file], file, folder=FOLDER)


def rows(root: Path | None, file: str, task: str) -> list[dict[str, str]]:
    """A table of the demo as rows of text. Raises what `published` raises."""
    data = published(root, download(file), task)
    return list(csv.DictReader(gzip.decompress(data).decode("utf-8").splitlines()))


def stays(root: Path | None, task: str) -> dict[str, dict[str, str]]:
    """Stay -> its row of `patient` with its hospital's `region`; hospitals of unknown region belong
    to no site and are left out. Raises what `published` raises."""
    regions = {
        row["hospitalid"]: row["region"].lower()
        for row in rows(root, "hospital.csv.gz", task)
        if row["region"]
    }
    return {
        row["patientunitstayid"]: row | {"region": regions[row["hospitalid"]]}
        for row in rows(root, "patient.csv.gz", task)
        if row["hospitalid"] in regions
    }


def one_a_patient(known: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The first of each patient's stays by `_ORDER`: the demo has no dates."""
    first: dict[str, dict[str, str]] = {}
    for row in sorted(known.values(), key=lambda row: [int(row[column]) for column in _ORDER]):
        first.setdefault(row["uniquepid"], row)
    return {row["patientunitstayid"]: row for row in first.values()}


def age(row: Mapping[str, str]) -> float:
    """Years; the demo writes "> 89" for all above."""
    text = row["age"].strip()
    return 90.0 if text.startswith(">") else float(text or "nan")


def apache_rows(root: Path | None, task: str) -> list[dict[str, str]]:
    """The first stay of each patient whose APACHE variables and outcome are known: its row of
    `patient` with the region, joined with the two APACHE tables. What only a stay's end tells
    (`diedinhospital`, `dischargelocation`) is in the row, but no task reads it.

    Raises what `published` raises."""
    known = stays(root, task)
    for file in reversed(APACHE):
        tables = {row["patientunitstayid"]: row for row in rows(root, file, task)}
        known = {stay: tables[stay] | row for stay, row in known.items() if stay in tables}
    ended = {stay: row for stay, row in known.items() if row["hospitaldischargestatus"]}
    return list(one_a_patient(ended).values())
