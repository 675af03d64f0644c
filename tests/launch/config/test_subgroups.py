"""By what a configuration tells patients apart, in the words of a data scientist."""

from __future__ import annotations

import pytest

from launch.config import compose
from launch.config.study_documents import subgroups_of
from launch.studies.baselines import _alone
from launch.studies.run import split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.study.subgroups import Partition
from tasks import registry


def partitions(*overrides: str) -> tuple[Partition, ...]:
    config = compose.load(["task=heart_disease", *overrides])
    return subgroups_of(config, registry.load("heart_disease").schema)


def levels(*overrides: str) -> dict[str, tuple[str, ...]]:
    return {one.name: one.levels for one in partitions(*overrides)}


def test_a_column_of_the_task_or_of_the_view() -> None:
    found = levels("evaluation.subgroups={sex: null, age: [50, 60], ward: [surgical, 3]}")
    assert found == {
        "sex": ("0", "1", "missing"),
        "age": ("below 50", "50 to below 60", "60 or more", "missing"),
        "ward": ("surgical", "3", "missing"),
    }
    assert levels("evaluation.subgroups.sex=[0, 1]")["sex"] == ("0", "1", "missing")


def test_an_attribute_of_hospitals() -> None:
    of = levels("evaluation.hospitals.vendor={acme: [a, b, c], other: [d, e, f]}")
    assert of == {"vendor": ("acme", "other")}


def test_cohorts_are_loaded_with_the_levels() -> None:
    config = compose.load(["task=heart_disease", "evaluation.subgroups.age=[50]"])
    assert [one.name for one in split_plan(config).subgroups] == ["age"]


def test_baselines_are_scored_beside_the_study_and_name_none() -> None:
    config = compose.load(["task=heart_disease", "evaluation.subgroups.age=[50]"])
    alone = build_study(_alone(config), registry.load("heart_disease"), {"cleveland": 100})
    assert alone.evaluation.subgroups == ()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("evaluation.subgroups.age=null", "says neither values nor bands"),
        ("evaluation.subgroups.ward=null", "says neither values nor bands"),
        ("evaluation.subgroups.age=[]", "says neither values nor bands"),
        ("evaluation.subgroups.sex=[f, m]", "names 'f', which the task does not know"),
        ("evaluation.hospitals.vendor=[a, b]", "no mapping from a class to sites"),
    ],
)
def test_what_says_nothing_is_refused_with_the_key(override: str, says: str) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        partitions(override)
    assert caught.value.code is Code.CONFIGURATION
