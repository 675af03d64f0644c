"""Would you? A study that nobody proposed is weighed like one that is, and leaves no trace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.governance.approvals import DryRunAnswer
from protocol.errors import Code
from tests.client.hospital import Hospital, numbered, policy, study


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    found = Hospital.found(tmp_path / "alpha")
    yield found
    found.state.close()


def test_what_is_weighed_is_not_recorded(hospital: Hospital) -> None:
    assert hospital.approvals.weigh(study()) == DryRunAnswer("waiting")
    assert hospital.approvals.weigh(study(purpose="marketing")).state == "refused"
    assert hospital.approvals.studies() == ()
    assert hospital.approvals.propose(study()) == ("waiting", None)


def test_by_rule_it_would_be_accepted(tmp_path: Path) -> None:
    by_rule = Hospital.found(tmp_path / "alpha", policy(approval="rule"))
    assert by_rule.approvals.weigh(study()) == DryRunAnswer("accepted")
    assert by_rule.approvals.studies() == ()
    by_rule.state.close()


@pytest.mark.parametrize(
    ("changes", "code", "rules"),
    [
        ({"purpose": "marketing"}, Code.REFUSED_POLICY, ("purposes",)),
        (
            {"privacy__delta": 1e-3, "aggregation__least_sites": 1, "aggregation__masked": False}
            | {"aggregation__colluding_sites": 0},
            Code.REFUSED_POLICY,
            ("unmasked", "least_sites", "colluding_sites", "delta"),
        ),
        (
            {"privacy__noise_multiplier": 0.8, "privacy__epsilon": 50.0},
            Code.REFUSED_BUDGET,
            ("epsilon_per_study",),
        ),
        (
            {"purpose": "x", "privacy__noise_multiplier": 0.8, "privacy__epsilon": 50.0},
            Code.REFUSED_POLICY,
            ("purposes", "epsilon_per_study"),
        ),
    ],
)
def test_every_rule_that_forbids_it_is_named(
    hospital: Hospital, changes: dict[str, Any], code: Code, rules: tuple[str, ...]
) -> None:
    assert hospital.approvals.weigh(study(**changes)) == DryRunAnswer("refused", code, rules)


def test_a_spent_lifetime_is_named_and_a_person_s_no_is_not_explained(hospital: Hospital) -> None:
    number = 1
    while hospital.approvals.weigh(numbered(number)).state == "waiting":
        hospital.accept(numbered(number))
        number += 1
    assert number > 2
    weighed = hospital.approvals.weigh(numbered(number))
    assert (weighed.code, weighed.rules) == (Code.REFUSED_BUDGET, ("epsilon_lifetime",))
    hospital.approvals.revoke(numbered(1))
    assert hospital.approvals.weigh(numbered(1)) == DryRunAnswer("refused", Code.REVOKED)


def test_weighing_agrees_with_proposing(hospital: Hospital) -> None:
    cases: list[dict[str, Any]] = [{}, {"purpose": "x"}, {"privacy__delta": 1e-3}]
    cases.append({"privacy__mode": "none"})
    for number, changes in enumerate(cases, start=10):
        if changes.get("privacy__mode") == "none":
            changes |= {"privacy__noise_multiplier": 0.0, "privacy__epsilon": None}
            changes |= {"evaluation__release": "exact", "evaluation__noise_multiplier": 0.0}
        wanted = numbered(number, **changes)
        weighed = hospital.approvals.weigh(wanted)
        assert hospital.approvals.propose(wanted) == (weighed.state, weighed.code)
