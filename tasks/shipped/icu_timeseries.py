"""Death in intensive care, from 24 hourly values of vital signs and laboratory results.

The mortality cohort that YAIB (van de Water et al. 2024) draws from the eICU demo 2.0.1 (ODbL 1.0,
Pollard et al. 2018): stays of at least 30 hours; one of each patient here; the sites are regions.
The hour of the prediction itself (24) is left out.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from protocol.study.study import Scalar
from tasks.base import Download, Task
from tasks.datasets import downloads as published
from tasks.datasets import eicu
from tasks.encoders import Hinge
from tasks.models import hourly_features, initialisation, tcn
from tasks.models.hourly_features import HOURS, Hourly
from tasks.published_scores import apache
from tasks.schema import PATIENT, Schema, Table

if TYPE_CHECKING:
    import pandas as pd

_BY_YAIB_NAME = {
    "hr": Hourly("heart_rate", "heart rate", "/min", 20, 200, Hinge(50, 100)),
    "sbp": Hourly("systolic_bp", "systolic blood pressure", "mm[Hg]", 40, 250, Hinge(100, 160)),
    "dbp": Hourly("diastolic_bp", "diastolic blood pressure", "mm[Hg]", 20, 150, Hinge(50, 90)),
    "map": Hourly("mean_bp", "mean arterial pressure", "mm[Hg]", 30, 180, Hinge(70, 110)),
    "resp": Hourly("respiratory_rate", "respiratory rate", "/min", 4, 60, Hinge(10, 22)),
    "o2sat": Hourly("spo2", "peripheral oxygen saturation", "%", 60, 100, Hinge(low=94)),
    "temp": Hourly("temperature", "body temperature", "Cel", 30, 42, Hinge(36, 38.3)),
    "fio2": Hourly("fio2", "inspired oxygen", "%", 21, 100, Hinge(high=40)),
    "urine": Hourly("urine_output", "urine of the hour", "mL", 0, 1000, Hinge(low=30)),
    "bun": Hourly("bun", "blood urea nitrogen", "mg/dL", 2, 120, Hinge(high=20)),
    "crea": Hourly("creatinine", "serum creatinine", "mg/dL", 0.2, 8, Hinge(high=1.4)),
    "na": Hourly("sodium", "serum sodium", "mmol/L", 110, 170, Hinge(135, 148)),
    "k": Hourly("potassium", "serum potassium", "mmol/L", 2, 8, Hinge(3.5, 5.2)),
    "cl": Hourly("chloride", "serum chloride", "mmol/L", 75, 135, Hinge(96, 110)),
    "bicar": Hourly("bicarbonate", "serum bicarbonate", "mmol/L", 5, 45, Hinge(21, 30)),
    "glu": Hourly("glucose", "serum glucose", "mg/dL", 20, 600, Hinge(60, 200)),
    "ca": Hourly("calcium", "serum calcium", "mg/dL", 5, 14, Hinge(8, 10.5)),
    "wbc": Hourly("wbc", "white blood cells", "10*3/uL", 0.5, 50, Hinge(4, 15)),
    "hgb": Hourly("hemoglobin", "haemoglobin", "g/dL", 4, 18, Hinge(low=10)),
    "plt": Hourly("platelets", "platelets", "10*3/uL", 5, 700, Hinge(low=150)),
    "lact": Hourly("lactate", "serum lactate", "mmol/L", 0.3, 20, Hinge(high=2)),
    "ph": Hourly("ph", "arterial pH", "[pH]", 6.8, 7.8, Hinge(7.33, 7.5)),
    "po2": Hourly("pao2", "arterial partial pressure of oxygen", "mm[Hg]", 30, 500, Hinge(low=70)),
    "pco2": Hourly("paco2", "arterial partial pressure of CO2", "mm[Hg]", 15, 120, Hinge(35, 50)),
    "bili": Hourly("bilirubin", "total bilirubin", "mg/dL", 0.1, 20, Hinge(high=2)),
    "alb": Hourly("albumin", "serum albumin", "g/dL", 1, 6, Hinge(low=3)),
    "inr_pt": Hourly("inr", "international normalised ratio", "{INR}", 0.8, 10, Hinge(high=1.5)),
}
"""By YAIB's name of the series."""
SERIES = tuple(_BY_YAIB_NAME.values())
STATIC = (eicu.AGE, eicu.SEX)
_YAIB = "https://raw.githubusercontent.com/rvandewater/YAIB/development/demo_data/mortality24/"
_FILES = tuple(
    Download(f"{_YAIB}eicu_demo/{file}", sha256, file, folder="eicu_mortality24")
    for file, sha256 in (
        ("dyn.parquet", "6f5d2f7f98e80f9e7b104021a01628902f8b5affa590fe1f06e2e9e968c4c9d2"),
        ("sta.parquet", "425a3c2e3893deded0050a8e69f3cabc2fddc5454be8d0bc682a08e644057fcd"),
        ("outc.parquet", "d4c75c926dbfd11eb81a36077d60b498565515eca4f4a914903c2f4ecf3c848f"),
    )
)
_HEMATOCRIT_OF_HEMOGLOBIN = 3.0
"""Haematocrit in % is about three times haemoglobin in g/dL."""


