"""A coordinator that asks for sums with a site that was not confirmed, or whose key is revoked."""

from __future__ import annotations

import pytest

from client.config.known_roster import KnownRoster
from protocol.errors import Code
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.roster import EMPTY
from tests.attack.simulated import Federation, cohorts, study_of


@pytest.fixture
def federation() -> Federation:
    return Federation.of(cohorts(4))


def private() -> Study:
    return study_of(cohorts(4), "privacy=local", "privacy.epsilon=50", "rounds=2")


def set_up(federation: Federation, *, confirmed: bool, revoked: bool) -> None:
    """What site0 knows of site3."""
    coordinator, history = Identity.generate(), EMPTY
    for site, key in federation.roster.items():
        history = history.appended(coordinator, "enrol", site, key)
    if revoked:
        history = history.appended(coordinator, "revoke", "site3", federation.roster["site3"])
    known = {s: key for s, key in federation.roster.items() if s != "site3" or confirmed}
    federation.sites["site0"]._roster = KnownRoster(known, history)


@pytest.mark.parametrize("revoked", [False, True])
def test_a_site_shares_with_confirmed_and_unrevoked_keys_only(
    federation: Federation, revoked: bool
) -> None:
    set_up(federation, confirmed=revoked, revoked=revoked)
    study = private()
    standing = federation.propose(study)["site0"]
    assert standing.unconfirmed == (() if revoked else ("site3",))
    readys = federation.prepare(study)
    share = messages.parse(federation.collect(study, readys)["site0"])
    assert isinstance(share, messages.Refusal)
    assert share.code is Code.IDENTITY
    without = federation.prepare(study, 2, among=("site0", "site1", "site2"))
    shares = federation.collect(study, without, 2)
    assert {messages.parse(frame).type for frame in shares.values()} == {"share"}


@pytest.mark.parametrize("revoked", [False, True])
def test_an_exact_sum_with_such_a_key_is_refused_before_it_costs(
    federation: Federation, revoked: bool
) -> None:
    set_up(federation, confirmed=revoked, revoked=revoked)
    study = study_of(cohorts(4), "privacy=none", "evaluation=exact", "rounds=2")
    federation.propose(study)
    answer = messages.parse(federation.prepare(study)["site0"])
    assert isinstance(answer, messages.Refusal)
    assert answer.code is Code.IDENTITY
    assert federation.governance["site0"].debits == []
