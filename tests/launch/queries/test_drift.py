"""Watching a released model: from what its study released to the question and its answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from launch.cli.main import app
from launch.queries.ask import Where, ask
from launch.queries.drift import SCORE_BINS, Released, drift, histograms_of, not_compared, watched
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import histogram
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.regression import Regression
from protocol.outcomes.time_to_event import TimeToEvent
from protocol.privacy.query_noise import share
from protocol.statistics.analyses import analyse
from protocol.study.query import Bins, Cells, Scored
from protocol.study.study import Study
from server.answers.analysis_page import page
from server.outcome import OpenedScores, Outcome
from server.tracking.summary import write_summary
from tasks import registry
from tests.server.outcomes import outcome as made_outcome
from tests.server.outcomes import study as trained_study

TASK = "breast_cancer"
PERIOD = Scored(model="7d" * 32, since="2026-07", until="2026-09")
SITES = {"a": 1000, "b": 1000, "c": 1000}
DRAWN = np.random.default_rng(3)
SCORES = DRAWN.beta(2, 5, size=3000)


def stored(outcome: Outcome, folder: Path) -> Path:
    folder.mkdir()
    (folder / "study.json").write_bytes(outcome.study.document)
    write_summary(outcome, folder / "summary.json")
    return folder


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The folder of a study that released the scores of its evaluation."""
    study = trained_study()
    bins = study.evaluation.bins
    counts = histogram(SCORES, DRAWN.integers(2, size=len(SCORES)), bins).ravel()
    noised = counts + DRAWN.normal(0, 2, counts.shape)
    opened = OpenedScores(tuple(map(float, noised)), 4.0)
    return stored(replace(made_outcome(study), scores=opened), tmp_path / "trained")


def asked(question: Question, **price: Any) -> Study:
    return build_query(question, SITES, Price(**({"epsilon": 1.0} | price)))


def opened(study: Study, scores: np.ndarray) -> np.ndarray:
    """What three sites' noised sum of these scores opens to."""
    assert study.query is not None
    (cells,) = study.query.statistics
    assert isinstance(cells, Cells)
    axis = cells.axes[0]
    assert isinstance(axis, Bins)
    counts = [*np.histogram(scores, axis.edges)[0], 0]
    return np.array(counts) * study.evaluation.scale + sum(share(study, 3) for _ in range(3))


def test_scores_are_compared_with_those_of_the_study_that_trained_the_model(trained: Path) -> None:
    (released,) = histograms_of(trained)
    assert released.cells.columns == ("predicted_score",)
    assert released.cells.cells == SCORE_BINS + 1
    assert sum(released.reference.counts) == pytest.approx(len(SCORES), abs=60)
    assert released.reference.variances == (4.0 * 2 * 2,) * SCORE_BINS + (0.0,)
    study = asked(drift(Question.about(TASK), PERIOD, [released]))
    assert study.query is not None
    assert study.query.scored == PERIOD
    assert study.query.asks == ("histogram",)
    assert Study.parse(study.document) == study
    same = analyse(study, opened(study, DRAWN.beta(2, 5, size=1500)), 3)
    other = analyse(study, opened(study, DRAWN.beta(5, 2, size=1500)), 3)
    assert same is not None
    assert other is not None
    assert same.tables[0].rows[0].cells[-1] == "no sign of drift"
    assert other.tables[0].rows[0].cells[-1] == "ALARM"
    shown = page(replace(made_outcome(trained_study()), study=study, scores=None), other)
    assert "ALARM" in shown
    assert "2026-07 to 2026-09" in shown


def test_of_several_classes_each_probability_is_compared(tmp_path: Path) -> None:
    """In the bins of the evaluation, which are narrow where a class is unlikely."""
    kind, bins = Multiclass(classes=10), 32
    said = DRAWN.dirichlet(np.full(10, 0.3), size=3000)
    task = registry.load("digits")
    trained = trained_study().model_dump() | {
        "task": registry.reference_to(task).model_dump(),
        "outcome": kind.model_dump(),
    }
    trained["evaluation"] |= {"bins": bins}
    counts = kind.counts(said, DRAWN.integers(10, size=3000).astype(np.float64), bins)
    done = replace(
        made_outcome(Study.model_validate(trained)),
        scores=OpenedScores(tuple(map(float, counts)), 4.0),
    )
    released = histograms_of(stored(done, tmp_path / "classes"))
    assert [one.cells.columns for one in released] == [(f"predicted_score_{k}",) for k in range(10)]
    for k, one in enumerate(released):
        (axis,) = one.cells.axes
        assert isinstance(axis, Bins)
        assert one.reference.counts == (*np.histogram(said[:, k], axis.edges)[0], 0.0)
        assert one.reference.variances == (4.0 * 2 * 2,) * SCORE_BINS + (0.0,)
    asked(drift(Question.about("digits"), PERIOD, released))