class IcuTimeseries(Task):
    """Option `model`: "summary" (how far each series leaves its normal range, and a linear head)
    or "tcn" (a small temporal convolutional net). Both start from the public score, a part of
    APACHE III, and learn what to add to it."""

    name = "icu_timeseries"
    title = "Death in intensive care, from its first 24 hours"
    licence = "ODbL 1.0 (eICU Collaborative Research Database Demo 2.0.1, doi 10.13026/4mxk-na84)"
    schema = Schema(
        (*STATIC, *(column for series in SERIES for column in series.columns)),
        "died",
        "1: died in intensive care",
    )
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"model": ("summary", "tcn")}
    downloads = (eicu.download("patient.csv.gz"), eicu.download("hospital.csv.gz"), *_FILES)
    parts = (apache, eicu, hourly_features, published, initialisation, tcn)

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        """(N, F): age, sex and the public log odds / 5 last; before them, for "summary", the mean
        of worst, average and latest deviation of every series; for "tcn", all series as
        (series, HOURS) flat: the latest value's place, then 1 where measured in that hour."""
        values = {series.name: series.values(table) for series in SERIES}
        if self.options["model"] == "summary":
            parts = [series.summary(values[series.name]) for series in SERIES]
        else:
            parts = [series.carried(values[series.name]) for series in SERIES]
            parts += [~np.isnan(values[series.name]) for series in SERIES]
        static = [column.features(table[column.name]) for column in STATIC]
        rows = np.concatenate([*parts, *static], axis=1)
        return initialisation.with_score(rows, _log_odds(values, table))

    def model(self) -> nn.Module:
        if self.options["model"] == "summary":
            hinges = sum(len(series.normal.names("")) for series in SERIES)
            return initialisation.from_score(hinges + len(STATIC) + 1)
        return tcn.TemporalNet(2 * len(SERIES), HOURS, len(STATIC) + 1)

    def public_score(self, table: Table) -> npt.NDArray[np.float64]:
        """Probability by what of APACHE III's points these columns tell."""
        values = {series.name: series.values(table) for series in SERIES}
        return initialisation.probability(_log_odds(values, table))

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Region -> one stay of each patient. Raises WardroundError: NO_DATA, MALFORMED_DATA."""
        import pandas as pd

        hours, static, outcome = (
            pd.read_parquet(io.BytesIO(published.published(root, file, self.name)))
            for file in _FILES
        )
        labels = dict(zip(outcome["stay_id"], outcome["label"], strict=True))
        known = {s: r for s, r in eicu.stays(root, self.name).items() if int(s) in labels}
        rows = list(eicu.one_a_patient(known).values())
        hours["hour"] = hours["time"].dt.total_seconds() // 3600
        series = hours[hours["hour"] < HOURS].pivot(index="stay_id", columns="hour")
        static = static.set_index("stay_id")
        return {
            region: _table([r for r in rows if r["region"] == region], series, static, labels)
            for region in sorted({row["region"] for row in rows})
        }


def _table(
    rows: Sequence[Mapping[str, str]],
    series: pd.DataFrame,
    static: pd.DataFrame,
    labels: Mapping[int, int],
) -> Table:
    chosen = [int(row["patientunitstayid"]) for row in rows]
    table: dict[str, npt.NDArray[Any]] = {
        PATIENT: np.array([row["uniquepid"] for row in rows], dtype=object),
        "age": static["age"].loc[chosen].to_numpy(dtype=np.float64),
        "sex": static["sex"].loc[chosen].str.lower().to_numpy(dtype=object),
        "died": np.array([labels[stay] for stay in chosen], dtype=np.float64),
    }
    for source, hourly in _BY_YAIB_NAME.items():
        values = series[source].loc[chosen].to_numpy(dtype=np.float64)
        table |= {column.name: values[:, hour] for hour, column in enumerate(hourly.columns)}
    return table


def _log_odds(
    values: Mapping[str, npt.NDArray[np.float64]], table: Table
) -> npt.NDArray[np.float64]:
    worst = {
        name: apache.worst(values[name], normal)
        for name, normal in apache.NORMAL.items()
        if name in values
    }
    urine = values["urine_output"]
    measured = ~np.isnan(urine).all(axis=1)
    worst |= {
        "age": STATIC[0].numbers(table["age"]),
        "hematocrit": _HEMATOCRIT_OF_HEMOGLOBIN
        * apache.worst(values["hemoglobin"], apache.NORMAL["hematocrit"]),
        "urine_output": np.where(measured, np.nansum(urine, axis=1), np.nan),
    }
    return apache.log_odds(apache.points(worst))
