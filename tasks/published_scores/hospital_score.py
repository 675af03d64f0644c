"""The HOSPITAL score: the risk of readmission within 30 days, in published points.

Donze et al. 2013, "Potentially avoidable 30-day hospital readmissions in medical patients" (JAMA
Internal Medicine 173:632-638); risks as its international validation found them (Donze et al.
2016, the same journal, 176:496-502). Two of its seven items (haemoglobin and sodium at discharge)
are in no column of the task and count as normal: the points run from 0 to 11 instead of 13.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]

SLOPE, INTERCEPT = 0.195, -3.14
"""Log odds a point: the line through the published risks, 5.8% (0 to 4 points), 11.9% (5 and 6)
and 22.8% (7 to 13), each at the middle of its group."""


def points(
    oncology: Truths, procedure: Truths, urgent: Truths, stays: Numbers, days: Numbers
) -> Numbers:
    """(N,) each -> (N,) points. oncology: discharged from there; procedure: any during the stay;
    urgent: not an elective admission; stays: in hospital in the year before; days: of this stay.
    """
    admissions = np.select([stays > 5, stays >= 1], [5, 2], default=0)
    return np.asarray(2.0 * oncology + procedure + urgent + admissions + 2 * (days >= 5))


def log_odds(points: Numbers) -> Numbers:
    """Points -> log odds of readmission within 30 days."""
    return INTERCEPT + SLOPE * points
