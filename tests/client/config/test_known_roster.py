"""With whom a site adds up: with confirmed keys that nobody revoked."""

import pytest

from client.config.known_roster import KnownRoster
from protocol.errors import Code, WardroundError
from tests.protocol.wire.test_roster import COORDINATOR, enrolled, handed_over, key

CONFIRMED = {name: key(name) for name in ("east", "north", "south")}


def test_an_unconfirmed_newcomer_is_named_with_the_remedy() -> None:
    known = KnownRoster(CONFIRMED, enrolled(*CONFIRMED, "west"))
    keys = known.keys(("east", "north", "south", "west"))
    assert known.unconfirmed(keys) == ("west",)
    with pytest.raises(WardroundError) as refused:
        known.check_participants(keys)
    assert refused.value.code is Code.IDENTITY
    assert "not confirmed west" in refused.value.message
    assert "roster confirm west" in refused.value.remedy
    known.check_participants(known.keys(tuple(CONFIRMED)))
    assert any("roster confirm west" in sentence for sentence in known.attention())


def test_a_revoked_key_is_refused_however_well_it_is_known() -> None:
    history = enrolled(*CONFIRMED).appended(COORDINATOR, "revoke", "north", key("north"))
    known = KnownRoster(CONFIRMED, history)
    with pytest.raises(WardroundError) as refused:
        known.check_participants(known.keys(tuple(CONFIRMED)))
    assert "north is revoked" in refused.value.message
    known.check_participants(known.keys(("east", "south")))


def test_a_coordinator_s_other_key_for_a_known_site_does_not_count() -> None:
    history = enrolled("east", "north").appended(COORDINATOR, "enrol", "south", key("new"))
    known = KnownRoster(CONFIRMED, history)
    assert known.to_confirm() == ("south",)


def test_keys_of_two_sites_that_changed_places_do_not_count() -> None:
    known = KnownRoster(CONFIRMED)
    changed = {"east": key("north"), "north": key("east"), "south": key("south")}
    assert known.unconfirmed(changed) == ("east", "north")
    with pytest.raises(WardroundError) as refused:
        known.check_participants(changed)
    assert "not confirmed east, north" in refused.value.message


def test_a_handed_over_key_needs_no_call() -> None:
    history = enrolled(*CONFIRMED).appended(
        COORDINATOR, "replace", "south", key("new"), handed_over("south", "new")
    )
    known = KnownRoster(CONFIRMED, history)
    assert known.to_confirm() == ()
    known.check_participants(known.keys(tuple(CONFIRMED), history.version))


def test_without_a_history_the_confirmed_keys_hold() -> None:
    known = KnownRoster(CONFIRMED)
    assert known.keys(("east", "north")) == {n: key(n) for n in ("east", "north")}
    with pytest.raises(WardroundError) as refused:
        known.keys(("east", "west"))
    assert refused.value.code is Code.REFUSED_STUDY
