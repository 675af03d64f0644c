"""A federation from one file: one command a party, fingerprints confirmed by the operators."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.config.site_config import SiteConfig
from client.enrolment import invitation as enrolment
from client.enrolment.site_template import PictureSources
from launch.config.compose import load
from launch.demo.child_process import script
from launch.demo.local_ports import free_port, is_listening
from launch.studies.run import credentials_of
from protocol.errors import Code, WardroundError
from protocol.wire.enrolment import Invitation
from server.coordinator.config import CoordinatorConfig
from server.coordinator.setup import awaited
from server.enrolment.invitations import Invitations
from server.enrolment.roster import Roster
from tests import forked
from tests.waiting import HUNG, until

SITES = ("north", "south", "west")


class Consortium:
    """consortium.yaml in a folder, and a coordinator that was set up from it and serves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "consortium.yaml").write_text(
            f"coordinator: {{hosts: [127.0.0.1], port: {self.port}}}\n"
            "hospitals: {north: 150, south: 257, west: 90}\n"
            "data_scientists: [ada]\n"
            "reviewers: [rita]\n"
            "rules: {tasks: [heart_disease], purposes: [research], modes: [distributed],\n"
            "  epsilon_per_study: 1, epsilon_lifetime: 5, epsilon_broken: 10}\n"
        )
        self.made = self.setup()

    def run(self, *words: str) -> Any:
        """What a command prints as JSON."""
        env = {"XDG_CONFIG_HOME": str(self.folder / "home"), "PATH": "/usr/bin:/bin"}
        done = forked.run([script(words[0]), *words[1:], "--json"], self.folder, env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def setup(self) -> Any:
        return self.run("wardround", "coordinator", "setup", "consortium.yaml", "coord", "--yes")

    @property
    def config(self) -> CoordinatorConfig:
        return CoordinatorConfig.load(self.folder / "coord")

    def invitation(self, site: str) -> Invitation:
        found = Invitation.load(self.folder / "invitations" / f"{site}.invitation.json")
        assert found is not None
        return found


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    made = Consortium(tmp_path_factory.mktemp("consortium"))
    command = [script("wardround"), "coordinator", "start", "--config", "coord"]
    log = made.folder / "coordinator.log"
    process = forked.Python(command, made.folder, log, log)
    try:
        assert is_listening("127.0.0.1", made.port, HUNG)
        yield made
    finally:
        process.stop()


def test_one_command_a_party(consortium: Consortium, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(consortium.made["made"]) == {*SITES, "ada", "rita"}
    assert consortium.made["awaited"] == [*SITES]
    joining = [
        forked.Python(
            [
                script("wardround-site"),
                "join",
                f"invitations/{site}.invitation.json",
                "--yes",
                "--config",
                site,
                "--data",
                f"heart_disease={site}.csv",
            ],
            consortium.folder,
            consortium.folder / f"{site}.log",
            consortium.folder / f"{site}.log",
        )
        for site in SITES
    ]
    try:
        cards = Invitations(consortium.config.invitations)
        until(lambda: all(invited.card for invited in cards.all().values()), "the cards")
        assert awaited(consortium.config) == [*SITES], "a card alone enrols nobody"
        assert consortium.setup()["enrolled"] == [*SITES]
        until(lambda: not any(process.running for process in joining), "the joins")
    finally:
        for process in joining:
            process.stop()
    enrolled = Roster(consortium.config.roster)
    assert {site: entry.patients for site, entry in enrolled.sites().items()} == {
        "north": 150, "south": 250, "west": 90,
    }  # fmt: skip
    for site in SITES:
        joined = SiteConfig.load(consortium.folder / site / "site.yaml")
        assert joined.roster == enrolled.identities()
        assert joined.coordinator.address == consortium.config.address
        assert joined.policy.tasks == ("heart_disease",)
        assert joined.policy.approval == "hand"
    assert consortium.setup()["made"] == {}
    consortium.run("wardround", "login", "invitations/ada.credentials.json")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(consortium.folder / "home"))
    kept = credentials_of(load(["federation=deployment"]))
    assert (kept.stat().st_mode & 0o777, json.loads(kept.read_text())["account"]) == (0o600, "ada")


def test_an_invitation_takes_one_card(consortium: Consortium, tmp_path: Path) -> None:
    invitation = consortium.invitation("north")
    nowhere = enrolment.founded(tmp_path / "a", invitation, {}, PictureSources(), invitation.rules)
    file = consortium.folder / "consortium.yaml"
    file.write_text(file.read_text().replace("west: 90", "west: 90, east: 40"))
    assert set(consortium.setup()["made"]) == {"east"}, "a newcomer gets an invitation"
    invited = consortium.invitation("east")
    first = enrolment.founded(tmp_path / "first", invited, {}, PictureSources(), invited.rules)
    second = enrolment.founded(tmp_path / "second", invited, {}, PictureSources(), invited.rules)
    assert "east" in enrolment.hand_in(first, invited).missing
    with pytest.raises(WardroundError) as other:
        enrolment.hand_in(second, invited)
    assert other.value.code is Code.IDENTITY
    with pytest.raises(WardroundError) as stranger:
        enrolment.hand_in(nowhere, invited)
    assert stranger.value.code is Code.IDENTITY, "a card of another site"
    Invitations(consortium.config.invitations).withdraw("east")
    with pytest.raises(WardroundError) as withdrawn:
        enrolment.hand_in(first, invited)
    assert withdrawn.value.code is Code.CREDENTIALS
    assert "east" not in Roster(consortium.config.roster).identities()


def test_what_is_no_invitation_gets_nothing(consortium: Consortium, tmp_path: Path) -> None:
    invitation = consortium.invitation("south")
    forged = invitation.model_copy(update={"token": "x" * 43})
    site = enrolment.founded(tmp_path / "south", forged, {}, PictureSources(), forged.rules)
    with pytest.raises(WardroundError) as refused:
        enrolment.hand_in(site, forged)
    assert refused.value.code is Code.CREDENTIALS
    with pytest.raises(WardroundError) as other:
        enrolment.founded(
            tmp_path / "south", consortium.invitation("north"), {}, PictureSources(), forged.rules
        )
    assert other.value.code is Code.IDENTITY
