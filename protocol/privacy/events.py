"""Privacy events: what is released about a patient, as plain values; accounting is elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, assert_never, get_args

from protocol.errors import Code, WardroundError
from protocol.privacy.discrete_laplace import LONGEST, share_epsilon
from protocol.secagg.fixed_point import Rounding, Sensitivity, sensitivity

Mechanism = Literal["gaussian", "skellam", "laplace"]
MIN_VARIANCE = 1.0
"""Of Skellam noise, in squared integer units: `accounting.KAPPA` is checked from here on."""
MAX_EPSILON = 100.0
"""Of one release with discrete Laplace noise."""


@dataclass(frozen=True)
class Event:
    """`count` releases of one kind, each over a fresh Poisson sample of the patients.

    noise_multiplier: standard deviation over the clip norm; for Skellam noise that of the sum over
    all honest sites, sqrt(mu) / scale; for discrete Laplace noise its parameter over `scale`, the
    inverse of a release's epsilon. sampling_rate: q. Noise on integers alone: dimension
    (coordinates), scale (the clip norm in integers; for Laplace in L1), rounding and slack
    (`fixed_point.sensitivity`), and whether the sites share the noise (`broken_epsilon`).
    sites_per_patient: k, at how many sites the sum may hold one patient, who is sampled at each of
    them apart. band: which patients it touches, by their u in [0, 1); names: by whose names u is
    given, such as one site's patient index; empty where nobody is sure, so that the event may be
    about any patient. Raises WardroundError(CONFIGURATION) naming the first field that makes no
    sense.
    """

    mechanism: Mechanism
    noise_multiplier: float
    sampling_rate: float = 1.0
    count: int = 1
    dimension: int = 0
    scale: float = 0.0
    rounding: Rounding = "patient"
    slack: float = 0.0
    shared: bool = True
    band: tuple[float, float] = (0.0, 1.0)
    names: str = ""
    sites_per_patient: int = 1

    def __post_init__(self) -> None:
        require(self.mechanism in get_args(Mechanism), "mechanism is unknown")
        require(0 < self.noise_multiplier < math.inf, "noise_multiplier must be above 0")
        require(0 < self.sampling_rate <= 1, "sampling_rate must be above 0 and at most 1")
        require(isinstance(self.count, int) and self.count >= 0, "count must not be negative")
        require(
            len(self.band) == 2 and 0 <= self.band[0] < self.band[1] <= 1,
            "band must be an interval within [0, 1]",
        )
        require(
            isinstance(self.sites_per_patient, int) and self.sites_per_patient >= 1,
            "sites_per_patient must be at least 1",
        )
        match self.mechanism:
            case "gaussian":
                return
            case "skellam":
                require(self.dimension >= 1, "dimension must be at least 1")
                require(1 <= self.scale < math.inf, "scale must be at least 1")
                require(self.rounding in get_args(Rounding), "rounding is unknown")
                require(0 <= self.slack < math.inf, "slack must not be negative")
                require(
                    MIN_VARIANCE <= self.variance < math.inf,
                    "noise_multiplier times scale must be at least 1 (integers hide the noise)",
                )
            case "laplace":
                require(self.sampling_rate == 1, "laplace releases take every patient")
                require(self.dimension >= 1, "dimension must be at least 1")
                require(self.scale >= 1 and self.scale == int(self.scale), "scale must be whole")
                require(
                    self.epsilon <= MAX_EPSILON and self.noise_multiplier * self.scale <= LONGEST,
                    "the noise of a laplace release is too small or too large",
                )
            case never:
                assert_never(never)

    @property
    def epsilon(self) -> float:
        """Of one release with discrete Laplace noise, pure (delta = 0), about a patient who is at
        all his sites."""
        return self.sites_per_patient / self.noise_multiplier

    @property
    def variance(self) -> float:
        """mu, of Skellam noise, in squared integer units."""
        return (self.noise_multiplier * self.scale) * (self.noise_multiplier * self.scale)

    @property
    def sensitivity(self) -> Sensitivity:
        """In integers, of a Skellam event: what a patient moves at each site that draws him."""
        return sensitivity(self.scale, self.dimension, self.rounding, self.slack)


def share_alone(event: Event, honest: int) -> Event:
    """A release whose noise `honest` sites share, as whoever sees one share by itself sees it: a
    patient at k sites is in k of them.

    Skellam: a part 1 / honest of the variance. Laplace: `discrete_laplace.share_epsilon`.
    Raises WardroundError(CONFIGURATION) where a share has hardly any noise.
    """
    event = each_site_alone(event)
    if not event.shared:
        return event
    match event.mechanism:
        case "gaussian":
            return event
        case "skellam":
            multiplier = event.noise_multiplier / math.sqrt(honest)
        case "laplace":
            multiplier = 1 / share_epsilon(event.epsilon, event.scale, honest)
        case never:
            assert_never(never)
    return replace(event, noise_multiplier=multiplier, shared=False)


def each_site_alone(event: Event) -> Event:
    """A release in which every site has noise of its own: k releases about a patient at k sites."""
    return replace(event, count=event.count * event.sites_per_patient, sites_per_patient=1)


def noise_in_words(mechanism: Mechanism) -> str:
    """The name of its distribution."""
    match mechanism:
        case "gaussian":
            return "Gaussian"
        case "skellam":
            return "Skellam"
        case "laplace":
            return "discrete Laplace"
    assert_never(mechanism)


def require(holds: bool, what: str) -> None:
    """`holds` is False for a NaN wherever a comparison decides."""
    if not holds:
        raise WardroundError(
            Code.CONFIGURATION,
            f"A privacy event makes no sense: {what}.",
            remedy="Correct the study's privacy and evaluation sections.",
        )
