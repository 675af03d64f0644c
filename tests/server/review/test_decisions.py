"""Who may decide about a model, about which, and how often; and that no decision is ever lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.decision import Verdict
from server.review.decisions import AUDITS, FILE, JudgedStudy
from tests.failing_disk import disk
from tests.protocol.models.audits import report
from tests.server.outcomes import study
from tests.server.review.reviewed import STUDY, Reviewed, proposed, record


@pytest.fixture
def here(tmp_path: Path) -> Reviewed:
    return Reviewed(tmp_path)


@contextmanager
def refused(code: Code, words: str) -> Iterator[None]:
    with pytest.raises(WardroundError, match=words) as caught:
        yield
    assert caught.value.code is code
    assert caught.value.remedy


def verdicts(here: Reviewed) -> list[tuple[str, Verdict]]:
    return [(one.decision.reviewer, one.decision.verdict) for one in here.opened().history.entries]


def test_a_decision_survives_a_restart(here: Reviewed) -> None:
    here.decide("approved")
    here.decide("withdrawn", "raoul")
    assert verdicts(here) == [("rita", "approved"), ("raoul", "withdrawn")]
    assert (here.folder / FILE).stat().st_mode & 0o077 == 0


def test_nobody_decides_about_their_own_study(here: Reviewed) -> None:
    here.studies[STUDY] = JudgedStudy("rita")
    with refused(Code.REFUSED_POLICY, "rita's own study"):
        here.decide()
    assert here.decide(reviewer="raoul") == "approved"


def test_a_model_that_fails_its_gates_is_not_approved(here: Reviewed) -> None:
    here.studies[STUDY] = JudgedStudy("ada", ("auc: 0.7 (0.6 to 0.8)",))
    with refused(Code.REFUSED_POLICY, "does not pass its study's gates: auc"):
        here.decide()
    assert here.decide("rejected") == "rejected"


def test_an_audit_gate_opens_for_a_report_of_that_study_alone(here: Reviewed) -> None:
    of = study()
    here.studies[STUDY] = JudgedStudy("ada", (), of)
    signed, key = record(here.signer), here.keys["rita"]
    for shown, says in (
        ("", "audit: no report was shown"),
        (report(study()), "audit: the report is of another study"),
        (report(of, bound=9.0), "audit: the claim is broken"),
    ):
        with refused(Code.REFUSED_POLICY, says):
            here.decisions.add("rita", proposed(signed, key, audit=shown))
    honest = proposed(signed, key, audit=report(of))
    with refused(Code.MESSAGE, "not the one that the decision names"):
        here.decisions.add("rita", honest.model_copy(update={"audit": report(of, bound=0.1)}))
    assert verdicts(here) == []
    assert not (here.folder / AUDITS).exists()
    entry = here.decisions.add("rita", honest)
    (kept,) = (here.folder / AUDITS).iterdir()
    assert kept.stem == entry.decision.audit == digest(kept.read_bytes())
    assert kept.stat().st_mode & 0o077 == 0
    assert here.opened().history.entries[-1].decision.audit == kept.stem


def test_a_model_is_rejected_without_an_audit(here: Reviewed) -> None:
    here.studies[STUDY] = JudgedStudy("ada", (), study())
    assert here.decide("rejected") == "rejected"


def test_what_does_not_exist_is_not_decided_about(here: Reviewed) -> None:
    foreign = record(Identity.generate())
    with refused(Code.REFUSED_POLICY, "signed no model heart version 1"):
        here.decisions.add("rita", proposed(foreign, here.keys["rita"]))
    del here.studies[STUDY]
    with refused(Code.REFUSED_POLICY, "not known to this coordinator"):
        here.decide()
    assert verdicts(here) == []


def test_a_decision_about_one_version_is_none_about_another(here: Reviewed) -> None:
    one, other = record(here.signer), record(here.signer, version="2")
    swapped = proposed(one, here.keys["rita"]).model_copy(
        update={"record": other.text, "signature": other.signature}
    )
    with refused(Code.REFUSED_POLICY, "signed no model heart version 1"):
        here.decisions.add("rita", swapped)


@pytest.mark.parametrize(
    ("account", "signs", "says"),
    [
        ("ada", "rita", "is no reviewer"),
        ("raoul", "rita", "another reviewer's key"),
        ("rita", "raoul", "another reviewer's key"),
        ("nobody", "rita", "is no reviewer"),
    ],
)
def test_only_a_reviewers_own_key_decides(
    here: Reviewed, account: str, signs: str, says: str
) -> None:
    body = proposed(record(here.signer), here.keys[signs], reviewer="rita")
    with refused(Code.REFUSED_POLICY, says):
        here.decisions.add(account, body)
    assert verdicts(here) == []


def test_a_former_key_decides_no_more(here: Reviewed) -> None:
    here.decide()
    here.accounts.set_key("rita", Identity.generate().public_key.hex())
    with refused(Code.REFUSED_POLICY, "a former one"):
        here.decide("withdrawn")


def test_what_a_former_key_approved_may_be_approved_again(here: Reviewed) -> None:
    here.decide()
    here.keys["rita"] = Identity.generate()
    here.accounts.set_key("rita", here.keys["rita"].public_key.hex())
    assert here.decide() == "approved"
    assert len(verdicts(here)) == 2


@pytest.mark.parametrize(
    ("before", "then", "says"),
    [
        ([], "withdrawn", "nothing to withdraw"),
        (["approved"], "approved", "rita has approved heart version 1 already"),
        (["approved"], "rejected", "rita has approved heart version 1"),
        (["rejected"], "rejected", "has rejected heart version 1 already"),
        (["rejected"], "withdrawn", "nothing to withdraw"),
        (["approved", "withdrawn"], "withdrawn", "nothing to withdraw"),
    ],
)
def test_a_decision_that_changes_nothing_is_refused(
    here: Reviewed, before: list[Verdict], then: Verdict, says: str
) -> None:
    for verdict in before:
        here.decide(verdict)
    with refused(Code.USAGE, says):
        here.decide(then, "raoul")
    assert [verdict for _, verdict in verdicts(here)] == before


def test_a_call_that_is_repeated_decides_once(here: Reviewed) -> None:
    body = proposed(record(here.signer), here.keys["rita"])
    assert here.decisions.add("rita", body) == here.decisions.add("rita", body)
    assert verdicts(here) == [("rita", "approved")]


def test_an_old_decision_is_not_taken_again(here: Reviewed) -> None:
    approval = proposed(record(here.signer), here.keys["rita"])
    here.decisions.add("rita", approval)
    here.decide("withdrawn", "raoul")
    with refused(Code.REFUSED_POLICY, "was taken before"):
        here.decisions.add("rita", approval)
    assert verdicts(here)[-1] == ("raoul", "withdrawn")


def test_a_full_disk_decides_nothing(here: Reviewed) -> None:
    here.decide()
    with disk(here.folder, FILE), refused(Code.STATE, "cannot store the decision"):
        here.decide("withdrawn")
    assert verdicts(here) == [("rita", "approved")]
    assert here.decide("withdrawn") == "withdrawn"


def test_half_a_line_of_a_killed_coordinator_is_cut_off(here: Reviewed) -> None:
    here.decide()
    with (here.folder / FILE).open("ab") as file:
        file.write(b'{"text":"half')
    assert verdicts(here) == [("rita", "approved")]
    here.decisions = here.opened()
    assert here.decide("withdrawn") == "withdrawn"


@pytest.mark.parametrize("change", ["first line lost", "rewritten", "another key"])
def test_a_record_that_was_changed_decides_nothing(here: Reviewed, change: str) -> None:
    here.decide()
    here.decide("withdrawn")
    path = here.folder / FILE
    match change:
        case "first line lost":
            path.write_bytes(path.read_bytes().splitlines(keepends=True)[1])
        case "rewritten":
            path.write_bytes(path.read_bytes().replace(b"because rita", b"because Rita", 1))
        case "another key":
            here.signer = Identity.generate()
    here.decisions = here.opened()
    with refused(Code.STATE, "is damaged"):
        here.decide(reviewer="raoul")
