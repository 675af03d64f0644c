"""The federation's model never leaves the range that sites accept."""

from __future__ import annotations

import numpy as np
import pytest

from launch.config.compose import load
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.study.vector_layout import Sections
from protocol.vectors import Vector
from server.model.global_model import GlobalModel
from tasks import registry


def model(*overrides: str) -> GlobalModel:
    config = load(["privacy=local", "server_lr=1", "tracking=off", "rounds=3", *overrides])
    task = registry.load("breast_cancer")
    return GlobalModel(build_study(config, task, {"a": 100, "b": 100, "c": 100}), task)


def only(value: float, of: GlobalModel) -> Vector:
    vector = np.zeros_like(of.iterate)
    vector[3] = value
    return vector


@pytest.mark.parametrize("value", [1024.5, -1024.5, np.inf, np.nan])
def test_a_step_out_of_range_is_divergence(value: float) -> None:
    stepping = model()
    stepping.step(only(-1000.0, stepping))
    assert stepping.iterate[3] == 1000
    with pytest.raises(WardroundError, match=r"round 2: its weights .* -1024 and 1024") as refused:
        stepping.step(only(1000.0 - value, stepping))
    assert refused.value.code is Code.DIVERGED
    assert "lr" in refused.value.remedy


def test_so_is_a_control_variate_out_of_range() -> None:
    stepping = model("algorithm=scaffold", "local_steps=2")
    with pytest.raises(WardroundError, match="round 1"):
        stepping.step(only(0.0, stepping), only(2000.0, stepping))


def test_what_is_scored_on_the_way_is_what_would_be_released_then() -> None:
    """The mean over the last half of ten rounds, and before over the second quarter and eighth."""
    averaging = model("rounds=10", "averaging=last_half", "evaluation.every=1")
    study = averaging.study
    size, values = study.model.parameters, []
    for round_ in range(1, 11):
        values.append(np.array(averaging.iterate))
        averaging.step(np.full(size, float(round_), np.float32))
        values[-1] = np.array(averaging.iterate)
        first = next(edge for edge in (5, 2, 1, 0) if edge < round_)
        mean = np.mean(values[first:], axis=0)
        np.testing.assert_allclose(averaging.released, mean, rtol=1e-5)
        both = Sections(study, train=True, evaluate=True)
        sent = averaging.body(both)
        assert len(sent) == both.body == 2 * size
        assert np.array_equal(sent[both.start], averaging.iterate)
        assert np.array_equal(sent[both.scored], averaging.released)
        alone = averaging.body(Sections(study, train=True, evaluate=False))
        assert np.array_equal(alone, averaging.iterate)
    assert not np.allclose(averaging.released, averaging.iterate)


def test_without_averaging_one_model_is_sent() -> None:
    of = model("evaluation.every=1", "averaging=none")
    both = Sections(of.study, train=True, evaluate=True)
    assert len(of.body(both)) == both.body == of.study.model.parameters
