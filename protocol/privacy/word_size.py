"""Whether a study's sums fit into its integer words; one that could overflow is refused beforehand.

A wrapped sum would still be private (it is post-processing), but nonsense that was paid for.
"""

from __future__ import annotations

from typing import assert_never

from protocol.errors import Code, WardroundError
from protocol.privacy.possible_sums import most_scored, most_trained
from protocol.privacy.query_noise import max_noise
from protocol.privacy.skellam import MAX_VARIANCE
from protocol.secagg.fixed_point import (
    SITE_PATIENTS,
    WordBits,
    clipped_sum_bits,
    max_sampled,
    sum_bits,
    whole_words,
)
from protocol.study.query import Query
from protocol.study.study import Study
from protocol.study.vector_layout import (
    histogram_cells,
    histogram_variance,
    update_variance,
    update_word_bits,
)


def word_bits_needed(study: Study) -> WordBits:
    """The smallest word in which no sum of the study wraps, but with probability below 2^-40.

    Updates of modes none and local are clipped to what fits (`vector_layout.encode_update`). Raises
    WardroundError(CONFIGURATION) where even 64 bits do not do, where a share of noise is larger
    than can be drawn, where a site samples more patients than the slack of its sum is proved of, or
    where the update does not fit the words of its `update_bits`.
    """
    privacy = study.privacy
    if study.query is not None:
        return _query_bits(study, study.query)
    histogram = _histogram_bits(study)
    check_sampled(study, max(most_trained(study, frozenset({site})) for site in study.sites))
    if not privacy.traits.one_sum:
        return histogram
    needed, own = update_bits_needed(study), update_word_bits(study)
    if own is not None and needed > own:
        raise WardroundError(
            Code.CONFIGURATION,
            f"A sum of this study's updates takes {needed} bits; update_bits gives it {own}.",
            remedy="Raise aggregation.update_bits, or lower aggregation.scale.",
        )
    return max(histogram, whole_words(needed))


def update_bits_needed(study: Study) -> int:
    """The bits of a word in which no sum of clipped gradients of the study wraps, but with
    probability below 2^-41 over all attempts."""
    aggregation, privacy = study.aggregation, study.privacy
    return clipped_sum_bits(
        scale=aggregation.scale,
        dimension=study.model.parameters,
        most_patients=max_sampled(most_trained(study), privacy.sampling_rate, aggregation.attempts),
        noise_multiplier=privacy.noise_multiplier,
        least_sites=aggregation.least_sites,
        colluding_sites=aggregation.colluding_sites,
        attempts=aggregation.attempts,
    )


def _query_bits(study: Study, query: Query) -> WordBits:
    match query.mechanism:
        case "laplace":
            most = most_scored(study) * study.evaluation.scale + max_noise(study)
            bits = whole_words(sum_bits(most, 0.0, query.cells, study.aggregation.attempts))
        case "skellam":
            bits = _histogram_bits(study)
        case never:
            assert_never(never)
    return 64 if query.compares_sites else bits  # figures are cut to what fits 64


def _histogram_bits(study: Study) -> WordBits:
    least, all_ = study.aggregation.least_sites, len(study.roster)
    # A share is largest when the fewest take part; the noise of a sum, in mode local, when all do.
    if max(update_variance(study, least), histogram_variance(study, least)) > MAX_VARIANCE:
        raise WardroundError(
            Code.CONFIGURATION,
            "A share of the study's noise is larger than can be drawn.",
            remedy="Lower aggregation.scale or evaluation.scale.",
        )
    largest = 1 if study.query is not None else study.outcome.largest
    bits = sum_bits(
        most_scored(study) * study.evaluation.scale * largest,
        max(sites * histogram_variance(study, sites) for sites in (least, all_)),
        histogram_cells(study),
        study.aggregation.attempts,
    )
    return whole_words(bits)


def check_sampled(study: Study, patients: int) -> None:
    """patients: the most of a site that may be drawn. Raises WardroundError(CONFIGURATION) where it
    could sample more at once than a sum in floating point is proved for (`SITE_SLACK`)."""
    rate = study.privacy.sampling_rate
    samples = study.aggregation.attempts * study.optimisation.local_steps
    if study.sums_in_floats and max_sampled(patients, rate, samples) > SITE_PATIENTS:
        raise WardroundError(
            Code.CONFIGURATION,
            f"A site could sample more than {SITE_PATIENTS} patients at once, whose sum is not "
            "exact enough in floating point.",
            remedy="Lower privacy.sampling_rate.",
        )


def check_headroom(study: Study) -> None:
    """Raises WardroundError(REFUSED_STUDY) for a study whose sums could wrap around."""
    try:
        needed = word_bits_needed(study)
    except WardroundError as error:
        raise WardroundError(Code.REFUSED_STUDY, error.message, remedy=error.remedy) from None
    if needed > study.aggregation.word_bits:
        raise WardroundError(
            Code.REFUSED_STUDY,
            f"A sum of this study could overflow its {study.aggregation.word_bits}-bit words.",
            remedy=f"Set aggregation.word_bits to {needed}, or lower aggregation.scale.",
        )
