"""Whoever picks the best of a sweep has looked at all of it, and epsilon says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from launch.studies.sweeps.composition import Composition
from launch.studies.sweeps.result import SweepResult, SweepRow
from launch.studies.sweeps.sweep import _composed
from protocol.privacy.epsilon_text import rounded_up
from protocol.study.study import Study
from server.report.model_card import Background, card
from tests.narrowing import present
from tests.server.outcomes import study


def exact() -> Study:
    document = study().model_dump()
    document["privacy"] = {"mode": "none"}
    document["evaluation"] |= {"release": "exact", "noise_multiplier": 0.0}
    return Study.model_validate(document)


def left(folder: Path, *studies: Study) -> SweepResult:
    """A sweep whose studies have finished."""
    for one in studies:
        (folder / one.digest[:12]).mkdir()
        (folder / one.digest[:12] / "study.json").write_bytes(one.document)
    rows = [SweepRow({"seed": str(at)}, study=one.digest) for at, one in enumerate(studies)]
    return SweepResult(["seed=0,1"], ["seed"], rows)


def test_studies_together_cost_more_than_one() -> None:
    alone, both = Composition.of([study()]), Composition.of([study(), study()])
    assert 0 < present(alone.epsilon) < present(both.epsilon) <= 2 * present(alone.epsilon)
    assert rounded_up(both.epsilon) in both.text


def test_what_no_epsilon_is_about_is_counted() -> None:
    together = Composition.of([study(), exact(), exact()])
    assert (together.studies, together.exact) == (3, 2)
    assert "2 of them train without privacy" in together.text
    assert Composition.of([exact()]).epsilon is None


def test_a_sweep_states_it_and_keeps_it(tmp_path: Path) -> None:
    result = left(tmp_path, study(), study())
    result.composed = _composed(result, tmp_path)
    assert result.metrics()["composed_epsilon"] == present(result.composed).epsilon
    (tmp_path / "sweep.json").write_bytes(result.to_json())
    assert SweepResult.load(tmp_path).composed == result.composed


def test_the_best_study_s_card_says_what_it_was_chosen_from(tmp_path: Path) -> None:
    result = left(tmp_path, study(), study())
    rows = [replace(row, metrics={"auc": 0.7 + 0.1 * at}) for at, row in enumerate(result.rows)]
    result = SweepResult(["seed=0,1"], ["seed"], rows)
    result.composed = _composed(result, tmp_path)
    assert result.best == rows[1]
    text = card(study(), None, Background(sweep=result.chosen_from))
    assert "best of 2 studies" in text
    assert present(result.composed).text in text


def test_a_study_that_failed_leaves_the_sum_unknown(tmp_path: Path) -> None:
    result = left(tmp_path, study())
    result.add(SweepRow({"seed": "1"}, error="It diverged.", code="diverged"))
    assert _composed(result, tmp_path) is None
    assert "composed_epsilon" not in result.metrics()
    assert "not known" in result.chosen_from
