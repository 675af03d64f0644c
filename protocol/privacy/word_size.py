"""Whether a study's sums fit into its integer words; one that could overflow is refused beforehand.

A wrapped sum would still be private (it is post-processing), but nonsense that was paid for.
"""

from __future__ import annotations

from protocol.errors import Code, WardroundError
from protocol.privacy.query_noise import largest
from protocol.privacy.skellam import MOST_VARIANCE
from protocol.secagg.fixed_point import (
    SITE_PATIENTS,
    WordBits,
    bits_for,
    most_sampled,
    word_bits_for,
)
from protocol.study.study import Study
from protocol.study.vector_layout import histogram_cells, histogram_variance, update_variance

_MARGIN = 2
"""Declared numbers of patients are banded, and cohorts grow: so many times more still fit."""


def word_bits_needed(study: Study) -> WordBits:
    """The smallest word in which no sum of the study wraps, but with probability below 2^-40.

    Updates of modes none and local are clipped to what fits (`sections.encode_update`). Raises
    WardroundError(CONFIGURATION) where even 64 bits do not do, where a share of noise is larger
    than can be drawn, or where a site samples more patients than the slack of its sum is proved of.
    """
    aggregation, privacy, evaluation = study.aggregation, study.privacy, study.evaluation
    least, all_ = aggregation.least_sites, len(study.roster)
    query = study.query
    scored = _MARGIN * study.patients() / (1 - evaluation.fraction)
    if query is not None and query.mechanism == "laplace":
        most = scored * evaluation.scale + largest(study)
        return bits_for(most, 0.0, query.cells, aggregation.attempts)
    # A share is largest when the fewest take part; the noise of a sum, in mode local, when all do.
    if max(update_variance(study, least), histogram_variance(study, least)) > MOST_VARIANCE:
        raise WardroundError(
            Code.CONFIGURATION,
            "A share of the study's noise is larger than can be drawn.",
            remedy="Lower aggregation.scale or evaluation.scale.",
        )
    histogram = bits_for(
        scored * evaluation.scale,
        max(sites * histogram_variance(study, sites) for sites in (least, all_)),
        histogram_cells(study),
        aggregation.attempts,
    )
    if privacy.mode != "distributed" or query is not None:
        return histogram
    if aggregation.rounding == "site":
        _check_sampled(study)
    update = word_bits_for(
        scale=aggregation.scale,
        dimension=study.model.parameters,
        most_patients=most_sampled(
            _MARGIN * study.patients(), privacy.sampling_rate, aggregation.attempts
        ),
        noise_multiplier=privacy.noise_multiplier,
        least_sites=least,
        colluding_sites=aggregation.colluding_sites,
        attempts=aggregation.attempts,
    )
    return max(histogram, update)


def _check_sampled(study: Study) -> None:
    rate, attempts = study.privacy.sampling_rate, study.aggregation.attempts
    largest_site = max(member.patients for member in study.roster)
    if most_sampled(_MARGIN * largest_site, rate, attempts) > SITE_PATIENTS:
        raise WardroundError(
            Code.CONFIGURATION,
            f"A site could sample more than {SITE_PATIENTS} patients a round, whose sum is not "
            "exact enough to be rounded once.",
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
