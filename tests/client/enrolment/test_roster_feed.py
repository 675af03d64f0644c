"""What a site's daemon does with the coordinator's roster as it comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.config.site_config import SiteConfig
from client.config.site_roster import SiteRoster, signing_key_file
from client.enrolment import new_site
from client.enrolment.roster_feed import RosterFeed
from client.enrolment.rotation import rotate, successor
from client.enrolment.site_template import SiteAnswers
from protocol.errors import Code, WardroundError
from protocol.wire.roster import RosterHistory, RosterNews
from tests.protocol.wire.test_roster import COORDINATOR, enrolled


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    made = new_site.init(tmp_path / "alpha", SiteAnswers(site="alpha"))
    signing_key_file(made).write_text(COORDINATOR.public_key.hex() + "\n")
    return made


def heard(feed: RosterFeed, theirs: RosterHistory) -> None:
    feed.heard(RosterNews.since(theirs, feed.known() or 0).to_field())


def test_news_last_and_a_confirmation_counts_at_once(config: SiteConfig) -> None:
    own = {"alpha": config.roster["alpha"]}
    theirs = enrolled("north").appended(COORDINATOR, "enrol", "alpha", own["alpha"])
    running = SiteRoster(config)
    feed = RosterFeed(running)
    assert feed.known() == 0
    heard(feed, theirs)
    assert feed.known() == 2
    assert running.now().to_confirm() == ("north",)
    command = SiteRoster(SiteConfig.load(config.identity.with_name(new_site.SITE_YAML)))
    command.confirm("north", command.key_to_confirm("north"))
    assert running.now().to_confirm() == ()
    assert SiteRoster(config).now().history.version == theirs.version
    with pytest.raises(WardroundError) as unknown:
        command.key_to_confirm("nobody")
    assert unknown.value.code is Code.USAGE


def test_a_roster_that_shrinks_is_refused_by_name_until_it_is_mended(config: SiteConfig) -> None:
    clock, roster = Clock(), SiteRoster(config)
    feed = RosterFeed(roster, clock)
    heard(feed, enrolled("east", "north"))
    heard(feed, enrolled("east"))
    assert roster.now().history.number == 2
    assert any("shrunk" in sentence for sentence in roster.now().attention())
    assert feed.known() is None, "the coordinator is not asked again at once"
    clock.now += 61
    heard(feed, enrolled("east", "north", "south"))
    assert roster.now().trouble == ""
    assert roster.now().history.number == 3


def test_garbage_is_logged_and_changes_nothing(config: SiteConfig) -> None:
    roster = SiteRoster(config)
    feed = RosterFeed(roster)
    feed.heard("garbage")
    assert roster.now().history.number == 0


def test_a_site_of_an_old_bundle_hears_nothing(config: SiteConfig) -> None:
    signing_key_file(config).unlink()
    assert RosterFeed(SiteRoster(config)).known() is None


def test_a_rotation_that_was_not_taken_yet_is_asked_for_again(config: SiteConfig) -> None:
    first = rotate(config, identity=True, node_key=True)
    again = rotate(config, identity=True, node_key=True)
    assert first == again or (first.identity, first.node_key) == (again.identity, again.node_key)
    assert first.follows(config.roster["alpha"])
    assert not first.follows(enrolled("north").keys["north"])
    forged = first.model_copy(update={"node_key": first.node_key + " "})
    assert not forged.follows(config.roster["alpha"])
    assert successor(config, first.identity).public_key.hex() == first.identity
    assert successor(config, config.roster["alpha"]).public_key.hex() == config.roster["alpha"]
    with pytest.raises(WardroundError):
        successor(config, "a" * 64)
