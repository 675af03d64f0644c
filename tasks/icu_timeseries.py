"""Death in intensive care, from 24 hourly values of vital signs and laboratory results.

The mortality cohort that YAIB (van de Water et al. 2024) draws from the eICU demo 2.0.1 (ODbL 1.0,
Pollard et al. 2018): stays of at least 30 hours, one per patient; the sites are regions.
"""

from __future__ import annotations

from torch import nn

from tasks.base import Task
from tasks.encoders import Hinge
from tasks.hourly import Hourly
from tasks.schema import Column, Schema

SERIES = (
    Hourly("heart_rate", "heart rate", "/min", 20, 200, Hinge(50, 100)),
    Hourly("systolic_bp", "systolic blood pressure", "mm[Hg]", 40, 250, Hinge(100, 160)),
    Hourly("diastolic_bp", "diastolic blood pressure", "mm[Hg]", 20, 150, Hinge(50, 90)),
    Hourly("mean_bp", "mean arterial pressure", "mm[Hg]", 30, 180, Hinge(70, 110)),
    Hourly("respiratory_rate", "respiratory rate", "/min", 4, 60, Hinge(10, 22)),
    Hourly("spo2", "peripheral oxygen saturation", "%", 60, 100, Hinge(low=94)),
    Hourly("temperature", "body temperature", "Cel", 30, 42, Hinge(36, 38.3)),
    Hourly("fio2", "inspired oxygen", "%", 21, 100, Hinge(high=40)),
    Hourly("urine_output", "urine of the hour", "mL", 0, 1000, Hinge(low=30)),
    Hourly("bun", "blood urea nitrogen", "mg/dL", 2, 120, Hinge(high=20)),
    Hourly("creatinine", "serum creatinine", "mg/dL", 0.2, 8, Hinge(high=1.4)),
    Hourly("sodium", "serum sodium", "mmol/L", 110, 170, Hinge(135, 148)),
    Hourly("potassium", "serum potassium", "mmol/L", 2, 8, Hinge(3.5, 5.2)),
    Hourly("chloride", "serum chloride", "mmol/L", 75, 135, Hinge(96, 110)),
    Hourly("bicarbonate", "serum bicarbonate", "mmol/L", 5, 45, Hinge(21, 30)),
    Hourly("glucose", "serum glucose", "mg/dL", 20, 600, Hinge(60, 200)),
    Hourly("calcium", "serum calcium", "mg/dL", 5, 14, Hinge(8, 10.5)),
    Hourly("wbc", "white blood cells", "10*3/uL", 0.5, 50, Hinge(4, 15)),
    Hourly("hemoglobin", "haemoglobin", "g/dL", 4, 18, Hinge(low=10)),
    Hourly("platelets", "platelets", "10*3/uL", 5, 700, Hinge(low=150)),
    Hourly("lactate", "serum lactate", "mmol/L", 0.3, 20, Hinge(high=2)),
    Hourly("ph", "arterial pH", "[pH]", 6.8, 7.8, Hinge(7.33, 7.5)),
    Hourly("pao2", "arterial partial pressure of oxygen", "mm[Hg]", 30, 500, Hinge(low=70)),
    Hourly(
        "paco2", "arterial partial pressure of carbon dioxide", "mm[Hg]", 15, 120, Hinge(35, 50)
    ),
    Hourly("bilirubin", "total bilirubin", "mg/dL", 0.1, 20, Hinge(high=2)),
    Hourly("albumin", "serum albumin", "g/dL", 1, 6, Hinge(low=3)),
    Hourly("inr", "international normalised ratio", "{INR}", 0.8, 10, Hinge(high=1.5)),
)
STATIC = (
    Column(
        "age",
        "age (90 stands for 90 and above)",
        unit="a",
        low=18,
        high=90,
        encoder=Hinge(high=45),
        flag_missing=False,
    ),
    Column("sex", "sex", "category", categories=("female", "male")),
)


class IcuTimeseries(Task):
    """Summary statistics with a linear head, or a temporal convolutional net."""

    name = "icu_timeseries"
    title = "Death in intensive care, from its first 24 hours"
    licence = "ODbL 1.0 (eICU Collaborative Research Database Demo 2.0.1, doi 10.13026/4mxk-na84)"
    schema = Schema(
        (*STATIC, *(column for series in SERIES for column in series.columns)),
        "died",
        "1: died in intensive care",
    )

    def model(self) -> nn.Module:
        linear = nn.Linear(self.schema.width, 1)
        nn.init.zeros_(linear.weight)
        nn.init.constant_(linear.bias, -2.9)
        return linear
