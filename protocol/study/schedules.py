"""A learning rate from round to round, the server's or the sites': a pure function, so that a
resumed study needs to remember nothing."""

from __future__ import annotations

import math
from typing import assert_never

from protocol.study.algorithms import Constant, Cosine, Schedule, Step


def factor(schedule: Schedule, round_: int, rounds: int) -> float:
    """What round `round_` (1-based, of `rounds`) multiplies the learning rate with.

    Warm-up over w rounds: round / w. After it, with t of T rounds done since: cosine (Loshchilov
    and Hutter 2017, equation 5) floor + (1 - floor) (1 + cos(pi t / T)) / 2; step: factor ^
    floor(t / every).
    """
    if round_ <= schedule.warmup:
        return round_ / schedule.warmup
    done, total = round_ - 1 - schedule.warmup, max(1, rounds - schedule.warmup)
    match schedule:
        case Constant():
            return 1.0
        case Cosine(floor=floor):
            return floor + (1 - floor) * (1 + math.cos(math.pi * done / total)) / 2
        case Step():
            return float(schedule.factor ** (done // schedule.every))
    assert_never(schedule)
