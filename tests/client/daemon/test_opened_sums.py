"""What real sites' answers open to: how much noise is in it, and what was paid for it before."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from client.privacy_audit.released_sums import cohort_of
from client.training.contribution import Contributor
from protocol.errors import Code, WardroundError
from protocol.privacy.gaussian import SLACK
from protocol.privacy.word_size import check_sampled
from protocol.secagg.fixed_point import SITE_PATIENTS
from protocol.study.study import Study
from protocol.study.vector_layout import Sections, update_scale
from protocol.wire import messages
from protocol.wire.messages import Frame, Refusal
from tests.attack.simulated import Federation, changed, cohorts, study_of
from tests.exact_tails import has_variance

SITES, COLLUDING, BINS = 3, 2, 24
ROUND = 2
"""Trains and evaluates."""
PAIRS = 60


def planned(mode: str, sites: int = SITES) -> tuple[Federation, Study]:
    """So many sites in a study whose noise in the sum is three times that of each honest one."""
    patients = cohorts(sites)
    study = study_of(
        patients, f"privacy={mode}", "privacy.epsilon=5", "rounds=2", "evaluation.every=1"
    )
    study = changed(study, "privacy", sampling_rate=1.0, noise_multiplier=2.0)
    study = changed(study, "optimisation", local_steps=1)
    study = changed(study, "evaluation", bins=BINS, noise_multiplier=8.0)
    study = changed(
        study, "aggregation", colluding_sites=COLLUDING, attempts=2 * PAIRS, word_bits=64
    )
    federation = Federation.of(patients)
    states = {name: standing.state for name, standing in federation.propose(study).items()}
    assert set(states.values()) == {"accepted"}
    return federation, study


def opened(federation: Federation, study: Study, attempt: int) -> npt.NDArray[np.int64]:
    """[update | histogram] of one attempt, always from the same model."""
    readys = federation.prepare(study, attempt, round_=ROUND, evaluate=True)
    return federation.open(study, federation.collect(study, readys, attempt, ROUND))


def noise_of(study: Study) -> dict[str, float]:
    """Section -> variance of the noise in its sum, by the study's document alone."""
    privacy, evaluation, scale = study.privacy, study.evaluation, update_scale(study)
    counts = (evaluation.noise_multiplier * evaluation.scale) ** 2
    together = SITES / (SITES - COLLUDING)
    if privacy.traits.one_sum:
        update = (privacy.noise_multiplier * study.aggregation.scale) ** 2
        return {"update": update * together, "histogram": counts * together}
    clip = privacy.noise_multiplier * privacy.clip_norm * (1 + SLACK)
    step = study.optimisation.local_lr * clip / 100  # of each site's declared patients
    return {"update": SITES * (step / SITES * scale) ** 2, "histogram": SITES * counts}


@pytest.mark.parametrize("mode", ["local", "distributed"])
def test_a_sum_has_the_noise_that_was_accounted(mode: str) -> None:
    """At sampling rate 1 the same model gives the same sum but for noise, so that what two attempts
    differ by is noise alone: of twice the variance, and independent from place to place."""
    federation, study = planned(mode)
    attempts = count(1)
    differences = np.array(
        [
            opened(federation, study, next(attempts)) - opened(federation, study, next(attempts))
            for _ in range(PAIRS)
        ]
    )
    sections = Sections(study, train=True, evaluate=True)
    for section, variance in noise_of(study).items():
        noise = differences[:, getattr(sections, section)]
        assert has_variance(noise, 2 * variance), section
        assert has_variance(noise.sum(1), 2 * variance * noise.shape[1]), section
        neighbours = noise[:, 0:-1:2] + noise[:, 1::2]
        assert has_variance(neighbours, 4 * variance), section
        assert has_variance(noise[0::2] + noise[1::2], 4 * variance), section


