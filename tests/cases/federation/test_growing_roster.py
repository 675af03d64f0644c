"""Hospitals come, change their keys and go while studies run, and no study of the others is lost.

The kinds of fault: a hospital that was enrolled, or has new keys, stops everybody until all sites
have acted; a key that was revoked is still summed with; a certificate that ran out ends studies, or
is told of when it is too late.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.config.site_config import SiteConfig
from client.enrolment import join
from client.enrolment.rotation import rotate
from protocol.errors import Code
from server.coordinator.setup import bundle, status
from server.enrolment.roster import Roster
from tests.cases.real_federation import WORDS, Federation, Hospital
from tests.waiting import until

pytestmark = pytest.mark.slow
FOUR = (*WORDS, "rounds=3", "evaluation.every=3")


def started(folder: Path) -> tuple[Federation, dict[str, Hospital]]:
    federation = Federation(folder / "federation", waiting={"join": 8}).start()
    hospitals = {name: Hospital(federation, name) for name in federation.names}
    federation.online(4)
    return federation, hospitals


def participants(federation: Federation, digest: str, round_: int = 0) -> int:
    """In a round, counted from 0; the first."""
    rounds = [event for event in federation.events(digest) if event["type"] == "round"]
    return int(rounds[round_]["participants"])


def knows(hospital: Hospital, number: int) -> bool:
    return hospital.governance.roster.now().history.number >= number


def test_a_newcomer_takes_part_once_the_others_have_called_it(tmp_path: Path) -> None:
    federation, hospitals = started(tmp_path)
    with federation:
        federation.enrol("fifth")
        (tmp_path / "bundle.json").write_text(json.dumps(bundle(federation.config)))
        given = join.FederationBundle.load(tmp_path / "bundle.json")
        join.join(join.compare(federation.site_yaml("fifth"), given))
        Hospital(federation, "fifth")
        federation.online(5)
        until(lambda: all(knows(hospital, 5) for hospital in hospitals.values()), "the news")
        study, configuration = federation.study(federation.patients(), *FOUR)
        first = federation.submit(study, configuration)
        assert federation.wait_end(first)["type"] == "finished"
        assert participants(federation, first) == 4
        for hospital in hospitals.values():
            roster = hospital.governance.roster
            assert roster.now().to_confirm() == ("fifth",)
            roster.confirm("fifth", roster.key_to_confirm("fifth"))
        study, configuration = federation.study(federation.patients(), *FOUR, title="again")
        second = federation.submit(study, configuration)
        assert federation.wait_end(second)["type"] == "finished"
        assert participants(federation, second) == 5


@pytest.mark.parametrize("mode", ["private", "exact"])
def test_a_revoked_key_is_out_at_once(tmp_path: Path, mode: str) -> None:
    federation, _ = started(tmp_path)
    with federation:
        words = {"private": WORDS, "exact": ("privacy=none", "evaluation=off", "tracking=off")}
        study, configuration = federation.study(
            federation.patients(), *words[mode], "rounds=60", "aggregation.spare_attempts=10"
        )
        digest = federation.submit(study, configuration)
        assert federation.wait_round(digest, 1)
        Roster(federation.config.roster).remove("west")
        end = federation.wait_end(digest)
        if mode == "private":
            assert end["type"] == "finished"
            assert participants(federation, digest, -1) == 3
        else:
            assert (end["type"], end["code"]) == ("failed", Code.IDENTITY)
            assert "west is revoked" in end["message"]


def test_keys_are_replaced_without_a_call_or_a_lost_study(tmp_path: Path) -> None:
    federation, hospitals = started(tmp_path)
    with federation:
        before, configuration = federation.study(federation.patients(), *FOUR)
        running = federation.submit(before, configuration)
        config = SiteConfig.load(federation.site_yaml("north"))
        card = rotate(config, identity=True, node_key=True)
        roster = Roster(federation.config.roster)
        old = roster.entry("north")
        assert card.follows(old.identity)
        roster.rotate(card)
        until(lambda: all(knows(hospital, 5) for hospital in hospitals.values()), "the news")
        federation.online(4)
        assert federation.wait_end(running)["type"] == "finished"
        study, configuration = federation.study(federation.patients(), *FOUR, title="again")
        pinned = federation.pinned(study)
        assert pinned.roster_version == roster.history().version
        assert before.roster_version is None
        later = federation.submit(pinned, configuration)
        assert federation.wait_end(later)["type"] == "finished"
        assert participants(federation, later) == 4
        assert roster.keys(pinned)["north"] == card.identity
        assert roster.keys(before)["north"] == old.identity


def test_an_expired_certificate_is_named_and_renewed_in_passing(tmp_path: Path) -> None:
    federation = Federation(tmp_path / "federation")
    federation.config.pki.renew(days=0)
    with federation.start():
        hospital = Hospital(federation, "north")
        until(lambda: hospital.connection.last_error, "what the site says")
        error = hospital.connection.last_error
        assert error is not None
        assert error.code is Code.TLS
        assert "expired" in error.message
        assert "expired" in status(federation.config)["failing"]["certificate"]
        federation.config.pki.renew()
        federation.online(1)
        assert "certificate" not in status(federation.config)["failing"]
        federation.config.pki.renew(days=59)
        until(lambda: federation.coordinator.attention(), "the coordinator looks at it")
        assert "expires in" in status(federation.config)["attention"][0]
        assert "certificate" not in federation.coordinator.failing()
