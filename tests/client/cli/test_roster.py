"""`wardround-site roster`: what an operator sees of other hospitals' keys, confirms and makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.config.site_config import SiteConfig
from client.config.site_roster import SiteRoster, signing_key_file
from client.enrolment import new_site
from client.enrolment.roster_feed import RosterFeed
from client.enrolment.site_template import SiteAnswers
from protocol.identity import fingerprint
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.roster import RosterHistory, RosterNews
from tests.client.cli.conftest import Run
from tests.protocol.wire.test_roster import COORDINATOR, enrolled


@pytest.fixture
def site(tmp_path: Path) -> SiteConfig:
    made = new_site.init(tmp_path / "alpha", SiteAnswers(site="alpha"))
    signing_key_file(made).write_text(COORDINATOR.public_key.hex() + "\n")
    return made


def heard(site: SiteConfig, theirs: RosterHistory) -> None:
    """What the coordinator says of its roster reaches the site."""
    feed = RosterFeed(SiteRoster(site))
    feed.heard(RosterNews.since(theirs, feed.known() or 0).to_field())


def test_a_newcomer_is_shown_and_confirmed_once_somebody_has_telephoned(
    site: SiteConfig, run: Run
) -> None:
    theirs = enrolled("north")
    heard(site, theirs)
    there = ("--config", site.identity.parent)
    shown = fingerprint(bytes.fromhex(theirs.keys["north"]))
    listed = json.loads(run("roster", "list", *there, "--json").out)["sites"]["north"]
    assert listed == {"fingerprint": shown, "confirmed": False, "revoked": False}
    assert "NOT CONFIRMED" in run("roster", "list", *there).out
    nobody = run("roster", "confirm", "north", *there)
    assert nobody.status != 0
    assert shown in nobody.err
    assert SiteRoster(site).now().to_confirm() == ("north",)
    done = run("roster", "confirm", "north", *there, "--yes", "--json")
    assert json.loads(done.out) == {"site": "north", "fingerprint": shown}
    assert json.loads(run("roster", "list", *there, "--json").out)["sites"]["north"]["confirmed"]
    stranger = run("roster", "confirm", "nobody", *there, "--yes")
    assert (stranger.status != 0, stranger.out) == (True, "")


def test_a_revoked_key_is_shown_as_such(site: SiteConfig, run: Run) -> None:
    theirs = enrolled("north")
    there = ("--config", site.identity.parent)
    heard(site, theirs)
    run("roster", "confirm", "north", *there, "--yes")
    heard(site, theirs.appended(COORDINATOR, "revoke", "north", theirs.keys["north"]))
    listed = json.loads(run("roster", "list", *there, "--json").out)["sites"]["north"]
    assert listed["revoked"]
    assert "revoked" in run("roster", "list", *there).out


def test_new_keys_come_with_a_card_that_the_old_ones_signed(
    site: SiteConfig, run: Run, tmp_path: Path
) -> None:
    there, out = ("--config", site.identity.parent), tmp_path / "card.json"
    unnamed = run("roster", "rotate", *there, "--out", out)
    assert (unnamed.status != 0, out.exists()) == (True, False)
    done = run("roster", "rotate", *there, "--identity", "--node-key", "--out", out, "--json")
    card = EnrolmentCard.load(out)
    assert card.follows(site.roster["alpha"])
    told = json.loads(done.out)["fingerprints"]
    assert told == {"identity": card.identity_fingerprint, "node_key": card.node_fingerprint}
    nowhere = run("roster", "rotate", *there, "--identity", "--out", tmp_path / "no" / "card.json")
    assert nowhere.status != 0
