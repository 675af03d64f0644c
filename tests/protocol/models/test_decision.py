"""An approval holds for the very files that were approved, by whom the caller trusts to decide."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.document import canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.decision import (
    ENTRY,
    ENTRY_SIGNATURE,
    FIRST,
    Decision,
    DecisionHistory,
    DecisionNews,
    Keys,
    SignedDecision,
    SignedEntry,
    Verdict,
    require_approved,
)

REVIEWER, COORDINATOR = Identity.generate(), Identity.generate()
TRUSTED = COORDINATOR.public_key
RECORD = digest(b'{"model":"breast_cancer","version":"1"}')
RITA: Keys = {"rita": frozenset({REVIEWER.public_key.hex()})}


def decision(verdict: Verdict = "approved", record: str = RECORD, reason: str = "sure") -> Decision:
    return Decision(
        model="breast_cancer",
        version="1",
        study="0" * 64,
        record=record,
        verdict=verdict,
        reason=reason,
        reviewer="rita",
        time="2026-11-27T10:00:00+00:00",
    )


def history(*decisions: Decision) -> DecisionHistory:
    made = DecisionHistory()
    for one in decisions:
        made = made.appended(SignedDecision.make(one, REVIEWER), COORDINATOR)
    return made


def entry(verdict: Verdict = "approved", record: str = RECORD) -> SignedEntry:
    return history(decision(verdict, record)).signed[0]


def refusal(entry: SignedEntry | None, reviewers: Keys | None = None, record: str = RECORD) -> str:
    with pytest.raises(WardroundError) as refused:
        require_approved("breast_cancer/1", entry, record, TRUSTED, reviewers)
    assert refused.value.code is Code.REFUSED_POLICY
    assert refused.value.remedy
    return refused.value.message


def test_an_approved_version_is_approved() -> None:
    assert require_approved("here", entry(), RECORD, TRUSTED).decision == decision()
    assert require_approved("here", entry(), RECORD, TRUSTED, RITA).decision == decision()


def test_a_version_without_an_approval_is_refused() -> None:
    assert "nobody has decided" in refusal(None)
    assert "rita has rejected it" in refusal(entry("rejected"))
    assert "rita has withdrawn it" in refusal(entry("withdrawn"))


def test_another_versions_approval_approves_nothing() -> None:
    assert "about another version" in refusal(entry(), record=digest(b"another"))


@pytest.mark.parametrize(
    "known",
    [{}, {"rita": frozenset()}, {"rita": frozenset({"0" * 64})}, {"ada": RITA["rita"]}],
    ids=["nobody", "no key", "another key", "another's name"],
)
def test_a_reviewer_who_is_not_pinned_approves_nothing(known: Keys) -> None:
    assert "the key of rita" in refusal(entry(), known)


def test_only_the_coordinator_makes_entries() -> None:
    forged = DecisionHistory().appended(SignedDecision.make(decision(), REVIEWER), REVIEWER)
    assert "not signed by the coordinator" in refusal(forged.signed[0])
    tags = entry("rejected").tags
    tags[ENTRY] = tags[ENTRY].replace("rejected", "approved")
    assert "not signed by the coordinator" in refusal(SignedEntry.of_tags(tags))
    unsigned = SignedEntry.of_tags(entry().tags | {ENTRY_SIGNATURE: "no hexadecimal"})
    assert "not signed" in refusal(unsigned)


def test_an_entry_holds_only_what_its_reviewer_signed() -> None:
    signed = SignedDecision.make(decision("rejected"), REVIEWER)
    text = canonical(decision().model_dump(mode="json")).decode()
    with pytest.raises(WardroundError, match="not its reviewer's"):
        DecisionHistory().appended(signed.model_copy(update={"decision": text}), COORDINATOR)


def test_an_entry_names_the_one_before_it() -> None:
    first, second = history(decision(), decision("withdrawn")).signed
    assert json.loads(first.text)["previous"] == FIRST
    assert json.loads(second.text)["previous"] == digest(first.text.encode())


def test_the_last_decision_about_a_version_counts() -> None:
    other = digest(b"another")
    made = history(decision(), decision(record=other), decision("withdrawn"))
    assert (last := made.last(RECORD)) is not None
    assert last.decision.verdict == "withdrawn"
    assert made.last(digest(b"a third")) is None


# --- the record at a site
@pytest.mark.parametrize(
    "changed",
    [
        lambda signed: signed[1:],
        lambda signed: (signed[0], signed[2]),
        lambda signed: (signed[1], signed[0], signed[2]),
        lambda signed: (*signed, signed[2]),
    ],
    ids=["first lost", "one lost", "order changed", "one twice"],
)
def test_a_record_that_lost_an_entry_is_refused(changed: object) -> None:
    made = history(decision(), decision("withdrawn"), decision(reason="again"))
    with pytest.raises(WardroundError) as refused:
        DecisionHistory().extended(TRUSTED, changed(made.signed))  # type: ignore[operator]  # a lambda of the list above
    assert refused.value.code is Code.IDENTITY


def test_a_record_that_shrank_or_was_rewritten_is_refused() -> None:
    mine = history(decision(), decision("withdrawn"))
    for theirs in (history(decision()), history(decision(), decision("rejected"))):
        news = DecisionNews.since(theirs, mine.number)
        with pytest.raises(WardroundError, match="lost or rewritten"):
            news.added_to(mine, TRUSTED)


@given(st.lists(st.text(min_size=1, max_size=1000), min_size=1, max_size=12))
def test_news_arrive_whole_in_fields_that_http_takes(reasons: list[str]) -> None:
    theirs, mine = history(*(decision(reason=reason) for reason in reasons)), DecisionHistory()
    while mine.number < theirs.number:
        field = DecisionNews.since(theirs, mine.number).to_field()
        assert len(field) < 60_000
        mine = DecisionNews.from_field(field).added_to(mine, TRUSTED)
    assert mine.signed == theirs.signed


@pytest.mark.parametrize("value", ["", "e30=", "not base64", "W10="])
def test_news_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(WardroundError) as refused:
        DecisionNews.from_field(value)
    assert refused.value.code is Code.MESSAGE
