"""The roster: cards, fingerprints, declared patients."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.enrolment.join import FederationBundle
from client.transport.node_key import create_node_key
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, fingerprint
from protocol.wire.enrolment import EnrolmentCard
from server.enrolment.certificates import Pki
from server.enrolment.roster import Roster, banded


def card(folder: Path, name: str) -> EnrolmentCard:
    key = create_node_key(folder / f"{name}.pem").decode()
    return EnrolmentCard(site=name, identity=Identity.generate().public_key.hex(), node_key=key)


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    return Roster(tmp_path / "roster.json")


def test_what_a_site_prints_is_what_is_enrolled(tmp_path: Path, roster: Roster) -> None:
    mine = card(tmp_path, "north")
    path = tmp_path / "card.json"
    path.write_text(mine.model_dump_json())
    read = EnrolmentCard.load(path)
    assert read == mine
    assert read.node_fingerprint == mine.node_fingerprint
    assert read.identity_fingerprint == fingerprint(bytes.fromhex(mine.identity))
    roster.add(read, 123)
    entry = roster.sites()["north"]
    assert (entry.identity, entry.node_key, entry.patients) == (mine.identity, mine.node_key, 120)
    assert roster.identities() == {"north": mine.identity}


def test_no_two_sites_share_a_name_or_a_key(tmp_path: Path, roster: Roster) -> None:
    north, south = card(tmp_path, "north"), card(tmp_path, "south")
    roster.add(north, 100)
    for wrong in (
        north,
        south.model_copy(update={"identity": north.identity}),
        south.model_copy(update={"node_key": north.node_key}),
    ):
        with pytest.raises(WardroundError) as refused:
            roster.add(wrong, 100)
        assert refused.value.code is Code.USAGE
    assert list(roster.sites()) == ["north"]


def test_an_expelled_site_is_gone_for_every_reader(tmp_path: Path, roster: Roster) -> None:
    other = Roster(tmp_path / "roster.json")
    roster.add(card(tmp_path, "north"), 100)
    assert list(other.sites()) == ["north"]
    roster.remove("north")
    assert other.sites() == {}
    with pytest.raises(WardroundError, match="No site north"):
        roster.remove("north")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    mine = card(tmp_path, "north").model_dump()
    for key in ("", "no key", Path(tmp_path / "north.pem").read_text()):
        path.write_text(json.dumps(mine | {"node_key": key}))
        with pytest.raises(WardroundError) as refused:
            EnrolmentCard.load(path)
        assert refused.value.code is Code.NODE_KEY


@pytest.mark.parametrize(
    "change", [{"site": "North"}, {"identity": "00"}, {"more": 1}, {"node_key": None}]
)
def test_a_malformed_card_is_refused_by_field(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card(tmp_path, "north").model_dump() | change))
    with pytest.raises(WardroundError, match=next(iter(change))) as refused:
        EnrolmentCard.load(path)
    assert refused.value.code is (Code.RELEASE if "more" in change else Code.USAGE)


def test_a_site_can_join_by_the_bundle(tmp_path: Path, roster: Roster) -> None:
    pki = Pki(tmp_path / "pki")
    pki.create("Test", ["coordinator.example.org"])
    for name in ("north", "south"):
        roster.add(card(tmp_path, name), 50)
    path = tmp_path / "bundle.json"
    content = roster.bundle(
        "coordinator.example.org:9092", pki.ca_certificate.read_text(), 64 * "a"
    )
    path.write_text(json.dumps(content))
    bundle = FederationBundle.load(path)
    assert bundle.coordinator == "coordinator.example.org:9092"
    assert bundle.roster == roster.identities()


@given(st.integers(1, 10**8))
def test_declared_patients_round_down_to_two_digits(patients: int) -> None:
    declared = banded(patients)
    assert declared <= patients < declared * 1.1 + 1
    assert len(str(declared).rstrip("0")) <= 2
    assert banded(declared) == declared


@pytest.mark.parametrize("patients", [0, -5])
def test_a_site_without_patients_is_not_enrolled(
    tmp_path: Path, roster: Roster, patients: int
) -> None:
    with pytest.raises(WardroundError):
        roster.add(card(tmp_path, "north"), patients)
    assert roster.sites() == {}


def test_a_roster_of_an_older_release_gets_a_history(tmp_path: Path, roster: Roster) -> None:
    roster.add(card(tmp_path, "north"), 100)
    path = tmp_path / "roster.json"
    old = json.loads(path.read_text())
    del old["history"]
    path.write_text(json.dumps(old))
    history = Roster(path).history()
    assert history.keys == roster.identities()
    assert Roster(path).history().version == history.version


def test_an_expelled_key_is_revoked_for_good(tmp_path: Path, roster: Roster) -> None:
    north = card(tmp_path, "north")
    roster.add(north, 100)
    roster.remove("north")
    assert roster.history().revoked == {north.identity}
    with pytest.raises(WardroundError) as refused:
        roster.add(north, 100)
    assert "revoked" in refused.value.message
    roster.add(card(tmp_path, "north-again").model_copy(update={"site": "north"}), 100)
    assert roster.history().replaces_keys


def test_a_former_key_alone_is_revoked(tmp_path: Path, roster: Roster) -> None:
    old = card(tmp_path, "north")
    new = card(tmp_path, "north-again").model_copy(update={"site": "north"})
    roster.add(old, 100)
    with pytest.raises(WardroundError) as refused:
        roster.revoke_former("north")
    assert (refused.value.code, roster.history().revoked) == (Code.USAGE, frozenset())
    roster.rotate(new)
    roster.revoke_former("north")
    assert roster.history().revoked == {old.identity}
    assert roster.entry("north").identity == new.identity
    with pytest.raises(WardroundError, match="no other key"):
        roster.revoke_former("north")


def test_a_card_that_changes_nothing_or_takes_another_s_key_is_refused(
    tmp_path: Path, roster: Roster
) -> None:
    north, south = card(tmp_path, "north"), card(tmp_path, "south")
    roster.add(north, 100)
    roster.add(south, 100)
    for wrong in (
        north,
        north.model_copy(update={"identity": south.identity}),
        card(tmp_path, "west"),
    ):
        with pytest.raises(WardroundError) as refused:
            roster.rotate(wrong)
        assert refused.value.code is Code.USAGE
    new = card(tmp_path, "new").model_copy(update={"site": "north"})
    roster.rotate(new)
    assert roster.entry("north").identity == new.identity
    assert roster.entry("north").patients == 100
