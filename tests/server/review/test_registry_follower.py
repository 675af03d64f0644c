"""A real MLflow shows what was decided, and an alias that somebody set by hand approves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.demo.mlflow_server import MlflowServer
from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.decision import (
    Decision,
    DecisionHistory,
    SignedDecision,
    SignedEntry,
    Verdict,
)
from protocol.models.record import RECORD
from server.review.approval_watch import PAUSE, ApprovalWatch
from server.review.offers import Offers
from server.review.registry_follower import UNSIGNED, VERDICT, UnsignedApproval, follow
from server.tracking import registered_model
from server.tracking.mlflow_run import CANDIDATE, client_of
from server.tracking.model_export import export
from server.tracking.registered_model import APPROVED
from server.tracking.tracker import MlflowTracker
from tests.server.outcomes import CONFIGURATION, outcome, study
from tests.server.review.reviewed import Reviewed
from tests.waiting import until

pytestmark = pytest.mark.slow
KEY, REVIEWER = Identity.generate(), Identity.generate()
TRUSTED = KEY.public_key.hex()
MODEL = "heart"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """With two versions of MODEL, and a model of somebody else's whose alias is none of ours."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as running:
        for _ in range(2):
            done = outcome(study())
            tracker = MlflowTracker(running.url, "reviewed", model=MODEL, signer=KEY)
            tracker.begin(done.study, CONFIGURATION, "1.2.3")
            tracker.finish(done)
            assert tracker.settle(120).missing == ()
        client = client_of(running.url)
        client.create_registered_model("somebody's")
        client.create_model_version("somebody's", source="s3://nowhere/model")
        client.set_registered_model_alias("somebody's", APPROVED, "1")
        yield running


