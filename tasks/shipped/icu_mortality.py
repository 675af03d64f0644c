"""Death in hospital, from the first day in intensive care: the variables of APACHE.

eICU demo 2.0.1, doi 10.13026/4mxk-na84, ODbL 1.0: Pollard et al. 2018. One stay per patient; the
sites are the four regions of the United States. What only the end of a stay knows (where the
patient went, how long he stayed, what APACHE predicted) is no column here. Physiology is the worst
value of the first 24 hours, as APACHE defines it; -1 is APACHE's own "not measured".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.datasets import downloads as published
from tasks.datasets import eicu
from tasks.encoders import Hinge
from tasks.models.initialisation import LinearFromScore
from tasks.published_scores import apache
from tasks.schema import PATIENT, Column, Schema, Table

_ABSENT = (-1.0,)
_SEX = {"Female": "female", "Male": "male"}
_SOURCE = {
    "paco2": "pco2",
    "urine_output": "urine",
    "gcs_eyes": "eyes",
    "gcs_motor": "motor",
    "gcs_verbal": "verbal",
    "ventilated": "vent",
}
"""Column -> its name in the demo, where that is more than the column's without underscores."""


def _worst(
    name: str, meaning: str, unit: str, low: float, high: float, normal: tuple[float, float]
) -> Column:
    below, above = normal
    hinge = Hinge(below if below > low else float("-inf"), above if above < high else float("inf"))
    return Column(
        name,
        f"{meaning}, worst of the first 24 hours",
        unit=unit,
        low=low,
        high=high,
        missing_at=_ABSENT,
        flag_missing=False,
        encoder=hinge,
    )


def _coma(name: str, meaning: str, best: int) -> Column:
    """A part of the Glasgow coma scale, 1 the worst."""
    return Column(
        name,
        f"Glasgow coma scale, {meaning}",
        unit="{score}",
        low=1,
        high=best,
        missing_at=_ABSENT,
        flag_missing=False,
        encoder=Hinge(low=best),
    )


def _yes(name: str, meaning: str) -> Column:
    return Column(name, meaning, "category", categories=("0", "1"), usual="0")


COLUMNS = (
    eicu.AGE,
    eicu.SEX,
    _worst("heart_rate", "heart rate", "/min", 20, 200, (50, 100)),
    _worst("mean_bp", "mean arterial pressure", "mm[Hg]", 30, 180, (80, 100)),
    _worst("temperature", "body temperature", "Cel", 30, 42, (36, 38.5)),
    _worst("respiratory_rate", "respiratory rate", "/min", 4, 60, (14, 25)),
    _worst("hematocrit", "haematocrit", "%", 15, 60, (36, 50)),
    _worst("wbc", "white blood cells", "10*3/uL", 0.5, 50, (4, 15)),
    _worst("creatinine", "serum creatinine", "mg/dL", 0.2, 8, (0.2, 1.4)),
    _worst("bun", "blood urea nitrogen", "mg/dL", 2, 120, (2, 20)),
    _worst("sodium", "serum sodium", "mmol/L", 110, 170, (135, 150)),
    _worst("albumin", "serum albumin", "g/dL", 1, 6, (3, 6)),
    _worst("bilirubin", "total bilirubin", "mg/dL", 0.1, 20, (0.1, 2)),
    _worst("glucose", "serum glucose", "mg/dL", 20, 600, (60, 200)),
    _worst("ph", "arterial pH", "[pH]", 6.8, 7.8, (7.33, 7.5)),
    _worst("pao2", "arterial partial pressure of oxygen", "mm[Hg]", 30, 500, (80, 500)),
    _worst("paco2", "arterial partial pressure of carbon dioxide", "mm[Hg]", 15, 120, (35, 50)),
    _worst("fio2", "inspired oxygen with that blood gas", "%", 21, 100, (21, 40)),
    _worst("urine_output", "urine of the first 24 hours", "mL", 0, 8000, (1500, 8000)),
    _coma("gcs_eyes", "eyes", 4),
    _coma("gcs_motor", "motor", 6),
    _coma("gcs_verbal", "verbal", 5),
    _yes("ventilated", "mechanically ventilated in the first 24 hours"),
    _yes("elective_surgery", "admitted after elective surgery"),
    _yes("hepatic_failure", "hepatic failure"),
    _yes("cirrhosis", "cirrhosis"),
    _yes("metastatic_cancer", "metastatic cancer"),
    _yes("lymphoma", "lymphoma"),
    _yes("leukemia", "leukaemia or multiple myeloma"),
    _yes("immunosuppression", "immunosuppressed"),
    _yes("aids", "AIDS"),
)


class IcuMortality(LinearFromScore):
    """Logistic regression on deviations from normal ranges, beside APACHE III."""

    name = "icu_mortality"
    title = "Death in hospital, from the first 24 hours in intensive care"
    licence = "ODbL 1.0 (eICU Collaborative Research Database Demo 2.0.1, doi 10.13026/4mxk-na84)"
    schema = Schema(COLUMNS, "died", "1: died in hospital")
    downloads = tuple(
        eicu.download(file) for file in ("patient.csv.gz", "hospital.csv.gz", *eicu.APACHE)
    )
    parts = (apache, eicu, published)

    def log_odds(self, table: Table) -> npt.NDArray[np.float64]:
        """(N,) log odds of death by APACHE III."""
        values = {
            column.name: column.numbers(table[column.name])
            if column.kind == "number"
            else np.nan_to_num(column.places(table[column.name]))
            for column in COLUMNS
        }
        return apache.log_odds(apache.points(values))

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Region -> the first stay of each patient whose outcome is known.

        Raises WardroundError: NO_DATA without the files, MALFORMED_DATA where they differ.
        """
        rows = eicu.apache_rows(root, self.name)
        return {
            region: _table([row for row in rows if row["region"] == region])
            for region in sorted({row["region"] for row in rows})
        }


def _table(rows: Sequence[Mapping[str, str]]) -> Table:
    table: dict[str, npt.NDArray[Any]] = {
        PATIENT: np.array([row["uniquepid"] for row in rows], dtype=object),
        "age": np.array([eicu.age(row) for row in rows]),
        "sex": np.array([_SEX.get(row["gender"]) for row in rows], dtype=object),
    }
    for column in COLUMNS[2:]:
        source = _SOURCE.get(column.name, column.name.replace("_", ""))
        texts = [row[source] for row in rows]
        if column.kind == "number":
            table[column.name] = np.array([float(text or "nan") for text in texts])
        else:
            table[column.name] = np.array([text or None for text in texts], dtype=object)
    dead = [row["hospitaldischargestatus"] == "Expired" for row in rows]
    return table | {"died": np.array(dead, dtype=np.float64)}
