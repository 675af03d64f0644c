"""A hospital scores with what a reviewer approved whose key it knows, until that is withdrawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.config.known_reviewers import reviewers_file
from client.config.site_config import SiteConfig
from client.config.site_decisions import SiteDecisions, decisions_file
from client.enrolment.decision_feed import DecisionFeed
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.bundle import Bundle
from protocol.models.decision import DecisionHistory, DecisionNews
from tests.client.cli.conftest import Ran, Run, run
from tests.client.prediction.approvals import approved, history, pin, tell
from tests.client.prediction.ward import RECORDS, site
from tests.protocol.models.bundles import bundle

__all__ = ["run"]
MODEL = bundle()
OTHER = Identity.generate()
ALLOWED: dict[str, Any] = {"models": {MODEL.digest: {}}}


def predict(run: Run, folder: Path, model: Bundle) -> Ran:
    file = folder / "model.safetensors"
    file.unlink(missing_ok=True)
    model.write(file)
    words = ("--model", file, "--for", "cohort", "--to", folder / "scores.csv", "--json")
    return run("predict", *words, "-c", folder / "site")


def refused(run: Run, folder: Path, model: Bundle) -> str:
    ran = predict(run, folder, model)
    error = json.loads(ran.err)["error"]
    assert (ran.status, error["code"]) == (5, "refused_policy")
    assert not (folder / "scores.csv").exists()
    return str(error["message"])


def scored(run: Run, folder: Path, model: Bundle) -> None:
    ran = predict(run, folder, model)
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["scored"] == RECORDS


def test_an_approved_model_scores(run: Run, tmp_path: Path) -> None:
    pin(site(tmp_path, ALLOWED))
    scored(run, tmp_path, approved(MODEL))


@pytest.mark.parametrize("pinned", ["nobody", "another key"])
def test_a_reviewer_who_is_not_known_here_approves_nothing(
    run: Run, tmp_path: Path, pinned: str
) -> None:
    config = site(tmp_path, ALLOWED)
    if pinned == "another key":
        pin(config, Identity.generate())
    assert "the key of rita" in refused(run, tmp_path, approved(MODEL))


def test_what_nobody_approved_is_refused(run: Run, tmp_path: Path) -> None:
    pin(site(tmp_path, ALLOWED))
    assert "nobody had decided about it" in refused(run, tmp_path, MODEL)


def test_an_approval_is_heard_of_too(run: Run, tmp_path: Path) -> None:
    config = site(tmp_path, ALLOWED)
    pin(config)
    tell(config, history(MODEL, "approved"))
    scored(run, tmp_path, MODEL)


@pytest.mark.parametrize("rules", [{}, {"unapproved": True}])
def test_a_model_that_was_withdrawn_scores_nobody(
    run: Run, tmp_path: Path, rules: dict[str, Any]
) -> None:
    config = site(tmp_path, {"models": {MODEL.digest: rules}})
    pin(config)
    tell(config, history(MODEL, "approved", "withdrawn"))
    assert "rita has withdrawn the model" in refused(run, tmp_path, approved(MODEL))


def test_an_approval_after_a_withdrawal_counts_where_it_comes_later(
    run: Run, tmp_path: Path
) -> None:
    config = site(tmp_path, ALLOWED)
    pin(config)
    tell(config, history(MODEL, "approved", "withdrawn"))
    scored(run, tmp_path, approved(MODEL, "approved", "withdrawn", "approved"))


def test_a_damaged_record_scores_nobody(run: Run, tmp_path: Path) -> None:
    config = site(tmp_path, ALLOWED)
    pin(config)
    tell(config, history(MODEL, "approved", "withdrawn"))
    decisions_file(config).write_text('{"signed": []')
    ran = predict(run, tmp_path, approved(MODEL))
    assert json.loads(ran.err)["error"]["code"] == "state"
    decisions_file(config).unlink()
    reviewers_file(config).write_text("[]")
    ran = predict(run, tmp_path, approved(MODEL))
    assert json.loads(ran.err)["error"]["code"] == "configuration"


# --- what the daemon hears
@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    return site(tmp_path)


def heard(feed: DecisionFeed, theirs: DecisionHistory) -> None:
    feed.heard(DecisionNews.since(theirs, feed.known() or 0).to_field())


def test_what_was_heard_is_there_for_another_process(config: SiteConfig) -> None:
    feed = DecisionFeed(SiteDecisions(config))
    assert feed.known() == 0
    heard(feed, history(MODEL, "approved"))
    heard(feed, history(MODEL, "approved", "withdrawn"))
    assert SiteDecisions(config).turned_down(MODEL.digest) == "rita has withdrawn it"
    assert decisions_file(config).stat().st_mode & 0o077 == 0


def test_a_coordinator_that_takes_a_withdrawal_back_is_not_believed(config: SiteConfig) -> None:
    now = [0.0]
    feed = DecisionFeed(SiteDecisions(config), lambda: now[0])
    heard(feed, history(MODEL, "approved", "withdrawn"))
    for theirs in (history(MODEL, "approved"), history(MODEL, "approved", "rejected")):
        heard(feed, theirs)
        assert feed.known() is None, "it is not asked again at once"
        assert SiteDecisions(config).turned_down(MODEL.digest) == "rita has withdrawn it"
        now[0] += 61
        assert feed.known() == 2


def test_another_coordinators_decisions_are_refused(config: SiteConfig) -> None:
    feed = DecisionFeed(SiteDecisions(config))
    forged = history(MODEL, "approved", by=OTHER)
    feed.heard(DecisionNews.since(forged, 0).to_field())
    assert SiteDecisions(config).now().number == 0
    with pytest.raises(WardroundError) as caught:
        SiteDecisions(config).receive(DecisionNews.since(forged, 0))
    assert caught.value.code is Code.MESSAGE
