"""What one audit found, beside what the study claims."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from client.privacy_audit.released_sums import Part
from protocol.privacy.accounting import epsilon
from protocol.privacy.events import MIN_VARIANCE, Event

Audit = Literal["many runs", "one run"]


@dataclass(frozen=True)
class Finding:
    """epsilon: of all attempts of the audited part, by accounting. bound: what epsilon is not
    below, with `confidence`, if every attempt is as the audited ones. estimate: the same without
    confidence. runs: releases of each data set, or canaries. inf: no noise explains what was seen.
    """

    audit: Audit
    part: Part
    weights: str
    epsilon: float
    bound: float
    estimate: float
    runs: int
    confidence: float

    @property
    def holds(self) -> bool:
        """Whether the claim survives."""
        return self.bound <= self.epsilon


def with_shift(event: Event, mu: float) -> Event | None:
    """The event with the noise under which neighbours lie `mu` of its deviations apart; None where
    that is hardly any noise. Skellam noise counts as accounting counts it (`accounting`)."""
    multiplier = 1 / mu if mu > 0 else math.inf
    match event.mechanism:
        case "gaussian":
            return replace(event, noise_multiplier=multiplier) if mu < math.inf else None
        case "skellam":
            variance = (multiplier * event.sensitivity.l2) ** 2 + 1 / 12
            if not variance >= MIN_VARIANCE:
                return None
            return replace(event, noise_multiplier=math.sqrt(variance) / event.scale)
        case "laplace":
            return None
    assert_never(event.mechanism)


def epsilon_at(mu: float, event: Event, delta: float) -> float:
    """Of the event, composed as often as it counts, at the noise that `mu` shows."""
    if mu < 1e-5:
        return 0.0
    found = with_shift(event, mu)
    return math.inf if found is None else epsilon([found], delta)
