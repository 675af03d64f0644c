"""An approval holds for the very files that were approved, by whom the coordinator lets decide."""

import json

import pytest

from protocol.document import canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.model_decision import (
    ENTRY,
    ENTRY_SIGNATURE,
    FIRST,
    Decision,
    SignedDecision,
    SignedEntry,
    Verdict,
    require_approved,
)

REVIEWER, COORDINATOR = Identity.generate(), Identity.generate()
RECORD = '{"model":"breast_cancer","version":"1"}'


def decision(verdict: Verdict = "approved", record: str = RECORD) -> Decision:
    return Decision(
        model="breast_cancer",
        version="1",
        study="0" * 64,
        record=digest(record.encode()),
        verdict=verdict,
        reason="calibrated, and the intervals are narrow enough",
        reviewer="rita",
        time="2026-11-27T10:00:00+00:00",
    )


def entry(verdict: Verdict = "approved", record: str = RECORD) -> SignedEntry:
    signed = SignedDecision.make(decision(verdict, record), REVIEWER)
    return SignedEntry.make(signed, None, 1, COORDINATOR)


def refusal(tags: dict[str, str], record: str = RECORD) -> str:
    with pytest.raises(WardroundError) as refused:
        require_approved("models:/breast_cancer/1", tags, record, COORDINATOR.public_key)
    assert refused.value.code is Code.REFUSED_POLICY
    assert refused.value.remedy
    return refused.value.message


def test_an_approved_version_is_approved() -> None:
    approved = require_approved("here", entry().tags, RECORD, COORDINATOR.public_key)
    assert approved == decision()


def test_a_version_without_an_approval_is_refused() -> None:
    assert "nobody has decided" in refusal({})
    assert "rita has rejected it" in refusal(entry("rejected").tags)
    assert "rita has withdrawn it" in refusal(entry("withdrawn").tags)


def test_another_versions_approval_approves_nothing() -> None:
    assert "about another version" in refusal(entry().tags, RECORD.replace('"1"', '"2"'))


def test_only_the_coordinator_makes_entries() -> None:
    signed = SignedDecision.make(decision(), REVIEWER)
    forged = SignedEntry.make(signed, None, 1, REVIEWER)
    assert "not signed by the coordinator" in refusal(forged.tags)
    changed = entry("rejected").tags
    changed[ENTRY] = changed[ENTRY].replace("rejected", "approved")
    assert "not signed by the coordinator" in refusal(changed)
    assert "not signed" in refusal(entry().tags | {ENTRY_SIGNATURE: "no hexadecimal"})


def test_an_entry_holds_only_what_its_reviewer_signed() -> None:
    signed = SignedDecision.make(decision("rejected"), REVIEWER)
    forged = signed.model_copy(
        update={"decision": canonical(decision().model_dump(mode="json")).decode()}
    )
    within = SignedEntry.make(forged, None, 1, COORDINATOR)
    assert "signature is not its reviewer" in refusal(within.tags)


def test_an_entry_names_the_one_before_it() -> None:
    first = entry()
    second = SignedEntry.make(
        SignedDecision.make(decision("withdrawn"), REVIEWER), first, 2, COORDINATOR
    )
    assert json.loads(first.text)["previous"] == FIRST
    assert json.loads(second.text)["previous"] == digest(first.text.encode())
