"""Approval: a person or a rule decides, in plain words, and a decision holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.approver.study_page import summarise
from client.governance import approvals
from client.governance.audit_replay import AuditEvent
from client.governance.budget import budget
from protocol.errors import Code, WardroundError
from tasks.schema import Column, Schema
from tests.client.hospital import Hospital, numbered, policy, study
from tests.parsed import parsed

SCHEMA = Schema(
    columns=(Column("age", "age at admission", unit="a", high=120),),
    label="died",
    label_meaning="died within 30 days",
)


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital.found(tmp_path / "state")


def events(hospital: Hospital) -> list[str]:
    return [entry.event for entry in hospital.audit.entries()]


def state(hospital: Hospital) -> str:
    return hospital.approvals.studies()[-1].state


def test_by_hand_a_study_waits_however_often_it_is_proposed(hospital: Hospital) -> None:
    for _ in range(5):
        assert hospital.approvals.propose(study()) == ("waiting", None)
    assert events(hospital) == [AuditEvent.STUDY_SEEN]
    hospital.approvals.approve(study())
    assert hospital.approvals.propose(study()) == ("accepted", None)
    assert events(hospital) == [AuditEvent.STUDY_SEEN, AuditEvent.STUDY_ACCEPTED]


def test_by_rule_it_is_accepted_at_once(tmp_path: Path) -> None:
    hospital = Hospital.found(tmp_path / "state", policy(approval="rule"))
    assert hospital.approvals.propose(study()) == ("accepted", None)
    entries = hospital.audit.entries()
    assert entries[-1].fields["by"] == "rule"
    assert hospital.approvals.accepted_by(study()) == "rule"


def test_who_accepted_a_study_stays_known_once_its_rules_are_checked_again(
    hospital: Hospital,
) -> None:
    hospital.approvals.propose(study())
    assert hospital.approvals.accepted_by(study()) == ""
    hospital.approvals.approve(study())
    hospital.approvals.recheck(unchanged=True)
    assert hospital.audit.entries()[-1].fields["by"] == "policy"
    assert hospital.approvals.accepted_by(study()) == "hand"


def test_what_a_person_decided_is_not_undone_by_proposing_again(hospital: Hospital) -> None:
    one = study()
    hospital.approvals.propose(one)
    hospital.approvals.reject(one, reason="not now")
    assert hospital.approvals.propose(one)[0] == "refused"
    hospital.approvals.approve(one)
    hospital.approvals.revoke(one)
    assert hospital.approvals.propose(one) == ("refused", Code.REVOKED)
    assert state(hospital) == "revoked"


def test_what_rules_refused_is_looked_at_again_under_new_rules(hospital: Hospital) -> None:
    other = study(purpose="quality")
    assert hospital.approvals.propose(other) == ("refused", Code.REFUSED_POLICY)
    assert hospital.approvals.propose(other) == ("refused", Code.REFUSED_POLICY)
    assert events(hospital) == [AuditEvent.STUDY_REFUSED]
    with pytest.raises(WardroundError) as caught:
        hospital.approvals.approve(other)
    assert caught.value.code == Code.REFUSED_POLICY, "no person can approve against site.yaml"
    hospital = hospital.again(policy(purposes=["research", "quality"]))
    assert hospital.approvals.propose(other) == ("waiting", None)


def test_a_finished_study_stays_finished(hospital: Hospital) -> None:
    one = hospital.accept(study())
    hospital.approvals.close(one, "finished")
    hospital.approvals.close(one, "failed")
    assert state(hospital) == "finished"
    assert hospital.approvals.propose(one) == ("refused", Code.REFUSED_REPLAY)
    for decide in (
        hospital.approvals.approve,
        hospital.approvals.revoke,
        hospital.approvals.reject,
    ):
        with pytest.raises(WardroundError) as caught:
            decide(one)
        assert caught.value.code == Code.USAGE
    assert state(hospital) == "finished"


def test_closing_an_unknown_study_records_nothing(hospital: Hospital) -> None:
    hospital.approvals.close(study(), "finished")
    assert hospital.approvals.studies() == ()


def test_a_study_is_found_by_the_beginning_of_its_digest(hospital: Hospital) -> None:
    one = study()
    hospital.approvals.propose(one)
    assert hospital.approvals.find(one.digest[:8]) == (one, "waiting")
    for wrong in ("", one.digest[:3], "zzzz", "%", "____", one.digest + "0"):
        with pytest.raises(WardroundError) as caught:
            hospital.approvals.find(wrong)
        assert caught.value.code == Code.USAGE


def test_what_is_open_and_what_waits(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = hospital.accept(numbered(1)), hospital.accept(numbered(2))
    hospital.approvals.close(hospital.accept(numbered(3)), "finished")
    hospital.approvals.propose(numbered(4))
    documents = parsed(monkeypatch)
    assert hospital.approvals.waiting() == 1
    budget(hospital.state, hospital.ledger.policy)
    assert documents == [], "neither needs a study"
    found = {study.digest for study in hospital.approvals.accepted()}
    assert found == {first.digest, second.digest}
    assert sorted(documents) == sorted([first.document, second.document])


def test_a_person_decides_on_a_study_that_is_read_once(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.approvals.propose(study())
    documents = parsed(monkeypatch)
    found, _ = hospital.approvals.find(study().digest[:12])
    summarise(hospital.approvals, found, SCHEMA)
    hospital.approvals.approve(found)
    assert documents == [study().document]
    assert state(hospital) == "accepted"


def test_a_study_that_was_never_seen_is_not_decided_on(hospital: Hospital) -> None:
    for decide in (
        hospital.approvals.approve,
        hospital.approvals.revoke,
        hospital.approvals.reject,
    ):
        with pytest.raises(WardroundError) as caught:
            decide(study())
        assert caught.value.code == Code.USAGE
    assert hospital.approvals.studies() == ()


def test_a_flood_of_proposals_neither_fills_the_list_nor_hides_what_waits(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MAX_UNDECIDED", 5)
    first = numbered(0)
    hospital.approvals.propose(first)
    for number in range(1, 12):
        hospital.approvals.propose(numbered(number, purpose="marketing"))
    assert len(hospital.approvals.studies()) <= 6
    assert hospital.approvals.find(first.digest)[1] == "waiting"
    answers = [hospital.approvals.propose(numbered(number)) for number in range(12, 20)]
    assert answers[-1][0] == "refused"
    assert sum(s.state == "waiting" for s in hospital.approvals.studies()) == 5
    hospital.approvals.approve(first)
    hospital.audit.verify()


def words(hospital: Hospital, digest: str) -> dict[str, str]:
    return dict(summarise(hospital.approvals, hospital.approvals.find(digest)[0], SCHEMA))


def test_a_delta_above_one_in_the_patients_is_shown(hospital: Hospital) -> None:
    for number, delta in ((1, 1 / 300), (2, 1 / 299)):
        asked = numbered(number, privacy__delta=delta)
        hospital.approvals.propose(asked)
        said = words(hospital, asked.digest[:8]).get("Its delta", "")
        assert ("above 1/300," in said) == (delta > 1 / 300)


def test_it_is_shown_in_plain_words_before_it_is_approved(hospital: Hospital) -> None:
    one = study(evaluation__fraction=0.25)
    hospital.approvals.propose(one)
    shown = words(hospital, one.digest[:8])
    assert shown["Who asks"] == "someone@example.org"
    assert "75% of it to train, 25% to evaluate" in shown["Which patients"]
    assert "age (age at admission)" in shown["Which columns"]
    assert "died within 30 days" in shown["Which columns"]
    assert "epsilon 4 at delta 1e-05" in shown["How private"]
    assert "3 or more sites" in shown["What leaves"]
    assert shown["What it costs"].startswith("epsilon 2.470 ")
    assert "of 5 reserved; 2.530 would be left" in shown["Budget with it"]


def test_what_is_weak_about_it_is_said(tmp_path: Path) -> None:
    rules = policy(modes=["none", "local", "distributed"], exact_evaluation=True, unmasked=True)
    hospital = Hospital.found(tmp_path / "state", rules)
    exact = {"release": "exact"}
    for number, changes, question, word in (
        (1, {"privacy__mode": "distributed"}, "If secure aggregation broke", "epsilon 4.1"),
        (2, {"aggregation__masked": False}, "What leaves", "the coordinator sees each"),
        (3, {"evaluation": exact}, "Why it cannot be accepted", "can show one patient"),
        (4, {"privacy": {"mode": "none"}, "evaluation": exact}, "How private", "no noise"),
        (5, {"evaluation__split": "column"}, "Which patients", "a column of it"),
    ):
        wanted = numbered(number, **changes)
        hospital.approvals.propose(wanted)
        assert word in words(hospital, wanted.digest)[question]


def test_why_it_cannot_be_accepted_is_said(hospital: Hospital) -> None:
    hungry = study(aggregation__attempts=500, privacy__epsilon=100.0)
    assert hospital.approvals.propose(hungry) == ("refused", Code.REFUSED_BUDGET)
    assert (
        "policy.epsilon_per_study is 3"
        in words(hospital, hungry.digest)["Why it cannot be accepted"]
    )
    (listed,) = hospital.approvals.studies()
    assert listed.code == Code.REFUSED_BUDGET
    assert "epsilon_per_study" in listed.reason
