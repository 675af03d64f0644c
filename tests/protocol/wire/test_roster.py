"""The signed roster: appended to only, by the coordinator only, and nobody leaves unnoticed."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.wire.roster import (
    CHANGE,
    EMPTY,
    HANDOVER,
    RosterChange,
    RosterHistory,
    RosterNews,
    SignedChange,
)

COORDINATOR = Identity.generate()
KEYS = {name: Identity.generate() for name in ("east", "north", "south", "west", "new")}


def key(name: str) -> str:
    return KEYS[name].public_key.hex()


def enrolled(*names: str) -> RosterHistory:
    history = EMPTY
    for name in names:
        history = history.appended(COORDINATOR, "enrol", name, key(name))
    return history


def handed_over(old: str, new: str) -> str:
    return KEYS[old].sign(HANDOVER, KEYS[new].public_key).hex()


def refused(change: Callable[[], object]) -> str:
    with pytest.raises(WardroundError) as error:
        change()
    assert error.value.code is Code.IDENTITY
    assert error.value.remedy
    return error.value.message


def test_a_site_follows_what_the_coordinator_signed() -> None:
    theirs, mine = enrolled("east", "north", "south"), enrolled("east")
    news = RosterNews.from_field(RosterNews.since(theirs, mine.number).to_field())
    got = news.added_to(mine, COORDINATOR.public_key)
    assert got.version == theirs.version
    assert got.keys == {name: key(name) for name in ("east", "north", "south")}


def test_a_change_that_the_coordinator_did_not_sign_is_refused() -> None:
    forged = RosterNews.since(enrolled("east"), 0)
    stranger = Identity.generate().public_key
    assert "not signed" in refused(lambda: forged.added_to(EMPTY, stranger))


def test_a_roster_that_shrinks_is_refused() -> None:
    mine, older = enrolled("east", "north", "south"), enrolled("east", "north")
    news = RosterNews.since(older, mine.number)
    assert "shrunk" in refused(lambda: news.added_to(mine, COORDINATOR.public_key))


@pytest.mark.parametrize("longer", [False, True])
def test_a_history_that_was_rewritten_is_refused(longer: bool) -> None:
    mine = enrolled("east", "north")
    other = enrolled("east", "south", *(["west"] if longer else []))
    news = RosterNews.since(other, mine.number)
    assert "rewritten" in refused(lambda: news.added_to(mine, COORDINATOR.public_key))


def test_a_site_is_enrolled_once_and_under_a_key_of_its_own() -> None:
    history = enrolled("east", "north")
    refused(lambda: history.appended(COORDINATOR, "enrol", "east", key("new")))
    refused(lambda: history.appended(COORDINATOR, "enrol", "new", key("north")))


def test_a_revoked_key_never_returns() -> None:
    history = enrolled("east", "north").appended(COORDINATOR, "revoke", "north", key("north"))
    assert history.revoked == {key("north")}
    assert set(history.keys) == {"east"}
    refused(lambda: history.appended(COORDINATOR, "enrol", "north", key("north")))
    back = history.appended(COORDINATOR, "enrol", "north", key("new"))
    assert back.keys["north"] == key("new")
    assert key("new") not in back.heirs("north", key("north")), "a person has to confirm it"


def test_a_new_key_counts_where_the_old_one_signed_it() -> None:
    history = enrolled("east", "north")
    signed = history.appended(
        COORDINATOR, "replace", "north", key("new"), handed_over("north", "new")
    )
    lost = history.appended(COORDINATOR, "replace", "north", key("new"))
    assert key("new") in signed.heirs("north", key("north"))
    assert key("new") not in lost.heirs("north", key("north"))
    assert key("north") not in signed.heirs("north", key("new")), "never backwards"
    by_another = handed_over("east", "new")
    refused(lambda: history.appended(COORDINATOR, "replace", "north", key("new"), by_another))


def test_a_study_keeps_the_keys_of_its_version() -> None:
    before = enrolled("east", "north")
    after = before.appended(
        COORDINATOR, "replace", "north", key("new"), handed_over("north", "new")
    )
    assert after.keys_at(None)["north"] == key("north")
    assert after.keys_at(before.version)["north"] == key("north")
    assert after.keys_at(after.version)["north"] == key("new")
    assert (before.replaces_keys, after.replaces_keys) == (False, True)
    assert "not known here" in refused(lambda: before.keys_at(after.version))


def test_another_signing_key_leaves_the_versions() -> None:
    history, other = enrolled("east", "north"), Identity.generate()
    again = history.signed_by(other)
    assert again.version == history.version
    assert EMPTY.extended(other.public_key, again.signed).version == history.version
    assert history.signed_by(COORDINATOR) is history


def test_news_of_a_thousand_hospitals_come_in_parts() -> None:
    names = [f"site-{number}" for number in range(120)]
    theirs = EMPTY
    for name in names:
        identity = Identity.generate().public_key.hex()
        theirs = theirs.appended(COORDINATOR, "enrol", name, identity)
    mine, calls = EMPTY, 0
    while mine.number < theirs.number:
        field = RosterNews.since(theirs, mine.number).to_field()
        assert len(field) < 60_000
        mine, calls = RosterNews.from_field(field).added_to(mine, COORDINATOR.public_key), calls + 1
    assert 1 < calls < 10


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.hex()))
def test_garbage_in_a_header_is_refused_as_such(value: str) -> None:
    with pytest.raises(WardroundError) as error:
        RosterNews.from_field(value)
    assert error.value.code is Code.MESSAGE


def test_a_change_that_is_not_canonical_is_refused() -> None:
    change = RosterChange(number=1, before="0" * 64, kind="enrol", site="a", identity=key("east"))
    text = canonical(change.model_dump()).decode().replace(":", ": ")
    signed = SignedChange(change=text, signature=COORDINATOR.sign(CHANGE, text.encode()).hex())
    with pytest.raises(WardroundError):
        EMPTY.extended(COORDINATOR.public_key, [signed])
