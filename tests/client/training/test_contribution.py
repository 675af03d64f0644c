"""What a site's part of a sum says of its patients: who was sampled, how much each adds, once.

The task makes it legible: a record's gradient is 1 in a coordinate of its own, so that a sum is the
list of the records that were drawn. Trainer, sampler, clipping and encoding are the real ones.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from scipy import stats
from torch import Tensor, nn

from client.data.cohort import Cohort, identities
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.local_steps import SiteContext
from client.training.sampling import Patients
from protocol.study.study import Study
from protocol.study.vector_layout import Sections, update_scale
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.schema import Column, Schema
from tests.client.hospital import SITE, study
from tests.exact_tails import is_binomial

PATIENTS, RECORDS = 24, 3
"""Who train, and how many records each of them has; a third as many evaluate."""
EVERYONE = PATIENTS + PATIENTS // 3
SIZE = EVERYONE * RECORDS
RATE = 0.3
DECLARED = 100
"""Patients of the site by `study`: a public constant, not how many there are."""


class OneCoordinateEach(Task):
    name = "one_coordinate_each"
    title = "as many weights as records"
    schema = Schema((Column("a", "a number"),), "y", "a label")

    def model(self) -> nn.Module:
        return nn.Linear(SIZE, 1, bias=False)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs[:, 0]


def cohort() -> Cohort:
    """Record r is of patient r // RECORDS, and 1 in coordinate r."""
    patient = np.arange(SIZE) // RECORDS
    trains = np.arange(EVERYONE) < PATIENTS
    return Cohort(
        features=np.eye(SIZE, dtype=np.float32),
        labels=(patient % 2).astype(np.float32),
        patient=patient,
        identity=identities(map(str, range(EVERYONE))),
        u=np.arange(EVERYONE) / EVERYONE,
        in_training=trains[patient],
        train=trains,
        evaluation=~trains,
    )


def contributor(mode: str, **changes: Any) -> Contributor:
    """A site in a study of this mode, clip norm 1, with hardly any noise of its own."""
    layout = FlatModel(OneCoordinateEach(), 0).layout
    of = study(
        model={"parameters": SIZE, "layout": layout.digest},
        privacy__mode=mode,
        privacy__sampling_rate=RATE,
        privacy__noise_multiplier=1e-6,
        **changes,
    )
    learner = DPTrainer(OneCoordinateEach(), 0)
    return Contributor(SiteContext(of, SITE, Patients(cohort()), learner))


def trained(site: Contributor) -> np.ndarray:
    """(SIZE,) the integers of one attempt of round 1."""
    sections = Sections(site.study, train=True, evaluate=False)
    return site.contribution(sections, np.zeros(SIZE, np.float32), 1)


def one_patient(of: Study) -> float:
    """What a patient adds in a step: in mode local lr C / (q declared), weighted by the site's
    public share; in mode distributed C, as an integer."""
    if of.privacy.traits.one_sum:
        return float(of.aggregation.scale)
    step = of.optimisation.local_lr * of.privacy.clip_norm / (RATE * DECLARED)
    return step * DECLARED / of.patients() * update_scale(of)


def drawn(site: Contributor) -> np.ndarray:
    """(EVERYONE, RECORDS) how often each record was in one attempt's samples."""
    times = np.abs(trained(site)) / one_patient(site.study)
    assert np.abs(times - np.rint(times)).max() < 0.01, "a patient adds another amount"
    return np.asarray(np.rint(times).astype(int).reshape(EVERYONE, RECORDS))


