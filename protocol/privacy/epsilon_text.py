"""Epsilon as people read it. No rounding is in favour of whoever reports it."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

_STEP = Decimal("0.001")


def rounded_up(epsilon: float | None) -> str:
    """Three decimals, rounded up. None and infinity, where nothing is promised: `infinite`."""
    if epsilon is None or not math.isfinite(epsilon):
        return "infinite"
    return f"{Decimal(repr(float(epsilon))).quantize(_STEP, ROUND_CEILING):f}"


def rounded_down(epsilon: float) -> str:
    """What remains of a budget: three decimals, rounded down, and never below 0."""
    if math.isinf(epsilon):
        return "infinite"
    return f"{Decimal(repr(float(max(0.0, epsilon)))).quantize(_STEP, ROUND_FLOOR):f}"
