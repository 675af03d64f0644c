"""What a site puts under its mask moves by the clip norm C at most when one patient joins.

Kind of fault: as in test_sum_moves_by_more_than_c.py, end to end at the site: two neighbouring
cohorts, everyone sampled, through `Contributor.contribution` in mode distributed.
"""

from __future__ import annotations

import numpy as np

from client.data.cohort import Cohort, identities
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.local_steps import SiteContext
from client.training.sampling import Patients
from protocol.study.vector_layout import Sections
from protocol.vectors import Vector
from tests.cases.privacy.neighbours import (
    BOUND,
    CLIP_NORM,
    MOST,
    Sum,
    cancelling_on_everyone,
    farthest,
    features,
    learner_of,
    needs_heart,
)
from tests.protocol.study_document import study

_SCALE = 65536
_STUDY = study(privacy__sampling_rate=1.0, privacy__clip_norm=CLIP_NORM, aggregation__scale=_SCALE)
_TRIALS = 400
_ENOUGH = 3.99
"""Clip norms: eight patients cannot be moved much farther by one."""
_AT_ANY_SIZE = 40
"""Further trials, since which sizes matter is up to the processor."""


def contribution(
    learner: DPTrainer, weights: Vector, patient: Vector, count: int, label: float
) -> Sum:
    """(27,) what a site with `count` patients who are alike adds, in clip norms."""
    yes, no = np.ones(count, bool), np.zeros(count, bool)
    cohort = Cohort(
        np.repeat(patient, count, 0),
        np.full(count, label, np.float32),
        np.arange(count),
        identities(map(str, range(count))),
        np.zeros(count),
        yes,
        yes,
        no,
    )
    site = Contributor(SiteContext(_STUDY, "va", Patients(cohort), learner))
    sections = Sections(_STUDY, train=True, evaluate=False)
    return site.contribution(sections, weights, 1) / _SCALE


@needs_heart
def test_one_more_patient_moves_the_contribution_by_c_at_most() -> None:
    task, learner = learner_of("heart_disease")
    patients = features(task).numpy()
    rng, farthest_yet = np.random.default_rng(1), 0.0
    for trial in range(_TRIALS + _AT_ANY_SIZE):
        weights = cancelling_on_everyone(rng)
        at, label = int(rng.integers(len(patients))), float(rng.integers(2))
        sizes = (7, 8) if trial < _TRIALS else range(MOST + 1)
        sums = [contribution(learner, weights, patients[at : at + 1], n, label) for n in sizes]
        farthest_yet = max(farthest_yet, farthest(sums))
        if farthest_yet > _ENOUGH:
            break
    assert farthest_yet <= BOUND
