"""NEWS2, the National Early Warning Score: how ill a patient on a ward is, in published points.

Royal College of Physicians, "National Early Warning Score (NEWS) 2: Standardising the assessment of
acute-illness severity in the NHS", updated report of a working party, London 2017, chart 1. Oxygen
saturation is scored by scale 1 (scale 2 is for patients of whom a doctor has said so, which records
do not tell). What was not measured scores 0, as if it were normal.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

_CHART: Mapping[str, tuple[tuple[float, int], ...]] = {
    "respiratory_rate": ((0, 3), (8.5, 1), (11.5, 0), (20.5, 2), (24.5, 3)),
    "spo2": ((0, 3), (91.5, 2), (93.5, 1), (95.5, 0)),
    "systolic_bp": ((0, 3), (90.5, 2), (100.5, 1), (110.5, 0), (219.5, 3)),
    "heart_rate": ((0, 3), (40.5, 1), (50.5, 0), (90.5, 1), (110.5, 2), (130.5, 3)),
    "temperature": ((0, 3), (35.05, 1), (36.05, 0), (38.05, 1), (39.05, 2)),
    "fio2": ((0, 0), (21.5, 2)),
    "gcs": ((0, 3), (14.5, 0)),
}
"""Column -> where each band begins, half a step below the chart's whole numbers (/min, %, mm[Hg])
or tenths (Cel), and its points. More oxygen than air's 21% is "on oxygen"; a Glasgow coma score
below 15 is "not alert"."""

MOST = 20
SLOPE, INTERCEPT = 0.5, -5.0
"""Log odds a point, and those of 0 points, rounded so that 0 to 20 points fill [-5, 5]. What is
published of deaths within 24 hours (BMJ Open, the table of NEWS bands in chronic obstructive
pulmonary disease: 0% of them at 0 points, 10% at 1 to 4, 19% at 5 and 6, 71% at 7 and more) gives
0.6 a point. An order of patients, such as the AUC's, is the same for any slope."""


def points(values: Mapping[str, Numbers]) -> Numbers:
    """(N,) of each column of the chart that is known, NaN where not measured -> (N,) points."""
    total = np.zeros(len(next(iter(values.values()))))
    for name, bands in _CHART.items():
        if name in values:
            starts, scores = (
                np.array(column, dtype=np.float64) for column in zip(*bands, strict=True)
            )
            place = np.maximum(np.searchsorted(starts, values[name], side="right") - 1, 0)
            total += np.where(np.isnan(values[name]), 0, scores[place])
    return total


def log_odds(points: Numbers) -> Numbers:
    """Points -> log odds of death, intensive care or cardiac arrest within 24 hours."""
    return INTERCEPT + SLOPE * points
