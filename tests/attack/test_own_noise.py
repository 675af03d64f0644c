"""Noise that x colluding sites know and take out again: what is left is what epsilon was paid for.

Measured on sums that real sites' answers open to, over thousands of coordinates at once (a
histogram of 8,192), where a sample variance errs by 1.6% of itself (one standard deviation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client.training.contribution import Contributor
from protocol.study.vector_layout import Sections, histogram_variance
from tests.attack.simulated import Federation, changed, cohorts, study_of

_SIGMAS = 5.5


@pytest.mark.parametrize(
    ("present", "colluding"), [(3, 1), (4, 1), (5, 1), (6, 1), (3, 2), (4, 2), (6, 2)]
)
def test_the_opened_noise_is_mu_times_u_over_u_less_x_and_mu_without_the_colluders(
    present: int, colluding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    patients = cohorts(6)
    study = study_of(patients, "privacy=distributed", "privacy.epsilon=5", "rounds=1")
    study = changed(study, "aggregation", colluding_sites=colluding)
    study = changed(study, "evaluation", bins=4096)
    mu = (study.evaluation.noise_multiplier * study.evaluation.scale) ** 2
    drawn: dict[str, np.ndarray] = {}
    counted: dict[str, np.ndarray] = {}
    noise, contribution = Contributor.noise, Contributor.contribution

    def noting(self: Contributor, sections: Sections, participants: int) -> np.ndarray:
        assert participants == present
        return drawn.setdefault(self.context.site, noise(self, sections, participants))

    def counting(self: Contributor, *args: Any) -> np.ndarray:
        return counted.setdefault(self.context.site, contribution(self, *args))

    monkeypatch.setattr(Contributor, "noise", noting)
    monkeypatch.setattr(Contributor, "contribution", counting)
    federation = Federation.of(patients)
    federation.propose(study)
    names = tuple(sorted(federation.sites))[:present]
    last = study.optimisation.rounds + 1
    readys = federation.prepare(study, round_=last, train=False, evaluate=True, among=names)
    opened = federation.open(study, federation.collect(study, readys, round_=last))
    left = opened - np.sum([counted[site] for site in names], axis=0)
    np.testing.assert_array_equal(left, np.sum(list(drawn.values()), axis=0))

    error = _SIGMAS * np.sqrt(2 / len(left))
    assert np.mean(left**2) == pytest.approx(mu * present / (present - colluding), rel=error)
    for site in names[:colluding]:  # the colluders take their own out again
        left = left - drawn[site]
    assert np.mean(left**2) == pytest.approx(mu, rel=error)
    assert histogram_variance(study, present) * (present - colluding) == pytest.approx(mu)


def test_a_site_that_adds_no_noise_leaves_mu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One liar is within what x = 1 tolerates."""
    patients = cohorts(4)
    study = study_of(patients, "privacy=distributed", "privacy.epsilon=5", "rounds=1")
    study = changed(study, "evaluation", bins=4096)
    mu = (study.evaluation.noise_multiplier * study.evaluation.scale) ** 2
    noise, contribution = Contributor.noise, Contributor.contribution
    counted: dict[str, np.ndarray] = {}

    def lying(self: Contributor, sections: Sections, participants: int) -> np.ndarray:
        share = noise(self, sections, participants)
        return share * 0 if self.context.site == "site0" else share

    def counting(self: Contributor, *args: Any) -> np.ndarray:
        return counted.setdefault(self.context.site, contribution(self, *args))

    monkeypatch.setattr(Contributor, "noise", lying)
    monkeypatch.setattr(Contributor, "contribution", counting)
    federation = Federation.of(patients)
    federation.propose(study)
    readys = federation.prepare(study, round_=2, train=False, evaluate=True)
    opened = federation.open(study, federation.collect(study, readys, round_=2))
    left = opened - np.sum(list(counted.values()), axis=0)
    assert np.mean(left**2) == pytest.approx(mu, rel=_SIGMAS * np.sqrt(2 / len(left)))
