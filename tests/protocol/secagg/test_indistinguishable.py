"""What a masked vector shows of the update inside it: nothing that statistics can find."""

import numpy as np
import pytest
from scipy import stats

from protocol.secagg.aggregate import GUARDS
from protocol.secagg.party import OpenParty, Party
from tests.protocol.federation import begin, context, identity, names, readys

FOUR = names(4)
WORDS = 100_000
CHANCE = 1e-6
"""A right implementation fails once in a million runs."""
UPDATES = {
    "zero": np.zeros(WORDS),
    "large": np.full(WORDS, 2**30),
    "alternating": np.tile([1, -1], WORDS // 2),
    "one patient": np.eye(1, WORDS, 17)[0] * 2**20,
}


def masked(update: np.ndarray) -> np.ndarray:
    parties = begin(FOUR)
    words = update.astype(np.int64).astype(np.uint32)
    return parties[FOUR[1]].share(words, readys(parties), 3)[:-GUARDS]


def uniform(words: np.ndarray) -> float:
    """p-value of the words' bytes being uniform."""
    return float(stats.chisquare(np.bincount(words.view(np.uint8), minlength=256)).pvalue)


@pytest.mark.parametrize("name", UPDATES)
def test_masked_bytes_are_uniform_whatever_the_update(name: str) -> None:
    share = masked(UPDATES[name])
    assert uniform(share) > CHANCE
    bits = np.unpackbits(share.view(np.uint8)).reshape(WORDS, 32).sum(axis=0)
    assert stats.chi2.sf(float(((bits - WORDS / 2) ** 2 / (WORDS / 4)).sum()), 32) > CHANCE
    if np.ptp(UPDATES[name]) > 0:
        shown = share.view(np.int32).astype(np.float64)
        assert stats.pearsonr(shown, UPDATES[name]).pvalue > CHANCE


def test_the_same_test_finds_an_unmasked_update() -> None:
    agreed = context(FOUR)
    parties = {site: OpenParty.begin(agreed, site) for site in FOUR}
    words = np.random.default_rng(0).normal(0, 2**20, WORDS).astype(np.int64).astype(np.uint32)
    assert uniform(parties[FOUR[0]].share(words, readys(parties), 3)) < CHANCE


def test_two_updates_give_bytes_of_one_distribution() -> None:
    one, two = (np.bincount(masked(UPDATES[n]).view(np.uint8)) for n in ("zero", "large"))
    assert stats.chi2_contingency(np.stack([one, two])).pvalue > CHANCE


def test_a_linear_classifier_stays_at_chance() -> None:
    """Trained on the shares of 200 attempts, tried on 200 others; 5 sd of a coin."""
    draw = np.random.default_rng(1)
    labels = draw.permutation(np.repeat([0, 1], 200))
    rows = []
    for attempt, label in enumerate(labels):
        agreed = context(FOUR, attempt=attempt + 1)
        parties = {site: Party.begin(agreed, site, identity(site)) for site in FOUR}
        update = np.full(16, 2**20 if label else -(2**20)).astype(np.uint32 if label else np.int64)
        share = parties[FOUR[2]].share(update.astype(np.uint32), readys(parties), 3)[:-GUARDS]
        rows.append(share.view(np.int32) / 2**31)
    features, signs = np.array(rows), 2.0 * labels - 1
    weights, *_ = np.linalg.lstsq(features[:200], signs[:200], rcond=None)
    correct = np.count_nonzero(np.sign(features[200:] @ weights) == signs[200:])
    assert abs(correct - 100) < 5 * np.sqrt(200) / 2
