"""A signed bundle without MLflow: of a study of the task breast_cancer, weights drawn at random."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from protocol.document import digest
from protocol.identity import Identity
from protocol.models.bundle import CARD, Bundle
from protocol.models.record import ModelRecord, SignedRecord
from protocol.study.study import Model, Study, TaskReference
from protocol.vectors import Vector, weights_digest
from tasks import registry
from tasks.base import Task
from tasks.flat_model import FlatModel
from tests.client.hospital import study

KEY = Identity.generate()
TRUSTED = KEY.public_key
CARD_TEXT = "# For research"


def study_of(task: Task, **changes: Any) -> Study:
    model = FlatModel(task, study().optimisation.seed)
    return study(**changes).model_copy(
        update={
            "task": TaskReference(
                name=task.name,
                version=task.version,
                source=task.source_digest(),
                options=task.options,
            ),
            "model": Model(
                parameters=model.layout.size,
                layout=model.layout.digest,
                frozen=model.frozen_digest,
            ),
        }
    )


def bundle(
    task: Task | None = None, weights: Vector | None = None, key: Identity | None = KEY
) -> Bundle:
    """A bundle as `wardround export` makes it, signed by `key`."""
    task = task or registry.load("breast_cancer")
    of = Study.parse(study_of(task).document)
    model = FlatModel(task, of.optimisation.seed)
    if weights is None:
        drawn = np.random.default_rng(3).normal(size=model.layout.size)
        weights = drawn.astype(np.float32)
    record = ModelRecord(
        study=of.digest,
        model="model",
        version="1",
        weights=weights_digest(weights),
        files={CARD: digest(CARD_TEXT.encode())},
    )
    signed = SignedRecord.make(record, key)
    return Bundle(signed, of, CARD_TEXT, model.layout, weights, model.frozen)


def changed(of: Bundle, **parts: Any) -> Bundle:
    return replace(of, **parts)
