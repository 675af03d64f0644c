"""Samples of patients: who is drawn, with which record, how it is varied, and whose draws move."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from client.data.cohort import Cohort, identities
from client.training.sampling import Patients
from protocol.privacy.randomness import PatientDraws
from tasks import registry
from tasks.shipped.breast_cancer import BreastCancer

CHANCE = 1e-6


def cohort(patients: int, records: int = 1, order: npt.NDArray[np.int64] | None = None) -> Cohort:
    """Two thirds of the patients train; record r of patient k is [k, r]. `order`: of those who are
    there, and where they stand."""
    known = np.arange(patients) if order is None else order
    place = np.repeat(np.arange(len(known)), records)
    train = known % 3 != 0
    return Cohort(
        features=np.stack([known[place], np.tile(np.arange(records), len(known))], 1).astype("f4"),
        labels=(known[place] % 2).astype(np.float32),
        patient=place,
        identity=identities(f"patient {k}" for k in known),
        u=known / patients,
        in_training=train[place],
        train=train,
        evaluation=~train,
    )


def doubled(features: torch.Tensor, drawn: np.random.Generator) -> torch.Tensor:
    return 2 * features + float(drawn.integers(1, 3))


def test_what_trains_is_varied_and_what_is_evaluated_is_not() -> None:
    patients = Patients(cohort(30), doubled)
    assert patients.evaluation.features[:, 0].tolist() == list(range(0, 30, 3))
    for batch in (
        patients.private_sample(1.0),
        patients.plain_sample(1.0, np.random.default_rng(5)),
    ):
        moved = batch.features[:, 0] - 2 * torch.tensor([k for k in range(30) if k % 3])
        assert moved.unique().tolist() == [1.0, 2.0], "each by a draw of its own"


def test_a_seeded_sample_is_varied_the_same_way_again() -> None:
    def sample(seed: int) -> torch.Tensor:
        generator, patients = np.random.default_rng(seed), Patients(cohort(60, 3), doubled)
        return torch.cat([patients.plain_sample(0.3, generator).features for _ in range(8)])

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rate=st.sampled_from([0.1, 0.5, 1.0]))
def test_no_patient_moves_the_draws_of_another(data: st.DataObject, rate: float) -> None:
    """Who is there and in which order changes nothing about whether somebody else is drawn, with
    which record, and how that is varied."""

    def drawn(order: npt.NDArray[np.int64]) -> dict[int, list[float]]:
        patients = Patients(cohort(24, 4, order), several)
        sample = patients.private_sample(rate, lambda: PatientDraws(key))
        return {round(float(row[0])): row.tolist() for row in sample.features}

    def several(features: torch.Tensor, own: np.random.Generator) -> torch.Tensor:
        return torch.cat([features, torch.tensor(own.random(3), dtype=torch.float32)])

    key = data.draw(st.binary(min_size=32, max_size=32))
    order = data.draw(st.permutations(range(24)))
    some = order[: data.draw(st.integers(1, 24))]
    everyone, fewer = drawn(np.arange(24)), drawn(np.array(some))
    assert fewer == {patient: row for patient, row in everyone.items() if patient in some}


def test_pictures_are_varied_by_draws_of_their_own_to_the_last_bit() -> None:
    """The same picture, in other company and at another place of the batch."""
    task = registry.load("chest_xray", {"model": "cnn", "augment": True})
    grey = np.random.default_rng(1).integers(256, size=(21, 28, 28), dtype=np.uint8)

    def drawn(order: npt.NDArray[np.int64]) -> dict[int, torch.Tensor]:
        there, yes = np.arange(len(order)), np.ones(len(order), bool)
        labels = order.astype(np.float32)
        names = identities(map(str, order))
        some = Cohort(grey[order], labels, there, names, order / 21, yes, yes, ~yes)
        sample = Patients(some, task.varied).private_sample(1.0, lambda: PatientDraws(bytes(32)))
        return dict(zip(sample.labels.int().tolist(), sample.features, strict=True))

    everyone, some = drawn(np.arange(21)), drawn(np.array([17, 3, 4, 20, 11]))
    assert all(torch.equal(picture, everyone[patient]) for patient, picture in some.items())


@pytest.mark.parametrize("rate", [0.04, 0.6])
def test_samples_have_the_law_that_accounting_assumes(rate: float) -> None:
    """Each patient by itself with probability q, in every step anew: sizes are binomial, which
    samples by shuffling are not, and no two patients or steps go together."""
    patients, steps = Patients(cohort(150)), 400
    drawn = np.zeros((steps, 150), bool)
    for step in range(steps):
        drawn[step, patients.private_sample(rate).features[:, 0].numpy().astype(int)] = True
    trains = np.arange(150) % 3 != 0
    assert not drawn[:, ~trains].any()
    drawn = drawn[:, trains]
    each = drawn.sum(0)
    assert stats.chisquare(each, np.full(100, each.mean())).pvalue > CHANCE
    assert stats.binomtest(int(drawn.sum()), drawn.size, rate).pvalue > CHANCE
    sizes = drawn.sum(1)
    spread = sizes.var(ddof=1) / (100 * rate * (1 - rate)) * (steps - 1)
    assert CHANCE < stats.chi2.cdf(spread, steps - 1) < 1 - CHANCE
    for one, next_ in ((drawn[:, :-1], drawn[:, 1:]), (drawn[:-1], drawn[1:])):
        table = stats.contingency.crosstab(one.ravel(), next_.ravel()).count
        assert stats.chi2_contingency(table).pvalue > CHANCE


def test_a_patient_trains_with_one_record_any_of_them() -> None:
    patients = Patients(cohort(150, 4))
    counts = np.zeros(4)
    for _ in range(40):
        rows = patients.private_sample(1.0).features.numpy()
        assert len(rows) == len(set(rows[:, 0])) == 100
        counts += np.bincount(rows[:, 1].astype(int), minlength=4)
    assert stats.chisquare(counts).pvalue > CHANCE


def test_the_record_tells_nothing_about_being_drawn() -> None:
    """Both come from one block of bits, from different halves."""
    patients = Patients(cohort(3000, 2))
    rows = patients.private_sample(0.02).features.numpy()
    for _ in range(60):
        rows = np.concatenate([rows, patients.private_sample(0.02).features.numpy()])
    assert stats.binomtest(int(rows[:, 1].sum()), len(rows), 0.5).pvalue > CHANCE


@pytest.mark.parametrize("rates", [(0.3, 1.0), (1.0, 0.05)])
@pytest.mark.parametrize("private", [True, False])
def test_a_class_is_thinned_out_by_its_constant(rates: tuple[float, float], private: bool) -> None:
    """Each patient with probability q times the share of the drawn record's class, so that nobody
    is drawn more often than q, by which epsilon is counted."""
    rate, steps, drawn = 0.5, 400, np.zeros(2)
    patients, generator = Patients(cohort(150), class_rates=rates), np.random.default_rng(7)
    of_each = np.bincount([k % 2 for k in range(150) if k % 3])
    for _ in range(steps):
        sample = (
            patients.private_sample(rate) if private else patients.plain_sample(rate, generator)
        )
        assert torch.equal(sample.labels, sample.features[:, 0] % 2)
        drawn += np.bincount(sample.labels.long(), minlength=2)
    for label, share in enumerate(rates):
        trials = int(of_each[label]) * steps
        assert stats.binomtest(int(drawn[label]), trials, rate * share).pvalue > CHANCE
        above = stats.binomtest(int(drawn[label]), trials, rate, alternative="greater")
        assert above.pvalue > CHANCE


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_thinning_moves_no_other_patient(data: st.DataObject) -> None:
    key = data.draw(st.binary(min_size=32, max_size=32))
    order = data.draw(st.permutations(range(24)))
    some = order[: data.draw(st.integers(1, 24))]

    def drawn(of: npt.NDArray[np.int64]) -> set[int]:
        patients = Patients(cohort(24, 1, of), class_rates=(0.4, 1.0))
        return set(
            patients.private_sample(0.7, lambda: PatientDraws(key)).features[:, 0].int().tolist()
        )

    assert drawn(np.array(some)) == drawn(np.arange(24)) & set(some)


@settings(max_examples=20, deadline=None)
@given(
    rate=st.floats(0.01, 1),
    share=st.floats(0.01, 1),
    noise=st.floats(0.6, 4),
    epsilon=st.floats(0.01, 5),
)
def test_a_patient_who_is_drawn_less_often_loses_less(
    rate: float, share: float, noise: float, epsilon: float
) -> None:
    """Of one step, in both directions: delta at rate q r is at most delta at q, which is what is
    accounted. The densities are of the sum along the patient's gradient, clipped to 1."""

    def deltas(q: float) -> tuple[float, float]:
        x = np.linspace(-12 * noise, 12 * noise + 1, 20_001)
        without = stats.norm.pdf(x, 0, noise)
        with_him = (1 - q) * without + q * stats.norm.pdf(x, 1, noise)
        worse = np.exp(epsilon)
        return (
            float(np.trapezoid(np.maximum(with_him - worse * without, 0), x)),
            float(np.trapezoid(np.maximum(without - worse * with_him, 0), x)),
        )

    for less, accounted in zip(deltas(rate * share), deltas(rate), strict=True):
        assert less <= accounted + 1e-9


def test_a_task_decides_which_class_is_thinned_out() -> None:
    class Rare(BreastCancer):
        class_rates = (0.01, 1.0)

    of = Patients.of(Rare(), cohort(3000))
    labels = of.private_sample(1.0).labels
    assert labels.sum() == 1000
    assert 0 < (labels == 0).sum() < 100
