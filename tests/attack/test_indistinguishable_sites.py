"""A site whose sample is empty, or whose patient gives no number, answers like any other.

Bytes, lengths and codes are compared, and what a share looks like; the time it takes is no claim.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from client.data.cohort import Cohort
from client.training.contribution import Contributor
from protocol.errors import Code
from protocol.secagg.aggregate import GUARDS
from protocol.wire import messages
from protocol.wire.messages import Frame, Ready, Refusal, Share
from tests.attack.simulated import Federation, changed, cohorts, study_of
from tests.narrowing import instance

ODD = "site1"


def nobody_drawn(cohort: Cohort) -> Cohort:
    """No patient trains: every Poisson sample is empty."""
    return replace(cohort, train=np.zeros_like(cohort.train))


def not_a_number(cohort: Cohort) -> Cohort:
    """One patient's gradient and score are NaN."""
    features = np.array(cohort.features)
    features[np.flatnonzero(cohort.in_training)[0]] = np.nan
    features[np.flatnonzero(~cohort.in_training)[0]] = np.nan
    return replace(cohort, features=features)


def enormous(cohort: Cohort) -> Cohort:
    """One patient's gradient overflows."""
    features = np.array(cohort.features)
    features[np.flatnonzero(cohort.in_training)[0]] = 3e38
    return replace(cohort, features=features)


STRANGE = {"empty sample": nobody_drawn, "NaN": not_a_number, "overflow": enormous}


def body(frame: Frame) -> bytes:
    return b"".join(bytes(chunk) for chunk in frame.body)


@pytest.mark.parametrize("mode", ["distributed", "local"])
@pytest.mark.parametrize("name", STRANGE)
def test_nothing_but_random_bits_differs(
    name: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = cohorts(4)
    patients = normal | {ODD: STRANGE[name](normal[ODD])}
    steps = ["local_steps=2"] if mode == "local" else ["privacy.sampling_rate=1"]
    study = study_of(
        patients, f"privacy={mode}", "privacy.epsilon=5", "rounds=2", "evaluation.every=1", *steps
    )
    study = changed(study, "evaluation", bins=2048)
    added: dict[str, np.ndarray] = {}
    contribution, noise = Contributor.contribution, Contributor.noise

    def counting(self: Contributor, *args: Any) -> np.ndarray:
        return added.setdefault(self.context.site, contribution(self, *args))

    def drawing(self: Contributor, *args: Any) -> np.ndarray:
        drawn = noise(self, *args)
        added[self.context.site] = added[self.context.site] + drawn
        return drawn

    monkeypatch.setattr(Contributor, "contribution", counting)
    monkeypatch.setattr(Contributor, "noise", drawing)
    federation = Federation.of(patients)
    federation.propose(study)
    readys = federation.prepare(study, round_=2, evaluate=True)
    shares = federation.collect(study, readys, round_=2)

    for answers, kind in ((readys, Ready), (shares, Share)):
        assert {type(messages.parse(frame)) for frame in answers.values()} == {kind}
        assert len({len(frame.header) for frame in answers.values()}) == 1
        assert len({len(body(frame)) for frame in answers.values()}) == 1
        assert len({tuple(len(bytes(c)) for c in f.body) for f in answers.values()}) == 1
    assert all(not paid.errors for paid in federation.governance.values())
    assert {tuple(paid.debits) for paid in federation.governance.values()} == {(1,)}

    np.testing.assert_array_equal(
        federation.open(study, shares), np.sum(list(added.values()), axis=0)
    )
    counts = {
        site: np.bincount(np.frombuffer(body(frame), np.uint8)[: -4 * GUARDS], minlength=256)
        for site, frame in shares.items()
    }
    assert stats.chisquare(counts[ODD]).pvalue > 1e-6
    assert stats.chi2_contingency(np.stack([counts[ODD], counts["site0"]])).pvalue > 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_is_no_number_is_refused_by_all_alike(value: float) -> None:
    """What a hostile server may send to learn who has patients: each site refuses before it looks
    at one, and has spent nothing."""
    patients = cohorts(3)
    study = study_of(patients, "privacy=distributed", "privacy.epsilon=5", "rounds=1")
    federation = Federation.of(patients)
    federation.propose(study)
    weights = np.full(study.model.parameters, value, np.float32)
    answers = federation.prepare(study, weights=weights)
    assert {instance(Refusal, messages.parse(frame)).code for frame in answers.values()} == {
        Code.DIVERGED
    }
    assert federation.collect(study, federation.prepare(study))
