"""Heart disease (angiographic, over 50% narrowing) in four real hospitals.

UCI Heart Disease, doi 10.24432/C52P4X, CC BY 4.0: Janosi, Steinbrunn, Pfisterer, Detrano (1989).
Cleveland 303, Budapest 294, Zurich and Basel 123, Long Beach 200 patients, one row each. Ranges
are clinical and public. A cholesterol or blood pressure of 0 was not measured: nobody lives so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

from protocol.errors import Code, WardroundError
from tasks.base import Download, Task
from tasks.datasets.downloads import published
from tasks.models import initialisation
from tasks.schema import PATIENT, Column, Schema, Table

_URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/"
_SHA256 = {
    "cleveland": "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
    "hungarian": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "switzerland": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
    "va": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
}
_REMEDY = "Fetch it: wardround data fetch heart_disease."


def _category(name: str, meaning: str, *categories: str) -> Column:
    return Column(name, meaning, "category", categories=categories)


_COLUMNS = (
    Column("age", "age", unit="a", low=30, high=80, flag_missing=False),
    _category("sex", "sex: 0 female, 1 male", "0", "1"),
    _category(
        "cp",
        "chest pain: 1 typical angina, 2 atypical angina, 3 non-anginal, 4 asymptomatic",
        *("1", "2", "3", "4"),
    ),
    Column(
        "trestbps",
        "resting blood pressure, systolic",
        unit="mm[Hg]",
        low=80,
        high=200,
        missing_at=(0.0,),
        flag_missing=False,
    ),
    Column("chol", "serum cholesterol", unit="mg/dL", low=100, high=400, missing_at=(0.0,)),
    _category("fbs", "fasting blood sugar above 120 mg/dL: 0 no, 1 yes", "0", "1"),
    _category(
        "restecg",
        "resting ECG: 0 normal, 1 ST-T abnormality, 2 left ventricular hypertrophy",
        *("0", "1", "2"),
    ),
    Column(
        "thalach",
        "highest heart rate reached",
        unit="/min",
        low=90,
        high=190,
        missing_at=(0.0,),
        flag_missing=False,
    ),
    _category("exang", "angina on exercise: 0 no, 1 yes", "0", "1"),
    Column(
        "oldpeak",
        "ST depression by exercise (an elevation, negative, counts as 0)",
        unit="mm",
        low=0,
        high=4,
        flag_missing=False,
    ),
    _category("slope", "slope of the exercise ST segment: 1 up, 2 flat, 3 down", "1", "2", "3"),
    _category("ca", "major vessels coloured by fluoroscopy: 0 to 3", "0", "1", "2", "3"),
    _category(
        "thal", "thallium scan: 3 normal, 6 fixed defect, 7 reversible defect", "3", "6", "7"
    ),
)


class HeartDisease(Task):
    """Logistic regression: 920 patients under privacy support no more (notes of the bench)."""

    name = "heart_disease"
    title = "Heart disease on angiography, from history, ECG, exercise and laboratory"
    licence = "CC BY 4.0 (UCI Heart Disease, doi 10.24432/C52P4X)"
    schema = Schema(_COLUMNS, "num", "1: a coronary vessel narrowed by more than half")
    downloads = tuple(
        Download(f"{_URL}processed.{site}.data", sha256, f"processed.{site}.data")
        for site, sha256 in _SHA256.items()
    )
    parts = (initialisation,)

    def model(self) -> nn.Module:
        return initialisation.zero(self.schema.width)

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Reads `root`/heart_disease/processed.*.data; the published checksums must hold.

        Raises WardroundError: NO_DATA without the files, MALFORMED_DATA where one differs.
        """
        return {
            site: parse(published(root, download, self.name), download.file, site)
            for site, download in zip(_SHA256, self.downloads, strict=True)
        }


def parse(data: bytes, file: str, site: str) -> Table:
    """The bytes of a processed.*.data file -> its table; `?` is missing, a diagnosis above 0 is 1.

    Raises WardroundError(MALFORMED_DATA) naming file, line and column, quoting nothing.
    """
    names = [*(column.name for column in _COLUMNS), "num"]
    rows: list[list[float]] = []
    for line, text in enumerate(data.decode("latin-1").splitlines(), start=1):
        fields = text.split(",")
        if len(fields) != len(names):
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"{file}, line {line}: {len(fields)} columns instead of {len(names)}.",
                remedy=_REMEDY,
            )
        row = []
        for name, value in zip(names, fields, strict=True):
            try:
                row.append(np.nan if value.strip() == "?" else float(value))
            except ValueError:
                raise WardroundError(
                    Code.MALFORMED_DATA,
                    f"{file}, line {line}, column {name}: not a number.",
                    remedy=_REMEDY,
                ) from None
        rows.append(row)
    if not rows:
        raise WardroundError(Code.MALFORMED_DATA, f"{file} is empty.", remedy=_REMEDY)
    values = np.array(rows)
    table = {name: values[:, k] for k, name in enumerate(names)}
    table["num"] = np.where(np.isnan(table["num"]), np.nan, table["num"] > 0)
    return {PATIENT: np.array([f"{site}-{k:03d}" for k in range(len(rows))], dtype=object)} | table
