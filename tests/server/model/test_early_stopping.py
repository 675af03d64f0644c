"""Early stopping looks at the pooled metric, waits, and keeps the best model."""

import numpy as np
import pytest

from protocol.outcomes.estimates import Estimate
from protocol.study.algorithms import StopRule
from server.model.early_stopping import EarlyStopping


def watched(plan: StopRule | None, *values: float | None) -> EarlyStopping:
    """Stopping after evaluations of models [0], [1], ... with these values of the metric."""
    found = EarlyStopping(plan)
    for number, value in enumerate(values):
        metric = str(plan.metric) if plan is not None else "auc"
        metrics = {} if value is None else {metric: Estimate(value, value, value)}
        found.update(metrics, np.array([number], dtype=np.float32))
    return found


def best(found: EarlyStopping) -> float:
    assert found.best is not None
    return float(found.best[0])


def test_it_stops_after_patience_evaluations_without_improvement() -> None:
    plan = StopRule(metric="auc", patience=2)
    assert not watched(plan, 0.7, 0.8, 0.75).over
    stopped = watched(plan, 0.7, 0.8, 0.75, 0.8)
    assert stopped.over
    assert best(stopped) == 1


def test_an_improvement_begins_the_wait_anew() -> None:
    assert not watched(StopRule(metric="auc", patience=2), 0.7, 0.6, 0.8, 0.7).over


def test_for_a_loss_less_is_better() -> None:
    stopped = watched(StopRule(metric="log_loss", patience=1), 0.7, 0.5, 0.6)
    assert stopped.over
    assert best(stopped) == 1


def test_an_improvement_has_to_be_large_enough() -> None:
    assert watched(StopRule(metric="auc", patience=2, least=0.05), 0.7, 0.73, 0.74).over


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_is_undefined_is_no_improvement(missing: float | None) -> None:
    stopped = watched(StopRule(metric="auc", patience=2), 0.7, missing, missing)
    assert stopped.over
    assert best(stopped) == 0


def test_without_a_plan_it_never_stops() -> None:
    assert not watched(None, 0.9, 0.1, 0.1, 0.1).over


def test_the_best_model_is_a_copy() -> None:
    weights = np.array([1.0], dtype=np.float32)
    found = EarlyStopping(StopRule())
    found.update({"auc": Estimate(0.5, 0.5, 0.5)}, weights)
    weights[0] = 9.0
    assert best(found) == 1.0
