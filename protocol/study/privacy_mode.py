"""The privacy modes: what a site computes in a round, and who adds the noise to it.

All that sets modes apart follows from these traits. A mode named in `Mode` and nowhere else has
none: mypy says so, and no study can be built with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

Mode = Literal["none", "local", "distributed"]
Training = Literal["plain_steps", "dp_sgd", "clipped_sum"]
NoiseSource = Literal["nobody", "each_site", "sites_together"]
QUERY_MODE: Mode = "distributed"
"""The one in which queries are answered."""


@dataclass(frozen=True)
class ModeTraits:
    """training: what a site does in a round: steps of plain SGD, steps of DP-SGD, or one sum of
    clipped gradients. noise_source: who adds the noise: nobody, every site all of it, or the sites
    together, a share each."""

    training: Training
    noise_source: NoiseSource

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
        """Whether noise suffices only in the sum, so that epsilon hangs on secure aggregation."""
        match self.noise_source:
            case "sites_together":
                return True
            case "nobody" | "each_site":
                return False
        assert_never(self.noise_source)

    def noise_share(self, variance: float, honest: int) -> float:
        """Variance of the noise that one site adds, where that of a sum has to be `variance` with
        the shares of `honest` sites alone."""
        match self.noise_source:
            case "nobody":
                return 0.0
            case "each_site":
                return variance
            case "sites_together":
                return variance / honest
        assert_never(self.noise_source)


def traits_of(mode: Mode) -> ModeTraits:
    """The row of the table that is the mode's."""
    match mode:
        case "none":
            return ModeTraits("plain_steps", "nobody")
        case "local":
            return ModeTraits("dp_sgd", "each_site")
        case "distributed":
            return ModeTraits("clipped_sum", "sites_together")
    assert_never(mode)
