"""Gates are stated in the study, about figures that it will have."""

import json
from typing import Any

import pytest

from launch.config.compose import load
from launch.studies.study_builder import build_study
from protocol.errors import WardroundError
from protocol.outcomes.binary import Binary
from protocol.study.gates import Gates
from protocol.study.study import Study
from tasks import registry
from tests.server.outcomes import study


def with_gates(**gates: Any) -> Study:
    plain = json.loads(study().document) | {"gates": gates}
    return Study.model_validate_json(json.dumps(plain))


def test_a_study_without_gates_has_the_bytes_of_0_1_0() -> None:
    assert b"gates" not in study().document


def test_gates_are_part_of_what_hospitals_accept() -> None:
    stated = with_gates(metrics={"auc": 0.8}, epsilon=2.0, card=True)
    assert Study.parse(stated.document).gates == stated.gates
    assert stated.digest != with_gates(metrics={"auc": 0.7}, epsilon=2.0, card=True).digest


@pytest.mark.parametrize(
    ("gates", "says"),
    [
        ({}, "at least one"),
        ({"metrics": {"acu": 0.8}}, "gates look at acu, and this outcome has"),
        ({"metrics": {"calibration_intercept": 0.1}}, "gates look at calibration_intercept"),
        ({"epsilon": 0.0}, "greater than 0"),
        ({"gaps": {"auc": 0.1}}, "names no evaluation.subgroups"),
        ({"gaps": {"auc": 0.0}}, "greater than 0"),
    ],
)
def test_a_gate_that_nothing_could_pass_is_refused(gates: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        with_gates(**gates)


def test_gaps_are_of_the_figures_by_which_subgroups_are_compared() -> None:
    gates = Gates(gaps={"brier": 0.1})
    with pytest.raises(ValueError, match="gaps of brier, and subgroups are compared by"):
        gates.check(Binary(), evaluates=True, subgroups=True, private=True)


def test_an_audit_is_asked_for_only_where_there_is_a_claim() -> None:
    assert with_gates(audit=True).gates == Gates(audit=True)
    assert b"gaps" not in with_gates(audit=True).document
    assert b"audit" not in with_gates(epsilon=2.0).document
    with pytest.raises(ValueError, match="claims no epsilon to audit"):
        Gates(audit=True).check(Binary(), evaluates=True, subgroups=False, private=False)


def test_gates_come_from_the_configuration() -> None:
    task = registry.load("breast_cancer")
    words = ["task=breast_cancer", "privacy=none", "evaluation=exact", "tracking=off"]
    patients = {"a": 100, "b": 100, "c": 100}
    made = build_study(load([*words, "gates.metrics={auc: 0.8}"]), task, patients)
    assert made.gates is not None
    assert made.gates.metrics == {"auc": 0.8}
    one_by_one = load([*words, "gates.metrics.auc=0.8", "gates.metrics.brier=0.2"])
    assert one_by_one.gates.metrics == {"auc": 0.8, "brier": 0.2}
    assert build_study(load(words), task, patients).gates is None
    assert load([*words, "gates.gaps.auc=0.1"]).gates.gaps == {"auc": 0.1}
    with pytest.raises(WardroundError, match="gates look at metrics"):
        build_study(
            load([*words[:2], "evaluation=off", "tracking=off", "gates.metrics={auc: 0.8}"]),
            task,
            patients,
        )
