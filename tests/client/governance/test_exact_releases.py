"""Exact releases: one number for a site's life, one roster, and public data apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.config.known_roster import KnownRoster
from client.governance.approvals import Approvals
from client.governance.audit import Audit
from client.governance.audit_replay import AuditEvent
from client.governance.budget import budget
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from tests.client.hospital import SITE, SITES, Hospital, numbered, policy

ROUNDS = 3
PLANNED = 2 * (ROUNDS + 1) - ROUNDS
"""Exact releases of one study: an attempt a round and the closing one, which evaluates."""
FOUR = [{"name": name, "patients": 100} for name in (*SITES, "kappa")]


def exact(number: int, **changes: Any) -> Study:
    """A study without noise: four attempts that may train, and one that may evaluate."""
    return numbered(
        number,
        privacy={"mode": "none"},
        optimisation={"rounds": ROUNDS},
        aggregation={"attempts": ROUNDS + 1},
        evaluation={"release": "exact"},
        **changes,
    )


def rules(**changes: Any) -> Any:
    allowed = {"modes": ["none", "local"], "exact_evaluation": True, "approval": "rule"}
    return policy(**allowed | changes)


def founded(tmp_path: Path, **changes: Any) -> Hospital:
    """A new hospital, which knows four."""
    hospital = Hospital.found(tmp_path / "state", rules(**changes))
    hospital.approvals = Approvals(
        hospital.ledger, SITE, KnownRoster(dict.fromkeys((*SITES, "kappa"), ""))
    )
    return hospital


def refused(action: Callable[[], object]) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        action()
    assert caught.value.rule == "exact_releases", caught.value
    return caught.value


def accepts(hospital: Hospital, study: Study) -> bool:
    return hospital.approvals.propose(study)[0] == "accepted"


# The number


def test_by_default_nothing_is_released_exactly(tmp_path: Path) -> None:
    hospital = founded(tmp_path)
    assert hospital.approvals.propose(exact(1)) == ("refused", Code.REFUSED_BUDGET)
    assert "can show one patient" in refused(lambda: hospital.approvals.check(exact(1))).message
    assert hospital.approvals.weigh(exact(1)).rules == ("exact_releases",)
    assert budget(hospital.state, hospital.ledger.policy).spent == 0


@pytest.mark.parametrize("left", [PLANNED - 1, PLANNED])
def test_one_more_than_the_number_is_refused(tmp_path: Path, left: int) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED + left)
    assert accepts(hospital, exact(1))
    assert accepts(hospital, exact(2)) == (left == PLANNED)


def test_what_was_released_counts_for_ever_and_what_was_not_comes_back(tmp_path: Path) -> None:
    """Over tasks and over restarts: an attempt that trains and evaluates is two releases."""
    hospital = founded(
        tmp_path, exact_releases=PLANNED + 2, tasks=["breast_cancer", "heart_disease"]
    )
    first = exact(1)
    assert accepts(hospital, first)
    hospital.debit(first, 1, 1)
    hospital.debit(first, ROUNDS + 1, 2)
    hospital.approvals.close(first, "finished")
    hospital = hospital.again(daemon=True)
    second = exact(2, task__name="heart_disease")
    assert accepts(hospital, second)
    hospital.approvals.close(second, "finished")
    assert accepts(hospital, exact(3))
    assert not accepts(hospital, exact(4))
    account = budget(hospital.state, hospital.ledger.policy)
    assert (account.exact, account.exact_cap, account.exact_public) == (2, PLANNED + 2, 0)


def test_no_attempt_is_answered_beyond_what_was_reserved(tmp_path: Path) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED)
    study = exact(1)
    assert accepts(hospital, study)
    for round_ in range(1, ROUNDS + 2):
        hospital.debit(study, round_, round_)
    with pytest.raises(WardroundError) as caught:
        hospital.ledger.debit(study, ROUNDS + 1, ROUNDS + 2, train=False, evaluate=True)
    assert caught.value.code is Code.ATTEMPTS_SPENT
    assert budget(hospital.state, hospital.ledger.policy).exact == ROUNDS + 1


def test_a_lower_number_revokes_what_is_open(tmp_path: Path) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED)
    study = exact(1)
    assert accepts(hospital, study)
    hospital = hospital.again(rules(), daemon=True)
    assert hospital.approvals.recheck() == (study.title,)


def test_an_older_copy_is_charged_all_exact_releases_that_were_open(tmp_path: Path) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED)
    hospital.ledger.acknowledge([exact(1)])
    assert budget(hospital.state, hospital.ledger.policy).exact == PLANNED
    assert not accepts(hospital, exact(2))


# The roster


def test_another_roster_waits_for_a_person_who_is_told_whose_data_it_could_tell(
    tmp_path: Path,
) -> None:
    hospital = founded(tmp_path, exact_releases=9 * PLANNED)
    first, larger = exact(1), exact(2, roster=FOUR)
    assert accepts(hospital, first)
    assert hospital.approvals.propose(larger) == ("refused", Code.REFUSED_POLICY)
    assert "kappa" in refused(lambda: hospital.approvals.check(larger)).message
    assert hospital.approvals.revealed_by_subtraction(larger) == ("kappa",)
    assert hospital.approvals.revealed_by_subtraction(first) == ()
    hospital.approvals.permit_roster(larger)
    assert accepts(hospital, larger)
    assert accepts(hospital, exact(3, roster=FOUR))
    assert accepts(hospital, exact(4))
    fewer = exact(5, roster=[member for member in FOUR if member["name"] != "beta"])
    assert hospital.approvals.revealed_by_subtraction(fewer) == ("beta", "kappa")
    assert hospital.approvals.propose(fewer) == ("refused", Code.REFUSED_POLICY)


def test_a_permission_is_in_the_signed_log_and_nothing_else(tmp_path: Path) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED)
    study = exact(1)
    hospital.approvals.permit_roster(study)
    audit: Audit = hospital.audit
    audit.verify()
    with hospital.state.reading() as db:
        rows = db.execute(
            "SELECT fields FROM audit WHERE event = ?", (AuditEvent.ROSTER_PERMITTED,)
        ).fetchall()
    assert [json.loads(fields)["study"] for (fields,) in rows] == [study.digest]


def test_a_roster_of_which_nothing_was_released_binds_nobody(tmp_path: Path) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED)
    first = exact(1)
    assert accepts(hospital, first)
    hospital.approvals.close(first, "cancelled")
    assert accepts(hospital, exact(2, roster=FOUR))


@pytest.mark.parametrize(("colluding", "answered"), [(1, True), (2, False)])
def test_an_exact_sum_has_two_honest_sites(tmp_path: Path, colluding: int, answered: bool) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED)
    study = exact(1)
    aggregation = study.aggregation.model_copy(update={"colluding_sites": colluding})
    assert accepts(hospital, study.model_copy(update={"aggregation": aggregation})) == answered


# Public data


def test_public_data_are_neither_counted_nor_compared(tmp_path: Path) -> None:
    hospital = founded(tmp_path, public_data=["breast_cancer"])
    study = exact(1)
    assert accepts(hospital, study)
    assert accepts(hospital, exact(2, roster=FOUR))
    hospital.debit(study, 1, 1)
    account = budget(hospital.state, hospital.ledger.policy)
    assert (account.exact, account.exact_public) == (0, 1)
    hospital.audit.verify()


def test_data_that_are_no_longer_said_to_be_public_end_their_open_studies(tmp_path: Path) -> None:
    hospital = founded(tmp_path, public_data=["breast_cancer"])
    study = exact(1)
    assert accepts(hospital, study)
    hospital = hospital.again(rules(exact_releases=100), daemon=True)
    assert hospital.approvals.recheck() == (study.title,)
    with pytest.raises(WardroundError, match="another study"):
        hospital.approvals.approve(study)


def test_releases_of_patients_count_though_the_task_is_public_now(tmp_path: Path) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED, tasks=["breast_cancer", "heart_disease"])
    study = exact(1)
    assert accepts(hospital, study)
    for round_ in range(1, ROUNDS + 2):
        hospital.debit(study, round_, round_)
    now = rules(
        exact_releases=PLANNED,
        tasks=["breast_cancer", "heart_disease"],
        public_data=["breast_cancer"],
    )
    hospital = hospital.again(now, daemon=True)
    assert hospital.approvals.recheck() == ()
    assert not accepts(hospital, exact(2, task__name="heart_disease"))


def test_a_plan_cannot_be_made_public_in_the_tables(tmp_path: Path) -> None:
    hospital = founded(tmp_path, exact_releases=PLANNED)
    assert accepts(hospital, exact(1))
    with hospital.state.transaction() as db:
        db.execute("UPDATE plans SET event = 'public'")
    with pytest.raises(WardroundError) as caught:
        hospital.audit.verify()
    assert caught.value.code is Code.AUDIT