def test_the_average_is_scored_and_the_iterate_trained() -> None:
    """Of what a study that averages sends: the histogram moves with the one, the update with the
    other alone."""
    site = contributor("local", optimisation__averaging="last_half", evaluation__every=1)
    sections = Sections(site.study, train=True, evaluate=True)
    far = np.full(SIZE, 9.0, np.float32)
    near = np.zeros(SIZE, np.float32)
    scored, update = sections.histogram, sections.update

    def sums(iterate: np.ndarray, average: np.ndarray) -> np.ndarray:
        return site.contribution(sections, np.concatenate([iterate, average]), 1)

    assert np.array_equal(sums(far, near)[scored], sums(near, near)[scored])
    assert not np.array_equal(sums(near, far)[scored], sums(near, near)[scored])
    step = one_patient(site.study)
    assert np.abs(sums(near, far)[update]).max() < 1.01 * step


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "distributed"])
def test_each_patient_is_sampled_by_itself_with_the_public_rate(mode: str) -> None:
    """The law that accounting is for, Poisson sampling: not shuffling, not batches of one size,
    not the same sample again, and one that nobody can foresee from round and seed."""
    attempts = 400
    seen = np.array([drawn(contributor(mode)).sum(1) for _ in range(attempts)])
    assert seen.max() == 1, "a patient was drawn twice, or with several records"
    assert not seen[:, PATIENTS:].any(), "a patient who evaluates has trained"
    chosen = seen[:, :PATIENTS].astype(bool)
    for patient in chosen.T:
        assert is_binomial(int(patient.sum()), attempts, RATE)
    for size in range(PATIENTS + 1):
        often = int((chosen.sum(1) == size).sum())
        assert is_binomial(often, attempts, stats.binom.pmf(size, PATIENTS, RATE)), (
            f"samples of {size}"
        )
    for one, other in ((chosen[:, 0::2], chosen[:, 1::2]), (chosen[0::2], chosen[1::2])):
        both = int((one & other).sum())  # of two patients, and of two attempts
        assert is_binomial(both, one.size, RATE**2)


def test_every_step_draws_a_sample_of_its_own() -> None:
    attempts = 150
    site = contributor("local", optimisation={"rounds": 20, "local_steps": 2})
    times = np.array([drawn(site).sum(1)[:PATIENTS] for _ in range(attempts)])
    for often, probability in ((1, 2 * RATE * (1 - RATE)), (2, RATE**2)):
        assert is_binomial(int((times == often).sum()), times.size, probability)


@pytest.mark.parametrize("mode", ["local", "distributed"])
def test_what_a_patient_adds_says_nothing_of_how_many_there_are(mode: str) -> None:
    """Denominators and weights are the study's declared numbers, whatever the cohort or the sample
    (`drawn` asserts it of every attempt), and nobody adds more than the clip norm."""
    site = contributor(mode)
    assert len(site.context.patients._train) != DECLARED
    for _ in range(20):
        drawn(site)


def test_nobody_can_foresee_how_a_private_update_is_rounded() -> None:
    """The same update in the same round becomes other numbers of few bits each time."""
    site = contributor("local", aggregation={"attempts": 24, "update_bits": 3, "update_range": 1.0})
    difference = np.full(SIZE, 0.1, np.float32)
    first, second = (site._encoded(1, difference)[0] for _ in range(2))
    assert (first != second).any()


def test_what_was_cut_off_is_told_to_the_site_alone(caplog: pytest.LogCaptureFixture) -> None:
    site = contributor("local", aggregation={"attempts": 24, "update_range": 1e-3})
    with caplog.at_level(logging.INFO, "wardround.site"):
        site._encoded(7, np.full(SIZE, 1.0, np.float32))
    assert f"round 7: {SIZE} of {SIZE} numbers" in caplog.text


def test_a_patient_counts_once_in_the_histogram_by_the_first_record() -> None:
    site = contributor("local", evaluation={"noise_multiplier": 1.0, "scale": 8, "bins": 4})
    sections = Sections(site.study, train=False, evaluate=True)
    weights = np.tile([20.0, -20.0, -20.0], EVERYONE).astype(np.float32)  # later ones score 0
    counts = site.contribution(sections, weights, 21).reshape(2, 4)
    assert counts.sum() == 8 * (EVERYONE - PATIENTS)
    assert counts[:, 3].sum() == counts.sum()


def test_a_record_is_drawn_anew_for_each_sample() -> None:
    site = contributor("distributed")
    attempts = 100
    seen = np.array([drawn(site)[:PATIENTS] for _ in range(attempts)])
    for record in range(RECORDS):
        assert is_binomial(int(seen[:, :, record].sum()), attempts * PATIENTS, RATE / RECORDS)
