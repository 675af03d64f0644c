"""Every file of conf/experiment is a study, and the ones of a benchmark are the benchmark's."""

from __future__ import annotations

import dataclasses

import pytest

import flamby
import heart_disease
import icu
import pneumonia
import readmission
from launch.config import compose
from launch.config.compose import load
from launch.config.schema import Config
from launch.studies.study_builder import build_study
from tasks import registry

EXPERIMENTS = compose.groups()["experiment"]
SITES = {"east": 300, "north": 1500, "south": 700, "west": 400}


def same_training(one: Config, other: Config) -> None:
    """All that shapes the model: what differs is names, and on whom it is scored."""
    ours = compose.plain(one)
    for key, value in compose.plain(other).items():
        if key not in ("title", "contact", "seed", "output", "tracking", "evaluation", "task"):
            assert ours[key] == value, key


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_and_builds_its_study(name: str) -> None:
    config = load([f"experiment={name}"])
    study = build_study(config, registry.load(config.task.name, config.task.options), SITES)
    assert study.privacy.epsilon == config.privacy.epsilon
    assert study.title == config.title
    assert "???" not in str(dataclasses.asdict(config))
    again = load([f"experiment={name}", "rounds=7", "seed=3"])
    assert (again.rounds, again.seed) == (7, 3), "the command line has the last word"


def test_there_is_one_for_every_task() -> None:
    named = {load([f"experiment={name}"]).task.name for name in EXPERIMENTS}
    assert set(compose.groups()["task"]) <= named


@pytest.mark.parametrize(
    ("name", "epsilon"),
    [("heart_disease", 1.0), ("heart_disease_eps0.1", 0.1)],
)
def test_heart_disease_is_the_bench_s(name: str, epsilon: float) -> None:
    same_training(load([f"experiment={name}"]), heart_disease.configuration(epsilon, 0))


@pytest.mark.parametrize(("name", "epsilon"), [("readmission", 1.0), ("readmission_eps3", 3.0)])
def test_readmission_is_the_bench_s(name: str, epsilon: float) -> None:
    words = ["task=readmission", *readmission.overrides(epsilon, 0)]
    same_training(load([f"experiment={name}"]), load(words))


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_intensive_care_is_the_bench_s(epsilon: float) -> None:
    name = "icu_mortality" if epsilon == 1 else f"icu_mortality_eps{epsilon:g}"
    config, recipe = load([f"experiment={name}"]), icu.RECIPES[epsilon]
    assert (config.rounds, config.server_lr) == (recipe.rounds, recipe.lr)
    assert (config.privacy.clip_norm, config.privacy.delta) == (recipe.clip_norm, icu.DELTA)


@pytest.mark.parametrize("epsilon", [1, 3, 8])
@pytest.mark.parametrize("mode", ["distributed", "local"])
def test_pneumonia_is_the_bench_s(mode: str, epsilon: int) -> None:
    name = "pneumonia" + "_local" * (mode == "local") + f"_eps{epsilon}" * (epsilon > 1)
    same_training(load([f"experiment={name}"]), load(list(pneumonia.overrides(mode, epsilon))))


@pytest.mark.parametrize("row", flamby.ROWS, ids=lambda row: row.name)
def test_flamby_s_rows_are_the_bench_s(row: flamby.Row) -> None:
    words = [
        "task=heart_disease",
        "privacy=none",
        f"privacy.sampling_rate={flamby.RATE}",
        "averaging=none",
        "rounds=15",
        "local_steps=100",
        *row.overrides,
    ]
    same_training(load([f"experiment=flamby_{row.name}"]), load(words))