def _kinds() -> list[tuple[str, OutcomeKind, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each kind scores, labels, and what each column of scores should be counted from."""
    said, survival = DRAWN.random((3000, 4)), np.sort(DRAWN.random((3000, 4)))[:, ::-1]
    digits = DRAWN.integers(1, 3, size=(3000, 4)) @ 3.0 ** np.arange(4)
    counted, number = DRAWN.gamma(1.0, 2.0, 3000).clip(0, 20), DRAWN.normal(50, 10, 3000)
    return [
        ("findings", MultiLabel(labels=4), said, digits, said),
        ("stay", EventCount(most=20), counted, np.floor(counted), counted[:, None]),
        ("value", Regression(low=0, high=100), number, number, number[:, None]),
        ("time", TimeToEvent(ends=(1.0, 2.0, 4.0, 8.0)), survival,
         DRAWN.integers(1, 9, 3000).astype(np.float64), survival[:, 3:]),
    ]  # fmt: skip


@pytest.mark.parametrize("bins", [34, 12])
@pytest.mark.parametrize("at", range(4))
def test_of_each_kind_the_scores_are_those_that_a_period_counts(
    at: int, bins: int, tmp_path: Path
) -> None:
    """Whatever the label was; 34 bins have no divisor near 16."""
    _, kind, scores, labels, by_column = _kinds()[at]
    plain = trained_study().model_dump() | {"outcome": kind.model_dump()}
    plain["evaluation"] |= {"bins": bins}
    counts = kind.counts(scores, labels, bins)
    done = replace(
        made_outcome(Study.model_validate(plain)),
        scores=OpenedScores(tuple(map(float, counts)), 4.0),
    )
    released = histograms_of(stored(done, tmp_path / "kind"))
    assert len(released) == by_column.shape[1]
    for column, one in zip(by_column.T, released, strict=True):
        (axis,) = one.cells.axes
        assert isinstance(axis, Bins)
        assert len(axis.edges) == min(SCORE_BINS, bins) + 1
        expected = np.histogram(column, axis.edges)[0]
        assert one.reference.counts[:-1] == pytest.approx(expected, abs=1e-9)
        assert min(one.reference.variances[:-1]) > 0


def test_which_scores_are_compared_with_nothing_is_said() -> None:
    question = Question.about("trial_survival")
    *earlier, last = question.task.outcome.score_columns
    for name in [last, *earlier]:
        axis = Bins(column=f"predicted_{name}", edges=(0.0, 0.5, 1.0))
        question = question.of(Cells(name=name, axes=(axis,)))
        if name == last:
            said = not_compared(question)
            assert said.startswith(f"Not compared: {', '.join(earlier)}, since a study's")
    assert not_compared(question) == ""


def test_a_query_that_is_about_no_model_keeps_the_identity_it_had() -> None:
    plain = asked(Question.about(TASK).histogram("mean_radius"))
    assert "scored" not in json.loads(plain.document)["query"]
    assert "analysis" not in json.loads(plain.document)


def test_inputs_are_compared_with_a_query_that_released_them(tmp_path: Path) -> None:
    price, where = Price(epsilon=2.0), Where()
    question = Question.about(TASK, least_count=15).histogram("mean_radius:8").count()
    answered = ask(question.table("malignant", "mean_radius:2"), price, where)
    (released,) = histograms_of(stored(answered.outcome, tmp_path / "inputs"))
    assert released.cells.columns == ("mean_radius",)
    hidden = [count for count in released.reference.counts if count == 7.5]
    assert hidden, "the cell of missing values holds nobody"
    assert max(released.reference.variances) > min(released.reference.variances)
    assert asked(drift(Question.about(TASK), PERIOD, [released])).analysis is not None


def test_a_first_period_is_released_and_later_ones_are_compared_with_it() -> None:
    first = asked(watched(Question.about(TASK), PERIOD, ["mean_radius:8"]))
    assert first.query is not None
    assert [one.name for one in first.query.statistics] == ["predicted_score", "mean_radius"]
    assert first.analysis is None
    with pytest.raises(WardroundError, match="malignant"):
        watched(Question.about(TASK), PERIOD, ["malignant"])


@pytest.mark.parametrize("fault", ["none", "task", "column", "folder", "changed"])
def test_what_cannot_be_compared_is_said(fault: str, trained: Path, tmp_path: Path) -> None:
    (released,) = histograms_of(trained)
    cases: dict[str, Callable[[], object]] = {
        "none": lambda: drift(Question.about(TASK), PERIOD, []),
        "task": lambda: drift(Question.about("heart_disease"), PERIOD, [released]),
        "column": lambda: drift(Question.about(TASK), PERIOD, [_of_column(released)]),
        "folder": lambda: histograms_of(tmp_path / "nowhere"),
        "changed": lambda: histograms_of(_other_study(trained)),
    }
    codes = {"column": Code.REFUSED_STUDY, "folder": Code.NO_DATA, "changed": Code.MALFORMED_DATA}
    with pytest.raises(WardroundError) as caught:
        cases[fault]()
    assert caught.value.code is codes.get(fault, Code.CONFIGURATION)
    assert caught.value.remedy


def _of_column(released: Released) -> Released:
    axis = released.cells.axes[0].model_copy(update={"column": "unknown"})
    return replace(released, cells=released.cells.model_copy(update={"axes": (axis,)}))


def _other_study(folder: Path) -> Path:
    (folder / "study.json").write_bytes(trained_study().document)
    return folder


def test_only_hospitals_are_asked_for_predictions(trained: Path) -> None:
    words = ["query", "drift", "--task", TASK, "--model", PERIOD.model, "--since", "2026-07"]
    dry = CliRunner().invoke(app, [*words, "--reference", str(trained), "--dry-run", "--json"])
    assert dry.exit_code == 0, dry.output
    study = json.loads(dry.stdout)["study"]
    assert study["query"]["scored"] == {
        "model": PERIOD.model,
        "since": "2026-07",
        "until": "2026-07",
    }
    assert study["analysis"]["kind"] == "drift"
    assert study["expires"] == "2026-10-01"
    for typed, code in ((words, Code.CREDENTIALS), ([*words[:-1], "July"], Code.CONFIGURATION)):
        error = CliRunner().invoke(app, typed).exception
        assert isinstance(error, WardroundError)
        assert error.code is code


def test_a_budget_is_kept_beyond_the_end_of_the_year() -> None:
    scored = PERIOD.model_copy(update={"until": "2026-11"})
    assert asked(watched(Question.about(TASK), scored)).expires == "2027-02-01"
