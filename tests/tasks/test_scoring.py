"""A record's score has the same bits alone and in any company."""

from __future__ import annotations

import numpy as np
import pytest

from tasks import registry
from tasks.flat_model import FlatModel
from tasks.scoring import ScoringModel


@pytest.mark.parametrize("name", ["readmission", "chest_xray"])
def test_a_record_is_scored_as_if_it_were_alone(name: str) -> None:
    task = registry.load(name)
    flat = FlatModel(task, 3)
    flat.load(np.random.default_rng(1).normal(size=flat.layout.size).astype(np.float32))
    model, table = ScoringModel(task, flat), task.schema.made_up(33)
    together = model.scores(table)[:, 0]
    alone = [
        float(
            model.scores({column: values[row : row + 1] for column, values in table.items()})[0, 0]
        )
        for row in range(33)
    ]
    assert together.tolist() == alone
    assert len(set(alone)) > 1


def test_nobody_has_no_score() -> None:
    task = registry.load("breast_cancer")
    table = task.schema.made_up(1)
    nobody = {column: values[:0] for column, values in table.items()}
    assert ScoringModel(task, FlatModel(task, 3)).scores(nobody).shape == (0, 1)
