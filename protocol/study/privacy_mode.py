"""The privacy modes: what a site computes in a round, and who adds the noise to it.

All differences between modes follow from these traits. mypy reports a mode without traits, and no
study can be built with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

Mode = Literal["none", "local", "distributed"]
Training = Literal["plain_steps", "dp_sgd", "clipped_sum"]
NoiseSource = Literal["nobody", "each_site", "sites_together"]
QUERY_MODE: Mode = "distributed"
"""The mode of every query."""


@dataclass(frozen=True)
class ModeTraits:
    """training: the work of a round: steps of plain SGD, steps of DP-SGD, or one sum of clipped
    gradients. noise_source: nobody adds noise to it, every site adds all of it, or each site a
    share. evaluation_noise_source: the same for an evaluation that is noised."""

    training: Training
    noise_source: NoiseSource
    evaluation_noise_source: NoiseSource

    @property
    def private(self) -> bool:
        """Whether an epsilon bounds what training releases."""
        match self.noise_source:
            case "nobody":
                return False
            case "each_site" | "sites_together":
                return True
        assert_never(self.noise_source)

    @property
    def one_sum(self) -> bool:
        """Whether a round is one sum of clipped gradients rather than several steps at a site."""
        match self.training:
            case "clipped_sum":
                return True
            case "plain_steps" | "dp_sgd":
                return False
        assert_never(self.training)

    @property
    def shares_noise(self) -> bool:
        """Whether the noise of training suffices only in the sum."""
        return is_shared(self.noise_source)


def is_shared(source: NoiseSource) -> bool:
    """Whether noise suffices only in the sum, so that epsilon depends on secure aggregation."""
    match source:
        case "sites_together":
            return True
        case "nobody" | "each_site":
            return False
    assert_never(source)


def noise_share(source: NoiseSource, variance: float, honest: int) -> float:
    """Variance of the noise that one site adds so that the shares of `honest` sites alone give a
    sum the noise variance `variance`."""
    match source:
        case "nobody":
            return 0.0
        case "each_site":
            return variance
        case "sites_together":
            return variance / honest
    assert_never(source)


def traits_of(mode: Mode) -> ModeTraits:
    """The traits of a mode."""
    match mode:
        case "none":
            return ModeTraits("plain_steps", "nobody", "sites_together")
        case "local":
            return ModeTraits("dp_sgd", "each_site", "each_site")
        case "distributed":
            return ModeTraits("clipped_sum", "sites_together", "sites_together")
    assert_never(mode)