def test_patients_enter_no_computation_before_they_are_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation, study = planned("distributed")
    contribution = Contributor.contribution
    paid: list[int] = []

    def noting(self: Contributor, *args: Any) -> npt.NDArray[np.int64]:
        paid.append(len(federation.governance[self.context.site].debits))
        return contribution(self, *args)

    monkeypatch.setattr(Contributor, "contribution", noting)
    for attempt in (1, 2):
        federation.prepare(study, attempt, round_=ROUND)
    assert paid == [1] * SITES + [2] * SITES


def test_what_the_ledger_refuses_is_never_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    federation, study = planned("local")

    def broke(*args: Any) -> None:
        raise WardroundError(Code.REFUSED_BUDGET, "Nothing is left.")

    for governance in federation.governance.values():
        monkeypatch.setattr(governance, "debit", broke)
    monkeypatch.setattr(Contributor, "contribution", lambda *_: pytest.fail("it was computed"))
    assert codes(federation.prepare(study)) == {Code.REFUSED_BUDGET}


def test_a_site_with_more_patients_than_its_sum_is_proved_for_refuses() -> None:
    """Declared are a hundred: only the site knows how many a sample may have. With many more its
    honest part could be taken for a lie; how many more is not told to the last patient."""
    _, study = planned("local")
    check_sampled(study, SITE_PATIENTS)
    with pytest.raises(WardroundError, match="not exact enough"):
        check_sampled(study, SITE_PATIENTS + 1)
    patients = cohorts(SITES)
    largest, *_ = names = sorted(patients)
    features = patients[largest].features[:1]
    for count_, refused in (
        (182, set()),
        (183, {Code.REFUSED_STUDY}),
        (SITE_PATIENTS + 1, {Code.REFUSED_STUDY}),
    ):
        alike = np.repeat(features, count_, axis=0)
        patients[largest] = cohort_of(alike, np.ones(count_), "training")
        federation = Federation.of(patients)
        federation.propose(study)
        answers = federation.prepare(study, round_=ROUND)
        assert codes({largest: answers[largest]}) - {None} == refused
        assert len(federation.governance[largest].debits) == (not refused)
        assert codes({name: answers[name] for name in names[1:]}) <= {None}


def test_each_attempt_is_announced_under_a_key_and_context_of_its_own() -> None:
    federation, study = planned("distributed")
    readys = [
        messages.parse(frame)
        for attempt in (1, 2)
        for frame in federation.prepare(study, attempt, round_=ROUND).values()
    ]
    keys = {ready.public_key for ready in readys if isinstance(ready, messages.Ready)}
    contexts = {ready.context for ready in readys if isinstance(ready, messages.Ready)}
    assert (len(keys), len(contexts)) == (2 * SITES, 2)


def test_an_exact_sum_takes_the_whole_roster() -> None:
    federation, study = planned("distributed", sites=SITES + 1)
    study = changed(study, "evaluation", release="exact", noise_multiplier=0.0)
    federation.propose(study)
    names = tuple(sorted(federation.sites))
    readys = federation.prepare(study, 1, round_=ROUND, train=False, evaluate=True)
    some = {name: readys[name] for name in names[:SITES]}
    assert codes(federation.collect(study, some, 1, ROUND)) == {Code.TOO_FEW_SITES}
    federation.open(study, federation.collect(study, readys, 1, ROUND))


def test_a_model_that_is_not_what_its_digest_names_is_refused() -> None:
    federation, study = planned("distributed")
    prepare = messages.Prepare(
        study=study.digest, round=1, attempt=1, train=True, evaluate=False, model="0" * 64
    )
    body = np.zeros(study.model.parameters, np.float32).tobytes()
    frame = messages.frame(prepare, [body])
    assert codes({n: s.answer(frame) for n, s in federation.sites.items()}) == {Code.MESSAGE}
    assert not any(paying.debits for paying in federation.governance.values())


def codes(frames: dict[str, Frame]) -> set[Code | None]:
    """Why these were refused; None for one that was not."""
    found = [messages.parse(frame) for frame in frames.values()]
    return {message.code if isinstance(message, Refusal) else None for message in found}
