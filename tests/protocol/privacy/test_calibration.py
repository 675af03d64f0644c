"""From an epsilon to noise, and from both to words: pure functions of a study."""

import math
from dataclasses import replace

import pytest

from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import Binary
from protocol.privacy.accounting import epsilon_over_bands
from protocol.privacy.calibration import (
    coarsened,
    fitted,
    patient_scale,
    sum_rounding,
    with_noise,
    with_words,
)
from protocol.privacy.releases import check_claim, planned_broken_epsilon, planned_events
from protocol.privacy.word_size import check_headroom, update_bits_needed, word_bits_needed
from protocol.study.study import Study
from tests.protocol.query_document import asked as query_study
from tests.protocol.study_document import study


def draft(mode: str, split: str = "patients", **changes: object) -> Study:
    return study(
        privacy__mode=mode,
        privacy__epsilon=2.0,
        privacy__noise_multiplier=1.0,
        evaluation__noise_multiplier=1.0,
        evaluation__split=split,
        aggregation__scale=2**16,
        **changes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "distributed"])
@pytest.mark.parametrize("split", ["patients", "column"])
@pytest.mark.parametrize("masked", [True, False])
def test_the_noise_is_the_least_that_keeps_epsilon(mode: str, split: str, masked: bool) -> None:
    made = with_noise(draft(mode, split, aggregation__masked=masked), 2.0)
    assert made.privacy.epsilon == 2.0
    check_claim(made)
    training, *rest = planned_events(made)
    less = replace(training, noise_multiplier=0.998 * training.noise_multiplier)
    delta = made.privacy.delta
    assert (
        epsilon_over_bands((training, *rest), delta) <= 2 < epsilon_over_bands((less, *rest), delta)
    )


def test_what_a_draft_has_for_noise_does_not_matter() -> None:
    one, other = draft("distributed"), draft("distributed", nonce="f" * 16)
    loud = other.model_copy(
        update={"privacy": other.privacy.model_copy(update={"noise_multiplier": 9.0})}
    )
    assert with_noise(one, 2.0).privacy == with_noise(loud, 2.0).privacy
    assert with_noise(one, 2.0, bins=64).evaluation.bins == 64


def test_without_masks_the_noise_of_each_share_suffices_alone() -> None:
    summed, seen = (
        with_noise(draft("distributed", aggregation__masked=m), 2.0) for m in (True, False)
    )
    honest = len(seen.roster) - seen.aggregation.colluding_sites
    more = seen.privacy.noise_multiplier / summed.privacy.noise_multiplier
    assert more == pytest.approx(math.sqrt(honest), rel=2e-3)
    assert planned_broken_epsilon(seen, seen.privacy.delta) <= 2.0 * (1 + 1e-9)


def test_noise_that_would_drown_every_patient_is_refused() -> None:
    few = draft("distributed", roster=[{"name": n, "patients": 1} for n in ("a", "b", "c")])
    with pytest.raises(WardroundError) as refused:
        with_noise(few, 1e-3)
    assert refused.value.code is Code.EPSILON_UNREACHABLE


@pytest.mark.parametrize("attempts", [1, 2])
def test_pure_epsilons_of_a_query_add_up_to_the_last_digit(attempts: int) -> None:
    asked = query_study(aggregation__attempts=attempts)
    assert asked.query is not None
    made = with_noise(asked, 0.5)
    assert made.evaluation.noise_multiplier == attempts * len(asked.query.statistics) / 0.5
    assert made.privacy.noise_multiplier == made.evaluation.noise_multiplier
    check_claim(made)


def test_words_are_the_smallest_that_hold_the_sums() -> None:
    made = with_words(with_noise(draft("distributed"), 2.0))
    check_headroom(made)
    assert made.aggregation.word_bits == word_bits_needed(made)


def test_a_coarser_clip_norm_is_taken_only_where_it_halves_the_words() -> None:
    many = [{"name": f"site{n:02d}", "patients": 900} for n in range(32)]
    fine = with_noise(draft("distributed", roster=many, privacy__sampling_rate=1.0), 2.0)
    coarse = coarsened(fine, 2.0)
    assert (word_bits_needed(fine), word_bits_needed(coarse)) == (64, 32)
    assert coarse.aggregation.scale < fine.aggregation.scale
    assert coarse.privacy.noise_multiplier < 1.02 * fine.privacy.noise_multiplier
    assert coarsened(coarse, 2.0) is coarse
    several = with_noise(draft("local"), 2.0)
    assert coarsened(several, 2.0) is several


def test_few_bits_in_mode_distributed_cost_noise_and_no_epsilon() -> None:
    """The scale is halved until the sum fits, no further, and noise pays for the coarser rounding;
    the sites refuse the same study with the finer scale."""
    bits = {"attempts": 24, "update_bits": 13, "scale": 2**16}
    fine = with_noise(draft("distributed", aggregation=bits), 2.0)
    made = with_words(fitted(fine, 2.0))
    assert update_bits_needed(made) <= 13 + 2 < update_bits_needed(fine)
    doubled = bits | {"scale": 2 * made.aggregation.scale}
    finer = with_noise(draft("distributed", aggregation=doubled), 2.0)
    assert update_bits_needed(finer) > 13 + 2
    assert made.privacy.noise_multiplier > fine.privacy.noise_multiplier
    check_claim(made)
    check_headroom(made)
    for too_narrow in (fine, finer):
        with pytest.raises(WardroundError) as refused:
            check_headroom(too_narrow)
        assert refused.value.code is Code.REFUSED_STUDY
        assert "update_bits" in refused.value.message


def test_what_a_patient_and_a_model_become() -> None:
    assert [sum_rounding(size) for size in (1, 1024, 1025)] == ["patient", "patient", "site"]
    asked = query_study().query
    assert asked is not None
    assert patient_scale(asked.model_copy(update={"mechanism": "skellam"})) == 256


def test_few_patients_or_much_noise_take_few_bins() -> None:
    assert Binary().bins_for(170, 0.0) == 512
    assert Binary().bins_for(170, 4.0) in (6, 8)
    chosen = [Binary().bins_for(n, 4.0) for n in (10, 100, 1_000, 10_000, 100_000, 10**9)]
    assert chosen == sorted(chosen)
    assert chosen[0] == 4
    assert chosen[-1] == 512
    assert all(bins % 2 == 0 for bins in chosen)
