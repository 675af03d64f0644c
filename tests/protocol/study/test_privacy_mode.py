"""The privacy modes by their traits."""

from dataclasses import astuple
from typing import get_args

import pytest

from protocol.study.privacy_mode import QUERY_MODE, Mode, noise_share, traits_of


def test_the_modes_are_what_the_design_says() -> None:
    traits = {mode: traits_of(mode) for mode in get_args(Mode)}
    assert {mode: astuple(t) for mode, t in traits.items()} == {
        "none": ("plain_steps", "nobody", "sites_together"),
        "local": ("dp_sgd", "each_site", "each_site"),
        "distributed": ("clipped_sum", "sites_together", "sites_together"),
    }
    assert [mode for mode, t in traits.items() if t.private] == ["local", "distributed"]
    assert [mode for mode, t in traits.items() if t.one_sum] == ["distributed"]
    assert [mode for mode, t in traits.items() if t.shares_noise] == ["distributed"] == [QUERY_MODE]


@pytest.mark.parametrize("sites", [3, 4, 50])
def test_shares_of_the_honest_make_up_the_noise(sites: int) -> None:
    """DESIGN: mu / (|U| - x) where the sites share it, all of it at each site in mode local."""
    for colluding in (1, 2):
        honest, mu = sites - colluding, 10.0
        assert noise_share("nobody", mu, honest) == 0
        assert noise_share("each_site", mu, honest) == mu
        assert honest * noise_share("sites_together", mu, honest) == pytest.approx(mu)