@pytest.fixture
def client(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow; aliases and tags of decisions go afterwards."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    found = client_of(server.url)
    yield found
    for alias in (APPROVED, CANDIDATE):
        found.delete_registered_model_alias(MODEL, alias)
    for version in ("1", "2"):
        for tag in (*SignedEntry(text="x", signature="").tags, VERDICT, UNSIGNED):
            if tag in tags(found, version):
                found.delete_model_version_tag(MODEL, version, tag)
    found.set_registered_model_alias(MODEL, CANDIDATE, "2")


def tags(client: Any, version: str) -> dict[str, str]:
    return dict(client.get_model_version(MODEL, version).tags)


def aliases(client: Any) -> dict[str, str]:
    return {alias: str(v) for alias, v in client.get_registered_model(MODEL).aliases.items()}


def decided(
    client: Any,
    history: DecisionHistory,
    version: str,
    verdict: Verdict,
    by: Identity = KEY,
    audit: str = "",
) -> DecisionHistory:
    found = tags(client, version)
    decision = Decision(
        model=MODEL,
        version=version,
        study=found["wardround.study"],
        record=digest(found[RECORD].encode()),
        verdict=verdict,
        reason="[a link](https://x.example)\u202e",
        reviewer="rita",
        time="2026-11-27T10:00:00+00:00",
        audit=audit,
    )
    return history.appended(SignedDecision.make(decision, REVIEWER), by)


def test_a_finished_study_is_a_candidate(client: Any) -> None:
    assert aliases(client) == {CANDIDATE: "2"}


def test_aliases_follow_the_record(server: MlflowServer, client: Any) -> None:
    history = decided(client, DecisionHistory(), "1", "approved")
    follow(server.url, history)
    assert aliases(client) == {APPROVED: "1", CANDIDATE: "2"}
    history = decided(client, history, "2", "approved", audit="a" * 64)
    assert follow(server.url, history) == ()
    assert aliases(client) == {APPROVED: "2"}
    assert tags(client, "2")["wardround.gate.audit"].startswith(
        "passed: rita signed for the report"
    )
    history = decided(client, history, "2", "withdrawn")
    follow(server.url, history)
    assert aliases(client) == {APPROVED: "1"}
    history = decided(client, history, "1", "withdrawn")
    follow(server.url, history)
    assert aliases(client) == {}
    assert tags(client, "1")[VERDICT] == (
        "withdrawn by rita on 2026-11-27: [a link](https://x.example)\\u202e"
    )


def test_what_was_interrupted_is_done_by_the_next_look(server: MlflowServer, client: Any) -> None:
    history = decided(client, DecisionHistory(), "1", "approved")
    history = decided(client, history, "1", "withdrawn")
    history = decided(client, history, "2", "rejected")
    follow(server.url, history)
    assert aliases(client) == {}
    assert tags(client, "2")[VERDICT].startswith("rejected by rita")


def test_the_coordinators_last_word_counts_whatever_mlflow_says(
    server: MlflowServer, client: Any, tmp_path: Path
) -> None:
    approved = decided(client, DecisionHistory(), "1", "approved")
    follow(server.url, approved)
    address, withdrawn = f"models:/{MODEL}/1", decided(client, approved, "1", "withdrawn")
    assert export(address, tmp_path / "old", key=TRUSTED).approval is not None
    found = export(address, tmp_path / "newest", key=TRUSTED, history=approved)
    assert found.approval is not None
    assert found.approval.entry.number == 1
    with pytest.raises(WardroundError, match="rita has withdrawn it"):
        export(address, tmp_path / "withdrawn", key=TRUSTED, history=withdrawn)
    with pytest.raises(WardroundError, match="no such decision in its record"):
        export(address, tmp_path / "lost", key=TRUSTED, history=DecisionHistory())
    assert not (tmp_path / "withdrawn").exists()


def test_an_alias_set_by_hand_is_flagged_until_a_reviewer_signs(
    server: MlflowServer, client: Any, tmp_path: Path
) -> None:
    client.set_registered_model_alias(MODEL, APPROVED, "2")
    assert follow(server.url, DecisionHistory()) == (UnsignedApproval(MODEL, "2"),)
    assert tags(client, "2")[UNSIGNED].startswith("NOT APPROVED")
    assert aliases(client)[APPROVED] == "2", "a reviewer may still confirm it"
    with pytest.raises(WardroundError, match="nobody has decided") as refused:
        export(f"models:/{MODEL}@approved", tmp_path / "m.safetensors", key=TRUSTED)
    assert refused.value.code is Code.REFUSED_POLICY
    history = decided(client, DecisionHistory(), "2", "approved")
    assert follow(server.url, history) == ()
    assert UNSIGNED not in tags(client, "2")
    assert export(f"models:/{MODEL}@approved", tmp_path / "m.safetensors", key=TRUSTED).approval


def test_a_flag_goes_with_the_alias(server: MlflowServer, client: Any) -> None:
    client.set_registered_model_alias(MODEL, APPROVED, "2")
    follow(server.url, DecisionHistory())
    client.set_registered_model_alias(MODEL, APPROVED, "1")
    assert follow(server.url, DecisionHistory()) == (UnsignedApproval(MODEL, "1"),)
    assert UNSIGNED not in tags(client, "2")
    client.delete_registered_model_alias(MODEL, APPROVED)
    assert follow(server.url, DecisionHistory()) == ()
    assert UNSIGNED not in tags(client, "1")


def test_an_alias_put_back_after_a_withdrawal_is_flagged(server: MlflowServer, client: Any) -> None:
    history = decided(client, DecisionHistory(), "1", "approved")
    history = decided(client, history, "1", "withdrawn")
    follow(server.url, history)
    client.set_registered_model_alias(MODEL, APPROVED, "1")
    assert follow(server.url, history) == (UnsignedApproval(MODEL, "1"),)


def test_a_decision_that_somebody_else_signed_approves_nothing(
    server: MlflowServer, client: Any, tmp_path: Path
) -> None:
    forged = decided(client, DecisionHistory(), "2", "approved", by=Identity.generate())
    follow(server.url, forged)  # as whoever may write to MLflow could
    with pytest.raises(WardroundError, match="not signed by the coordinator") as refused:
        registered_model.load(f"models:/{MODEL}@approved", key=TRUSTED)
    assert refused.value.code is Code.REFUSED_POLICY
    for address in (f"models:/{MODEL}@approved", f"models:/{MODEL}/2"):
        with pytest.raises(WardroundError, match="not signed by the coordinator"):
            export(address, tmp_path / "m.safetensors", key=TRUSTED)
    assert follow(server.url, DecisionHistory()) == (UnsignedApproval(MODEL, "2"),)


def test_what_was_rejected_is_not_exported(
    server: MlflowServer, client: Any, tmp_path: Path
) -> None:
    follow(server.url, decided(client, DecisionHistory(), "1", "rejected"))
    with pytest.raises(WardroundError, match="rita has rejected it"):
        export(f"models:/{MODEL}/1", tmp_path / "m.safetensors", key=TRUSTED)
    assert not list(tmp_path.iterdir())


def test_the_approved_version_is_loaded_with_a_key_alone(server: MlflowServer, client: Any) -> None:
    with pytest.raises(WardroundError, match=f"none of {MODEL} is approved"):
        registered_model.load(f"models:/{MODEL}@approved", key=TRUSTED)
    follow(server.url, decided(client, DecisionHistory(), "1", "approved"))
    registered_model.load(f"models:/{MODEL}@approved", key=TRUSTED)
    with pytest.raises(WardroundError, match="public key") as refused:
        registered_model.load(f"models:/{MODEL}@approved")
    assert refused.value.code is Code.CREDENTIALS


def test_the_watch_says_what_it_finds_and_when_it_cannot_look(
    server: MlflowServer, client: Any, tmp_path: Path
) -> None:
    decisions, told = Reviewed(tmp_path).decisions, list[tuple[tuple[UnsignedApproval, ...], str]]()
    offers = Offers(tmp_path / "models", KEY.public_key)
    with ApprovalWatch(decisions, offers, server.url, lambda *of: told.append(of), pause=0.1):
        until(lambda: told, "a first look")
        client.set_registered_model_alias(MODEL, APPROVED, "1")
        until(lambda: told[-1][0] == (UnsignedApproval(MODEL, "1"),), "it is found")
    assert PAUSE < 60, "the alias is told within a minute"
    away = ApprovalWatch(decisions, offers, "http://127.0.0.1:9", lambda *of: told.append(of))
    away.look()
    assert told[-1][1] == "MLflow does not answer (MlflowException)"
