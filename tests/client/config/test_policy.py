"""The policy: denied unless allowed, and nothing in a study can loosen it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from client.config.policy import Policy
from client.governance.budget import spending_by_study
from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import epsilon_over_bands
from protocol.privacy.releases import planned_events
from protocol.study.study import Study
from tests.client.hospital import SITE, SITES, Hospital, policy, study


@contextmanager
def refusing(code: Code, word: str = "") -> Iterator[None]:
    with pytest.raises(WardroundError) as caught:
        yield
    assert caught.value.code == code, caught.value
    assert word in caught.value.message


def check(rules: Policy, wanted: Study) -> None:
    rules.check(wanted, site=SITE, roster=SITES)


def test_the_default_denies_everything() -> None:
    with refusing(Code.REFUSED_POLICY, "policy.tasks"):
        check(Policy(), study())
    none = study(privacy={"mode": "none"}, evaluation={"release": "exact"})
    with refusing(Code.REFUSED_POLICY):
        check(Policy(), none)


def test_what_is_allowed_passes() -> None:
    check(policy(), study())
    check(policy(), study(privacy__mode="distributed"))


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("tasks", {"task__name": "heart_disease"}),
        ("task_options", {"task__options": {"class_weight": 1000.0}}),
        ("purposes", {"purpose": "insurance"}),
        ("modes", {"privacy": {"mode": "none"}, "evaluation": {"release": "exact"}}),
        ("least_patients", {"roster": [{"name": n, "patients": 19} for n in SITES]}),
        ("unmasked", {"aggregation__masked": False}),
        ("exact_evaluation", {"evaluation": {"release": "exact"}}),
        ("least_noise_multiplier", {"privacy__noise_multiplier": 0.29}),
        ("least_noise_multiplier", {"evaluation__noise_multiplier": 0.29}),
        ("delta", {"privacy__delta": 0.49}),
        ("delta", {"privacy__delta": 1.1e-5}),
    ],
)
def test_each_rule_refuses_what_it_forbids_and_says_so(rule: str, changes: dict[str, Any]) -> None:
    with refusing(Code.REFUSED_POLICY, f"policy.{rule} "):
        check(policy(), study(**changes))


def test_patients_and_hospitals_are_told_apart_as_the_site_allows() -> None:
    age = {"kind": "bands", "column": "age", "cuts": [65.0]}
    with refusing(Code.REFUSED_POLICY, "policy.subgroups does not allow subgroups by age"):
        check(policy(subgroups=["sex"]), study(evaluation__subgroups=[age]))
    check(policy(subgroups=["age"]), study(evaluation__subgroups=[age]))
    classes = [{"level": "acme", "sites": list(SITES)}]
    vendor = {"kind": "hospitals", "attribute": "vendor", "classes": classes}
    wanted = study(evaluation__subgroups=[vendor])
    for affirmed in ({}, {"vendor": "other"}, {"size": "acme"}):
        with refusing(Code.REFUSED_POLICY, "policy.attributes does not affirm the study's vendor"):
            check(policy(attributes=affirmed, subgroups=["vendor"]), wanted)
    check(policy(attributes={"vendor": "acme"}), wanted)


def test_the_floors_on_aggregation_are_the_sites() -> None:
    four = [{"name": name, "patients": 100} for name in (*SITES, "kappa")]
    wanted = study(roster=four)
    everyone = (*SITES, "kappa")
    policy().check(wanted, site=SITE, roster=everyone)
    with refusing(Code.REFUSED_POLICY, "policy.least_sites"):
        policy(least_sites=4).check(wanted, site=SITE, roster=everyone)
    with refusing(Code.REFUSED_POLICY, "policy.colluding_sites"):
        policy(colluding_sites=2).check(wanted, site=SITE, roster=everyone)


def test_a_roster_without_this_site_or_with_a_stranger_is_refused() -> None:
    with refusing(Code.REFUSED_STUDY):
        policy().check(study(), site="omega", roster=SITES)
    with refusing(Code.REFUSED_STUDY, "gamma"):
        policy().check(study(), site=SITE, roster=("alpha", "beta"))


def test_too_few_patients_are_not_counted_aloud() -> None:
    policy(least_patients=20).check_patients(20)
    with pytest.raises(WardroundError) as caught:
        policy(least_patients=20).check_patients(17)
    assert caught.value.code == Code.TOO_FEW_PATIENTS
    assert "17" not in str(caught.value)


# Hostile studies

_number = st.one_of(
    st.sampled_from([0.0, 1e-9, 1e-5, 0.29, 0.3, 0.5, 1.0, 2.0, 50.0, 1e6, -1.0, 2.5]),
    st.floats(-10, 1e7),
)
_count = st.one_of(st.sampled_from([-1, 0, 1, 2, 3, 20, 25, 10_000, 200_000]), st.integers(0, 60))
_site = st.fixed_dictionaries({"name": st.sampled_from([*SITES, "mallory"]), "patients": _count})
_CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "purpose": st.sampled_from(["research", "marketing"]),
    "task__name": st.sampled_from(["breast_cancer", "heart_disease", "exfiltrate"]),
    "task__options": st.dictionaries(st.sampled_from(["class_weight", "x"]), _number),
    "privacy__mode": st.sampled_from(["none", "local", "distributed"]),
    "privacy__noise_multiplier": _number,
    "privacy__clip_norm": _number,
    "privacy__sampling_rate": _number,
    "privacy__delta": _number,
    "privacy__epsilon": st.none() | _number,
    "optimisation__rounds": _count,
    "optimisation__local_steps": _count,
    "optimisation__local_lr": _number,
    "aggregation__attempts": _count,
    "aggregation__masked": st.booleans(),
    "aggregation__least_sites": _count,
    "aggregation__colluding_sites": _count,
    "aggregation__scale": st.sampled_from([1, 256, 4096, 65536, 2**40]),
    "evaluation__every": _count,
    "evaluation__release": st.sampled_from(["noised", "exact"]),
    "evaluation__noise_multiplier": _number,
    "evaluation__split": st.sampled_from(["patients", "column"]),
    "evaluation__fraction": st.floats(-0.1, 1.1),
    "roster": st.lists(_site, min_size=1, max_size=4, unique_by=lambda s: s["name"]).map(
        lambda sites: sorted(sites, key=lambda s: s["name"])
    ),
}
_changes = st.lists(st.sampled_from(sorted(_CHANGES)), max_size=4, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: _CHANGES[key] for key in keys})
)


@settings(max_examples=150, deadline=None)
@given(_changes)
def test_whatever_is_accepted_obeys_every_rule(changes: dict[str, Any]) -> None:
    try:
        wanted = study(**changes)
    except ValidationError:
        return  # refused where it is read
    rules = policy(approval="rule")
    with tempfile.TemporaryDirectory() as folder:
        hospital = Hospital.found(Path(folder) / "state", rules)
        state, code = hospital.approvals.propose(wanted)
        if state == "refused":
            assert code is not None
            with pytest.raises(WardroundError):
                hospital.ledger.admit(wanted.digest)
            with pytest.raises(WardroundError):
                hospital.debit(wanted, 1, 1)
            assert spending_by_study(hospital.state, rules) == ()
            return
        assert state == "accepted"
        privacy = wanted.privacy
        assert (wanted.task.name, wanted.purpose) == ("breast_cancer", "research")
        assert not wanted.task.options
        assert privacy.mode in ("local", "distributed")
        assert SITE in wanted.sites
        assert set(wanted.sites) <= set(SITES)
        assert privacy.noise_multiplier >= 0.3
        assert wanted.evaluation.release == "noised"
        assert wanted.evaluation.noise_multiplier >= 0.3
        assert privacy.delta <= 1e-5
        assert wanted.aggregation.masked
        assert wanted.aggregation.least_sites >= 3
        assert wanted.aggregation.colluding_sites >= 1
        assert privacy.epsilon is not None
        spends = epsilon_over_bands(planned_events(wanted), privacy.delta)
        assert spends <= privacy.epsilon * 1.00001
        assert epsilon_over_bands(planned_events(wanted), 1e-5) <= 3.0
        hospital.state.close()


# What a policy may say


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"colluding_sites": 3}, "colluding_sites"),
        ({"least_sites": 2}, "least_sites"),
        ({"epsilon_per_study": None}, "caps"),
        ({"epsilon_lifetime": None}, "caps"),
        ({"epsilon_broken": None}, "epsilon_broken"),
        ({"epsilon_per_study": 6.0}, "exceeds"),
        ({"epsilon_broken": 1.0}, "epsilon_broken"),
        ({"hours": [{"from": "10:00", "to": "10:00"}]}, "hours.0"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        policy(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": 8},
        {"memory": "8"},
        {"memory": "8 GB"},
        {"memory": "1 MiB"},
        {"threads": 0},
        {"threads": "two"},
        {"delta": 0.5},
        {"delta": "1%"},
        {"epsilon_lifetime": "five"},
        {"epsilon_lifetime": True},
        {"epsilon_lifetime": float("inf")},
        {"least_patients": 0},
        {"least_patients": 2.5},
        {"modes": ["locale"]},
        {"modes": "local"},
        {"approval": "never"},
        {"unmasked": "no"},
        {"hours": [{"from": "7 pm", "to": "06:00"}]},
        {"hours": [{"from": "25:00", "to": "06:00"}]},
        {"hours": [{"days": ["monday"], "from": "07:00", "to": "08:00"}]},
        {"hours": [{"days": [], "from": "07:00", "to": "08:00"}]},
    ],
)
def test_wrong_units_and_types_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        policy(**changes)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-03-02T18:59", False),  # a Monday
        ("2026-03-02T19:00", True),
        ("2026-03-03T05:59", True),
        ("2026-03-03T06:00", False),
        ("2026-03-03T20:00", False),  # Tuesday evening is not in the list
        ("2026-03-07T12:00", True),  # Saturday, all day
        ("2026-03-08T00:00", False),
    ],
)
def test_hours_are_local_windows_that_may_cross_midnight(at: str, expected: bool) -> None:
    rules = policy(
        time_zone="UTC",
        hours=[
            {"days": ["mon"], "from": "19:00", "to": "06:00"},
            {"days": ["sat"], "from": "00:00", "to": "24:00"},
        ],
    )
    assert rules.at_work(datetime.fromisoformat(at).replace(tzinfo=UTC)) is expected


def test_hours_follow_the_sites_time_zone_not_the_machines() -> None:
    rules = policy(time_zone="Asia/Tokyo", hours=[{"from": "19:00", "to": "20:00"}])
    assert rules.at_work(datetime(2026, 3, 2, 10, 30, tzinfo=UTC))
    assert not rules.at_work(datetime(2026, 3, 2, 19, 30, tzinfo=UTC))


def test_a_changed_rule_changes_the_digest() -> None:
    assert policy().digest == policy().digest
    assert policy(threads=1).digest != policy().digest
