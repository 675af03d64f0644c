"""The server's learning rate from round to round: a pure function, so that a resumed study needs
to remember nothing."""

from __future__ import annotations

import math

from protocol.study.algorithms import Constant, Cosine, Step


def factor(schedule: Constant | Cosine | Step, round_: int, rounds: int) -> float:
    """What round `round_` (1-based, of `rounds`) multiplies the optimiser's lr with.

    Warm-up over w rounds: round / w. After it, with t of T rounds done since: cosine (Loshchilov
    and Hutter 2017, equation 5) floor + (1 - floor) (1 + cos(pi t / T)) / 2; step: factor ^
    floor(t / every).
    """
    if round_ <= schedule.warmup:
        return round_ / schedule.warmup
    done, total = round_ - 1 - schedule.warmup, max(1, rounds - schedule.warmup)
    if isinstance(schedule, Cosine):
        return schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * done / total)) / 2
    if isinstance(schedule, Step):
        return float(schedule.factor ** (done // schedule.every))
    return 1.0
