"""The released model's files score like the torch model and carry nothing but weights."""

from __future__ import annotations

import json
import pickle
import secrets
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from launch.config.compose import load as load_config
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.study.study import (
    Aggregation,
    Evaluation,
    Member,
    Model,
    Optimisation,
    Privacy,
    Study,
    TaskReference,
)
from server import released_model
from server.model.global_model import initial_weights
from tasks import registry
from tasks.flat_model import FlatModel

TASK = registry.load("heart_disease")


@pytest.fixture(scope="module")
def weights() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    size = FlatModel(TASK, 0).layout.size
    return np.random.default_rng(5).normal(size=size).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, weights: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Path:
    layout = FlatModel(TASK, 0).layout
    study = Study(
        title="t",
        purpose="research",
        contact="c",
        nonce=secrets.token_hex(8),
        task=TaskReference(name=TASK.name, version=TASK.version, source=TASK.source_digest()),
        model=Model(parameters=layout.size, layout=layout.digest),
        privacy=Privacy(mode="none"),
        optimisation=Optimisation(rounds=1),
        aggregation=Aggregation(attempts=2),
        evaluation=Evaluation(release="exact"),
        roster=tuple(Member(name=name, patients=10) for name in "abc"),
    )
    released_model.write(tmp_path / "model", study, weights)
    return tmp_path / "model"


def test_patients_with_categories_and_gaps_score_like_the_torch_model(
    folder: Path, weights: np.ndarray[tuple[int], np.dtype[np.float32]]
) -> None:
    draw = np.random.default_rng(1)
    table = {
        c.name: draw.uniform(c.low, c.high, 30)
        if c.kind == "number"
        else draw.choice(np.array([*c.categories, None], dtype=object), 30)
        for c in TASK.schema.columns
    }
    first = next(c.name for c in TASK.schema.columns if c.kind == "number")
    table[first][::4] = np.nan
    scored = released_model.load(folder).predict(pd.DataFrame(table))
    reference = FlatModel(TASK, 0)
    reference.load(weights)
    with torch.no_grad():
        expected = TASK.scores(reference.module(torch.from_numpy(TASK.features(table))))
    # torch may round a row of a batch otherwise than the row alone: tests/tasks/test_scoring.py
    np.testing.assert_allclose(scored["score"], expected.numpy(), rtol=1e-5)
    assert len(set(scored["score"])) == 30


def test_a_category_that_is_none_of_the_tasks_is_said_without_its_value(folder: Path) -> None:
    frame = released_model.example(TASK.schema)
    column = next(c for c in TASK.schema.columns if c.kind == "category")
    frame[column.name] = ["CANARY", None]
    with pytest.raises(WardroundError) as caught:
        released_model.load(folder).predict(frame)
    assert caught.value.code == Code.MALFORMED_DATA
    assert column.name in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_the_example_is_public_and_can_be_scored(folder: Path) -> None:
    frame = released_model.example(TASK.schema)
    for column in TASK.schema.columns:
        middle = (column.low + column.high) / 2
        expected = middle if column.kind == "number" else column.categories[0]
        assert frame[column.name][0] == expected
        assert pd.isna(frame[column.name][1])
    assert released_model.load(folder).predict(frame)["score"].between(0, 1).all()


def test_the_files_hold_float32_weights_and_names_only(
    folder: Path, weights: np.ndarray[tuple[int], np.dtype[np.float32]]
) -> None:
    assert {path.name for path in folder.iterdir()} == {"weights.npz", "model.json", "study.json"}
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.float32)}
        flat = np.concatenate([arrays[name].reshape(-1) for name in arrays.files])
    np.testing.assert_array_equal(flat, weights)
    reference = json.loads((folder / "model.json").read_text())
    assert set(reference) == {"study", "weights", "task", "options", "version", "source", "seed"}


class _Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("planted"),))


def test_a_pickle_in_the_weights_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    np.savez(folder / "weights.npz", weight=np.array([_Planted()], dtype=object))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        released_model.load(folder)
    assert not (folder / "planted").exists()


def test_another_version_of_the_task_is_refused_and_another_source_said(folder: Path) -> None:
    reference = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(reference | {"source": "0" * 64}))
    with pytest.warns(UserWarning, match="heart_disease has changed"):
        released_model.load(folder)
    (folder / "model.json").write_text(json.dumps(reference | {"version": 99}))
    with pytest.raises(WardroundError) as caught:
        released_model.load(folder)
    assert caught.value.code == Code.CONFIGURATION
    assert "99" in str(caught.value)


class Pretrained(type(TASK)):  # type: ignore[misc]  # the shipped task's class
    """A frozen layer, whose values are of a file elsewhere."""

    name, value = "pretrained", 0.5

    def model(self) -> torch.nn.Module:
        frozen = torch.nn.Linear(self.schema.width, 3).requires_grad_(False)
        torch.nn.init.constant_(frozen.weight, self.value)
        return torch.nn.Sequential(frozen, torch.nn.Linear(3, 1))


def test_frozen_parameters_are_those_of_the_study_wherever_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", {"pretrained": Pretrained})
    declared = dict.fromkeys("abc", 100)
    study = build_study(load_config(["privacy=none", "tracking=off"]), Pretrained(), declared)
    released_model.write(tmp_path / "model", study, initial_weights(study, Pretrained()))
    frame = released_model.example(TASK.schema)
    scores = released_model.load(tmp_path / "model").predict(frame)
    monkeypatch.setattr(Pretrained, "value", 0.25)  # another file of pretrained weights
    pd.testing.assert_frame_equal(released_model.load(tmp_path / "model").predict(frame), scores)
    with pytest.raises(WardroundError, match="not the one in the study"):
        initial_weights(study, Pretrained())
    with np.load(tmp_path / "model" / "frozen.npz") as arrays:
        changed = {name: arrays[name] + 1 for name in arrays.files}
    np.savez(tmp_path / "model" / "frozen.npz", **changed)
    with pytest.raises(WardroundError, match="frozen parameters are not those"):
        released_model.load(tmp_path / "model")


def test_a_word_where_a_number_belongs_is_refused_by_its_column(folder: Path) -> None:
    frame = released_model.example(TASK.schema)
    number = next(c.name for c in TASK.schema.columns if c.kind == "number")
    frame[number] = frame[number].astype(object)
    frame.loc[0, number] = "high"
    with pytest.raises(WardroundError, match=f"Column {number} holds something that is no number"):
        released_model.load(folder).predict(frame)


def test_numbers_outside_the_public_range_are_noticed_and_not_quoted(folder: Path) -> None:
    """Cholesterol in mmol/l where mg/dl is meant, or the like; gaps are nothing of the kind."""
    model = released_model.load(folder)
    frame = released_model.example(TASK.schema)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(frame)
    column = next(c for c in TASK.schema.columns if c.kind == "number")
    frame.loc[0, column.name] = column.high + 77.125
    with pytest.warns(UserWarning, match=f"{column.name}: 1 of 2 values lie outside") as warned:
        model.predict(frame)
    assert len(warned) == 1
    assert "77.125" not in str(warned[0].message)
    assert "Is the unit right" in str(warned[0].message)
    many = pd.concat([released_model.example(TASK.schema)] * 20, ignore_index=True)
    many.loc[0, column.name] = column.high + 1  # one patient of forty is out of the ordinary
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(many)
