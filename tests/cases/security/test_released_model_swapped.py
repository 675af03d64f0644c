"""A released model whose weights were replaced is not loaded.

Kind of fault: the approved model version is not bound to its content, so whoever can write to
MLflow's artifact store changes what is scored.
"""

from __future__ import annotations

import secrets
import warnings
from pathlib import Path

import numpy as np
import pytest

from protocol.errors import WardroundError
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
from tasks import registry
from tasks.flat_model import FlatModel


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A released model as it was written."""
    task = registry.load("breast_cancer")
    layout = FlatModel(task, 0).layout
    study = Study(
        title="t",
        purpose="research",
        contact="c",
        nonce=secrets.token_hex(8),
        task=TaskReference(name=task.name, version=task.version, source=task.source_digest()),
        model=Model(parameters=layout.size, layout=layout.digest),
        privacy=Privacy(mode="none"),
        optimisation=Optimisation(rounds=1),
        aggregation=Aggregation(attempts=2),
        evaluation=Evaluation(release="exact"),
        roster=tuple(Member(name=name, patients=10) for name in "abc"),
    )
    weights = np.random.default_rng(0).normal(size=layout.size).astype(np.float32)
    released_model.write(tmp_path / "model", study, weights)
    return tmp_path / "model"


def loaded(model: Path) -> str:
    """What comes of loading it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            released_model.load(model)
        except (WardroundError, ValueError):
            return "refused"
    return "loaded with a warning" if said else "loaded"


def test_a_model_as_it_was_written_is_loaded(model: Path) -> None:
    assert loaded(model) == "loaded"


def test_a_model_with_other_weights_is_refused(model: Path) -> None:
    (path,) = model.rglob("weights.npz")
    arrays = dict(np.load(path))
    swapped = {name: (-5 * np.abs(array)).astype(np.float32) for name, array in arrays.items()}
    np.savez(path, **swapped)
    assert loaded(model) == "refused"
