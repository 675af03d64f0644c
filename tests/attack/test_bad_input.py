"""What cannot work is refused by site and coordinator, in words, before any privacy is spent."""

from __future__ import annotations

from typing import Any

import pytest

from launch.federations.inprocess import InProcessFleet
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.privacy.word_size import check_headroom, word_bits_needed
from protocol.study.study import Study
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from tasks import registry
from tests.attack.simulated import TASK, Federation, changed, cohorts, study_of

PATIENCE = Patience(answer=5.0, join=0.0, poll=0.0)
OVERFLOWING: dict[str, tuple[str, dict[str, Any]]] = {
    "scale": ("aggregation", {"scale": 2**30, "word_bits": 32}),
    "scale beyond any word": ("aggregation", {"scale": 2**40}),
    "noise that cannot be drawn": ("privacy", {"noise_multiplier": 1e6}),
    "scores": ("evaluation", {"scale": 2**16, "noise_multiplier": 1e4}),
}


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of(cohorts(4), "privacy=distributed", "privacy.epsilon=5", "rounds=2")


@pytest.fixture
def federation() -> Federation:
    return Federation.of(cohorts(4))


def rounds(federation: Federation, study: Study, roster: dict[str, str]) -> RoundLoop:
    fleet = InProcessFleet(federation.sites)
    return RoundLoop(study, registry.load(TASK), fleet, roster, Listeners(), patience=PATIENCE)


def refused(federation: Federation, study: Study, roster: dict[str, str]) -> WardroundError:
    """The coordinator's error; nobody was charged."""
    with pytest.raises(WardroundError) as caught:
        rounds(federation, study, roster).run()
    assert not any(paid.debits for paid in federation.governance.values())
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("name", OVERFLOWING)
def test_a_sum_that_could_overflow(federation: Federation, study: Study, name: str) -> None:
    section, values = OVERFLOWING[name]
    wide = changed(study, section, **values)
    answers = federation.propose(wide)
    assert {a.state for a in answers.values()} == {"refused"}
    assert {a.code for a in answers.values()} == {Code.REFUSED_STUDY}
    assert refused(federation, wide, federation.roster).code == Code.REFUSED_STUDY


def test_the_words_that_a_study_is_built_with_are_wide_enough(study: Study) -> None:
    check_headroom(study)
    assert word_bits_needed(study) == study.aggregation.word_bits
    many = changed(study, "aggregation", scale=2**24)
    assert word_bits_needed(many) == 64
    check_headroom(changed(many, "aggregation", word_bits=64))


def test_a_roster_that_differs_at_one_site(study: Study) -> None:
    stranger = Identity.generate().public_key.hex()
    federation = Federation.of(cohorts(4), site1={"site2": stranger})
    answers = federation.propose(study)
    codes = {site: answer.code for site, answer in answers.items()}
    assert codes == {"site0": None, "site1": Code.IDENTITY, "site2": None, "site3": None}
    assert "telephone" in federation.governance["site1"].errors[0].remedy
    rounds(federation, study, federation.roster).run()  # the three others are enough
    assert not federation.governance["site1"].debits


def test_a_roster_that_differs_at_the_coordinator(federation: Federation, study: Study) -> None:
    wrong = federation.roster | {"site2": Identity.generate().public_key.hex()}
    error = refused(federation, study, wrong)
    assert error.code == Code.TOO_FEW_SITES
    assert "4 refused (identity)" in error.message


def test_a_missing_identity_key(federation: Federation, study: Study) -> None:
    short = {site: key for site, key in federation.roster.items() if site != "site3"}
    error = refused(federation, study, short)
    assert error.code == Code.IDENTITY
    assert "site3" in error.message
    larger = study_of([*study.sites, "site9"], "privacy=none", "rounds=2")
    answers = federation.propose(larger)
    assert {a.code for a in answers.values()} == {Code.REFUSED_STUDY}


def test_fewer_sites_than_m(federation: Federation, study: Study) -> None:
    with pytest.raises(ValueError, match="least_sites is 5 but the roster has 4"):
        changed(study, "aggregation", least_sites=5)
    with pytest.raises(ValueError, match="at least 3"):
        changed(study, "aggregation", least_sites=2)
    few = Federation(
        {site: federation.sites[site] for site in ("site0", "site1")},
        federation.identities,
        federation.governance,
    )
    assert refused(few, study, federation.roster).code == Code.TOO_FEW_SITES
