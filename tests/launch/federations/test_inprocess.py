"""Whole studies in one process: the same round loop and site code as a deployment's."""

from pathlib import Path

import numpy as np
import pytest

from launch.config import compose
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.baselines import compare, pool
from launch.studies.run import declared_patients, run_inprocess, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.vectors import Vector
from server.outcome import Outcome, RoundReport
from server.rounds.listener import Listeners
from tasks import registry
from tasks.shipped.breast_cancer import BreastCancer

TASK = BreastCancer()
TABLES = TASK.public_sites(None)


def judged(*overrides: str, weights: Vector) -> float:
    """The weights' AUC on the patients who evaluate, outside of any study."""
    config = compose.load([*overrides])
    cohorts = cohorts_of(TASK, TABLES, split_plan(config))
    (row,) = compare(config, TASK, cohorts, declared_patients(cohorts), weights, ())
    return row.auc


def run(folder: Path, *overrides: str) -> Outcome:
    config = compose.load([*overrides, f"output={folder}", "tracking=off"])
    return run_inprocess(config, TASK, TABLES).outcome


@pytest.mark.parametrize(
    ("overrides", "least"),
    [
        (("privacy=none", "rounds=8"), 0.98),
        (("privacy=none", "rounds=8", "aggregation.update_bits=6"), 0.98),
        (("privacy=distributed", "evaluation=off", "rounds=60", "privacy.epsilon=3"), 0.97),
        (("privacy=local", "evaluation=off", "rounds=6", "privacy.epsilon=3"), 0.96),
        (
            (
                "privacy=distributed",
                "evaluation=off",
                "rounds=60",
                "privacy.epsilon=3",
                "aggregation.update_bits=16",
            ),
            0.97,
        ),
        (
            (
                "privacy=local",
                "evaluation=off",
                "rounds=6",
                "privacy.epsilon=3",
                "aggregation.update_bits=8",
            ),
            0.96,
        ),
    ],
)
def test_a_study_learns(tmp_path: Path, overrides: tuple[str, ...], least: float) -> None:
    outcome = run(tmp_path, *overrides)
    assert outcome.status == "finished"
    assert judged(*overrides, weights=outcome.weights) > least
    epsilon = outcome.study.privacy.epsilon
    assert (outcome.epsilon is None) == (epsilon is None)
    if epsilon is not None:
        assert outcome.epsilon is not None
        assert 0.9 * epsilon < outcome.epsilon <= epsilon
        assert (outcome.uncovered, outcome.metrics) == ("", {})
        assert len(outcome.rounds) == outcome.study.optimisation.rounds
        assert outcome.study.aggregation.attempts == len(outcome.rounds)


def test_without_noise_in_training_evaluation_alone_may_have_an_epsilon(tmp_path: Path) -> None:
    words = ("privacy=none", "rounds=3", "evaluation=noised", "privacy.epsilon=2")
    outcome = run(tmp_path, *words)
    assert outcome.epsilon == pytest.approx(2, rel=1e-2)
    assert "evaluation alone" in outcome.uncovered
    assert "can show one patient" in outcome.uncovered
    auc = outcome.metrics["auc"]
    assert auc.high - auc.low > 0.005


def test_a_noised_evaluation_covers_everyone_and_says_how_sure_it_is(tmp_path: Path) -> None:
    outcome = run(tmp_path, "privacy=distributed", "rounds=20", "privacy.epsilon=8")
    assert outcome.uncovered == ""
    auc = outcome.metrics["auc"]
    assert auc.low <= auc.value <= auc.high
    assert auc.high - auc.low > 0.005


def test_summary_is_left_beside_the_study(tmp_path: Path) -> None:
    config = compose.load(["privacy=none", "rounds=2", f"output={tmp_path}", "tracking=off"])
    finished = run_inprocess(config, TASK, TABLES)
    assert {p.name for p in finished.folder.iterdir()} == {
        "configuration.yaml",
        "study.json",
        "summary.json",
        "weights.npy",
    }
    assert np.array_equal(np.load(finished.folder / "weights.npy"), finished.outcome.weights)


@pytest.mark.parametrize("bits", ["null", "8"])
def test_masks_change_nothing_but_what_is_seen(bits: str) -> None:
    """Without privacy everything is deterministic, rounding at random too: masked and unmasked
    sums, of two studies with another nonce, agree bit for bit."""
    words, weights = ("privacy=none", "rounds=4", f"aggregation.update_bits={bits}"), []
    for masked in ("true", "false"):
        config = compose.load([*words, f"federation.masked={masked}"])
        cohorts = cohorts_of(TASK, TABLES, split_plan(config))
        study = build_study(config, TASK, declared_patients(cohorts))
        weights.append(InProcessFederation(cohorts).run(study, TASK, Listeners()).weights)
    masked_weights, plain_weights = weights
    assert np.array_equal(masked_weights, plain_weights)


class Interrupting(Listeners):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def round(self, report: RoundReport) -> None:
        if report.round == self.after:
            raise KeyboardInterrupt


def test_a_study_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    config = compose.load(["privacy=none", "rounds=6"])
    cohorts = cohorts_of(TASK, TABLES, split_plan(config))
    study = build_study(config, TASK, declared_patients(cohorts))
    whole = InProcessFederation(cohorts).run(study, TASK, Listeners()).weights
    again = InProcessFederation(cohorts)
    with pytest.raises(KeyboardInterrupt):
        again.run(study, TASK, Interrupting(3), checkpoint=tmp_path / "checkpoint")
    resumed = again.run(study, TASK, Listeners(), checkpoint=tmp_path / "checkpoint")
    assert np.array_equal(resumed.weights, whole)


def test_a_diverging_study_names_the_round_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across the wire goes a code; in one process the site's own sentence is there as well."""
    monkeypatch.setitem(registry.BUILT_IN, "exploding", "tests.launch.exploding:Exploding")
    config = compose.load(["privacy=none", f"output={tmp_path}", "tracking=off"])
    with pytest.raises(WardroundError, match="round 1") as refused:
        run_inprocess(config, registry.load("exploding"), TABLES)
    assert refused.value.code is Code.DIVERGED
    assert "lr" in refused.value.remedy


def test_federating_lies_between_one_hospital_alone_and_all_data_pooled() -> None:
    config = compose.load(
        ["privacy=distributed", "privacy.epsilon=1", "rounds=60", "evaluation=off"]
    )
    cohorts = cohorts_of(TASK, TABLES, split_plan(config))
    declared = declared_patients(cohorts)
    study = build_study(config, TASK, declared)
    outcome = InProcessFederation(cohorts).run(study, TASK, Listeners())
    alone, federated, pooled = compare(config, TASK, cohorts, declared, outcome.weights)
    assert alone.lowest_auc <= alone.auc <= alone.highest_auc
    assert alone.auc < federated.auc
    assert abs(federated.auc - pooled.auc) < 0.02


def test_pooling_keeps_every_patient_in_his_part() -> None:
    cohorts = cohorts_of(TASK, TABLES, split_plan(compose.load([])))
    pooled = pool(cohorts)
    assert pooled.patients == sum(c.patients for c in cohorts.values())
    for part in ("train", "evaluation"):
        assert len(pooled.members(part)) == sum(len(c.members(part)) for c in cohorts.values())
