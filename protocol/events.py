"""What is released of a patient, as values: a privacy event knows nothing of accounting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from protocol.errors import Code, WardroundError
from protocol.quantise import Rounding, Sensitivity, sensitivity

LEAST_VARIANCE = 1.0
"""Of Skellam noise, in squared integer units: `accounting.KAPPA` is checked from here on."""


@dataclass(frozen=True)
class Event:
    """`count` releases of one kind, each over a fresh Poisson sample of the patients.

    noise_multiplier: standard deviation over the clip norm; for Skellam noise that of the sum over
    all honest sites, sqrt(mu) / scale. sampling_rate: q. Skellam alone: dimension (coordinates),
    scale (the clip norm in integers), rounding and slack (`quantise.sensitivity`), and whether the
    sites share the noise among them (`broken_epsilon`). band: which patients it touches, by their
    u in [0, 1). Raises WardroundError(CONFIGURATION) naming the first field that makes no sense.
    """

    mechanism: Literal["gaussian", "skellam"]
    noise_multiplier: float
    sampling_rate: float = 1.0
    count: int = 1
    dimension: int = 0
    scale: float = 0.0
    rounding: Rounding = "patient"
    slack: float = 0.0
    shared: bool = True
    band: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        require(self.mechanism in ("gaussian", "skellam"), "mechanism is unknown")
        require(0 < self.noise_multiplier < math.inf, "noise_multiplier must be above 0")
        require(0 < self.sampling_rate <= 1, "sampling_rate must be above 0 and at most 1")
        require(isinstance(self.count, int) and self.count >= 0, "count must not be negative")
        require(
            len(self.band) == 2 and 0 <= self.band[0] < self.band[1] <= 1,
            "band must be an interval within [0, 1]",
        )
        if self.mechanism == "skellam":
            require(self.dimension >= 1, "dimension must be at least 1")
            require(1 <= self.scale < math.inf, "scale must be at least 1")
            require(self.rounding in ("none", "patient", "site"), "rounding is unknown")
            require(0 <= self.slack < math.inf, "slack must not be negative")
            require(
                LEAST_VARIANCE <= self.variance < math.inf,
                "noise_multiplier times scale must be at least 1 (integers hide the noise)",
            )

    @property
    def variance(self) -> float:
        """mu, of Skellam noise, in squared integer units."""
        return (self.noise_multiplier * self.scale) * (self.noise_multiplier * self.scale)

    @property
    def sensitivity(self) -> Sensitivity:
        """In integers, of a Skellam event."""
        return sensitivity(self.scale, self.dimension, self.rounding, self.slack)


def require(holds: bool, what: str) -> None:
    """`holds` is False for a NaN wherever a comparison decides."""
    if not holds:
        raise WardroundError(
            Code.CONFIGURATION,
            f"A privacy event makes no sense: {what}.",
            remedy="Correct the study's privacy and evaluation sections.",
        )
