"""Examples of kinds of outcome: their data and where their models begin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from protocol.errors import WardroundError
from tasks import contract, registry
from tasks.base import Task
from tasks.datasets import actg175, diabetes130
from tasks.examples.findings import Findings
from tasks.examples.length_of_stay import LengthOfStay
from tasks.examples.readmission_levels import ReadmissionLevels
from tasks.examples.trial_survival import TrialSurvival
from tasks.schema import PATIENT
from tests.tasks.shipped.test_readmission import ROOT

GENERATED = TrialSurvival(data="generated")


@pytest.mark.parametrize("task", [Findings(), GENERATED], ids=lambda task: task.name)
def test_generated_patients_are_the_same_every_time_and_at_one_site(task: Task) -> None:
    sites, again = task.public_sites(None), task.public_sites(None)
    for site, table in sites.items():
        assert all(
            np.array_equal(
                table[name],
                again[site][name],
                equal_nan=name != PATIENT and table[name].dtype.kind == "f",
            )
            for name in table
        )
        assert set(task.schema.names) == set(table)
        columns = task.schema.label_of(table)
        assert not task.outcome.bad(columns)[0].any()
        assert task.outcome.doubts(columns) == []
    names = [set(table[PATIENT]) for table in sites.values()]
    assert len(set.union(*names)) == sum(map(len, names))


def test_a_published_file_is_asked_for_by_name() -> None:
    with pytest.raises(WardroundError, match="wardround data fetch trial_survival"):
        TrialSurvival().public_sites(None)


def test_what_was_seen_after_randomisation_is_no_input() -> None:
    later = {"cd420", "cd496", "cd820", "offtrt", "r", "race"}
    assert not later & {*actg175.NUMBERS.values(), *actg175.FLAGS.values()}


def test_a_model_of_survival_begins_with_one_hazard_for_all() -> None:
    rows = torch.from_numpy(GENERATED.features(GENERATED.public_sites(None)["east"])[:5])
    survival = GENERATED.scores(GENERATED.model()(rows))
    assert torch.allclose(survival[:, -1], torch.full((5,), 0.96**6))


def test_a_picture_that_is_missing_has_no_features() -> None:
    task = Findings()
    table = {"radiograph": np.zeros((2, 32, 32), dtype=np.uint8)}
    assert not task.features(table).any()


def test_stays_are_counted_by_what_is_known_at_admission() -> None:
    names = {column.name for column in LengthOfStay.schema.columns}
    assert not names & {"discharged_to", "length_of_stay", "medications", "lab_procedures", "hba1c"}


@pytest.mark.parametrize("task", [LengthOfStay(), ReadmissionLevels()], ids=lambda task: task.name)
def test_models_of_the_diabetes_data_begin_at_the_usual_share(task: Task) -> None:
    contract.check(task)
    scores = task.scores(task.model()(torch.zeros(1, task.schema.width)))
    expected = [4.5] if task.outcome.kind == "event_count" else [[0.55, 0.3375, 0.1125]]
    assert np.allclose(scores.detach().numpy(), expected, atol=1e-4)


def test_the_levels_of_readmission_are_those_of_the_file() -> None:
    task = registry.load("readmission_levels")
    tables = task.public_sites(ROOT)
    for table in tables.values():
        assert np.array_equal(table[diabetes130.LEVEL] == 2, table["readmitted"] == 1)
        assert set(np.unique(table[diabetes130.LEVEL])) == {0, 1, 2}
