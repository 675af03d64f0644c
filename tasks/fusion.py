"""Pneumonia, from a chest picture and the health record of the same patient: late fusion.

Either side may be missing: a picture of zeros, or a record without any value.
"""

from __future__ import annotations

from torch import nn

from tasks.base import Task
from tasks.encoders import Hinge
from tasks.schema import Column, Image, Schema


def _vital(name: str, meaning: str, unit: str, low: float, high: float, normal: Hinge) -> Column:
    return Column(
        name,
        f"{meaning}, nearest to the picture",
        unit=unit,
        low=low,
        high=high,
        flag_missing=False,
        encoder=normal,
    )


COLUMNS = (
    Column("age", "age", unit="a", low=0, high=90, flag_missing=False),
    Column("sex", "sex", "category", categories=("female", "male")),
    _vital("temperature", "body temperature", "Cel", 34, 42, Hinge(36, 37.8)),
    _vital("heart_rate", "heart rate", "/min", 30, 200, Hinge(50, 100)),
    _vital("respiratory_rate", "respiratory rate", "/min", 6, 60, Hinge(10, 20)),
    _vital("systolic_bp", "systolic blood pressure", "mm[Hg]", 60, 220, Hinge(100, 160)),
    _vital("spo2", "peripheral oxygen saturation", "%", 70, 100, Hinge(low=95)),
    _vital("wbc", "white blood cells", "10*3/uL", 0.5, 40, Hinge(4, 11)),
    _vital("crp", "C-reactive protein", "mg/L", 0, 400, Hinge(high=10)),
    _vital("bun", "blood urea nitrogen", "mg/dL", 2, 120, Hinge(high=20)),
)


class Fusion(Task):
    """Two branches whose evidence adds up."""

    name = "fusion"
    title = "Pneumonia, from a chest picture and the health record"
    schema = Schema(
        COLUMNS,
        "pneumonia",
        "1: pneumonia",
        images=(Image("picture", "frontal chest radiograph", 28, 28),),
    )

    def model(self) -> nn.Module:
        return nn.Linear(self.schema.width, 1)
