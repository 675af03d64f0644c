"""What honest sites can add up to. A sum beyond it shows that some site did not do its part.

Masks hide who added what, but not the sum. The bounds follow from the study alone: the patients
that it declares, its clip norm, its noise. Honest sites exceed one with probability below 2^-40
over all attempts of a study. A lie within the bounds is not noticed.
"""

from __future__ import annotations

import math
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.privacy.gaussian import SLACK
from protocol.privacy.query_noise import max_noise
from protocol.secagg.fixed_point import (
    SITE_SLACK,
    WRAP_BITS,
    Rounding,
    max_sampled,
    rounding_moves,
    rounding_slack,
    skellam_tail,
)
from protocol.study.algorithms import (
    AdamW,
    DittoOptions,
    FedAvgOptions,
    FedBNOptions,
    FedProxOptions,
    ScaffoldOptions,
    Sgd,
)
from protocol.study.query import FIGURE_UNIT, LARGEST_FIGURE, SITES_THAT
from protocol.study.study import Study
from protocol.study.vector_layout import (
    Integers,
    Sections,
    histogram_variance,
    update_scale,
    update_variance,
)
from protocol.vectors import Vector

Sites = frozenset[str]
Floats = npt.NDArray[np.float64]
_MARGIN = 2
"""Declared numbers of patients are banded, and cohorts grow: so many times more are possible."""
_CHECKS = 8
"""At least the number of chances that one attempt is checked against."""
_FLOAT32 = 2.0**-22
"""More than a step in float32 loses, relative to the weights and to how far they move."""
_EDGES = tuple(math.isqrt(2**k - 1) + 1 for k in range(127))
_BLOCK = 1 << 16
"""Values whose squares are added up at a time."""


def most_trained(study: Study, sites: Sites | None = None) -> int:
    """Patients who may train at these sites (all of them by default)."""
    return _MARGIN * study.patients(sites)


def most_scored(study: Study, sites: Sites | None = None) -> int:
    """Patients who may be scored there, or counted by a query."""
    return math.ceil(most_trained(study, sites) / (1 - study.evaluation.fraction))


def check_declared(study: Study, site: str, *, trained: int, scored: int) -> None:
    """Raises WardroundError(REFUSED_STUDY) where a site has more patients than the study's sums are
    made for: they could wrap around, and its honest part could be taken for a lie.

    A coordinator chooses what is declared, and sees who refuses. So the site's numbers are rounded
    up to `at_most` first: however many studies are proposed, no more than that rounded number can
    be learned. A site with as many patients as declared, or a third more, is never refused.
    """
    here = frozenset({site})
    if at_most(trained) > most_trained(study, here) or at_most(scored) > most_scored(study, here):
        raise WardroundError(
            Code.REFUSED_STUDY,
            "This site has many more patients than the study declares for it.",
            remedy="Have the coordinator's operator enrol this site with today's number of "
            "training patients, and ask for a new study.",
        )


def at_most(patients: int) -> int:
    """The first of 1, 2, 3, 4, 6, 8, 12, 16, 23, 32, ... (2^(k/2) rounded up) that is not less."""
    return next(edge for edge in _EDGES if edge >= patients)


def impossible(
    study: Study, sections: Sections, total: Integers, participants: Sites, model: Vector
) -> str:
    """Why honest sites cannot have added up to `total`, (sections.length,) opened integers; empty
    where they can. model: (sections.body,) float32, what they were sent. Updates that a robust rule
    sees one by one are left to it, and exact sums of an analysis to `protocol.exact.newton`."""
    if sections.train and study.exact is None and study.aggregation.robust is None:
        if not study.privacy.traits.one_sum:
            coordinate = study.aggregation.update_range * update_scale(study) + 0.5
            if _largest(total[: sections.control.stop]) > len(participants) * coordinate:
                return "a coordinate of the update is outside update_range"
        if _length(total[sections.update]) > _longest_update(study, participants, model):
            return "the update is longer than patients, clip norm and noise allow"
    if sections.evaluate:
        return _impossible_counts(study, total[sections.histogram], participants)
    return ""


def _longest_update(study: Study, participants: Sites, model: Vector) -> float:
    """The most that the update's L2 norm can be, in integer units."""
    match study.privacy.traits.training:
        case "plain_steps" | "dp_sgd":
            return _longest_steps(study, participants, model)
        case "clipped_sum":
            return _longest_clipped_sum(study, participants)
    assert_never(study.privacy.traits.training)


def _longest_clipped_sum(study: Study, participants: Sites) -> float:
    """Every patient adds a clipped and rounded gradient, every site its share of Skellam noise."""
    aggregation, dimension = study.aggregation, study.model.parameters
    patients = max_sampled(
        most_trained(study, participants), study.privacy.sampling_rate, aggregation.attempts
    )
    rounded = len(participants) if aggregation.rounds_once else patients
    clipped = patients * aggregation.scale * (1 + rounding_slack(aggregation.rounding))
    variance = len(participants) * update_variance(study, len(participants))
    return (
        clipped
        + rounded * rounding_moves("patient", dimension)
        + _longest_skellam(study, variance, dimension)
    )


def _longest_steps(study: Study, participants: Sites, model: Vector) -> float:
    """T steps at every site from what it was sent, weighted by N_s / N, encoded and added up."""
    dimension, steps = study.model.parameters, study.optimisation.local_steps
    match study.optimisation.local_optimiser:
        case Sgd():
            moved = _moved_along_gradients(study, participants)
        case AdamW() as rule:
            share = study.patients(participants) / study.patients()
            moved = share * _moved_by_adamw(study, rule, _length(model))
        case never:
            assert_never(never)
    rounding: Rounding = "patient"  # to the nearest integer
    if study.aggregation.update_bits is not None:  # to either neighbour, and rotated in float32
        rounding, steps = "site", steps + 2 * dimension.bit_length()
    in_float32 = _FLOAT32 * (steps + 1) * (moved + _length(model))
    rounded = len(participants) * rounding_moves(rounding, dimension)
    return (moved + in_float32) * update_scale(study) + rounded


def _moved_along_gradients(study: Study, participants: Sites) -> float:
    """T steps of lr times (clipped gradients and Gaussian noise) / (q N_s) at site s: weighted by
    N_s / N, the sites' numbers of patients cancel. Plain gradients have no bound."""
    plan, privacy, dimension = study.optimisation, study.privacy, study.model.parameters
    if not privacy.traits.private:
        return math.inf
    stretch, steps = _stretch(study), plan.local_steps
    samples = study.aggregation.attempts * steps * len(participants)
    norm = privacy.clip_norm * (1 + SITE_SLACK + SLACK)
    patients = sum(
        max_sampled(most_trained(study, frozenset({site})), privacy.sampling_rate, samples) + 1
        for site in participants
    )
    # Norm of a standard normal vector: Laurent and Massart 2000, lemma 1.
    level = _level(study, 1)
    normal = math.sqrt(dimension + 2 * math.sqrt(dimension * level) + 2 * level)
    noise = privacy.noise_multiplier * norm * math.sqrt(steps * len(participants)) * normal
    expected = privacy.sampling_rate * study.patients()
    return stretch * plan.local_lr * (steps * patients * norm + noise) / expected


def _moved_by_adamw(study: Study, rule: AdamW, length: float) -> float:
    """However large gradients are, and whatever an algorithm adds to them: each coordinate of a
    step is at most lr times `adaptive_steps` (Kingma and Ba 2015, section 2.1), and what decays is
    what was sent, of this length, and what the steps before have made."""
    plan, dimension = study.optimisation, study.model.parameters
    steps, decay = plan.local_steps, plan.local_lr * rule.weight_decay
    growth = max(1.0, decay - 1)  # of what was made; a decay above 2 overshoots
    longest = adaptive_steps(rule, steps)
    with np.errstate(over="ignore"):
        later = np.power(growth, np.arange(steps - 1, -1, -1, dtype=np.float64))
        decayed = 1 - (1 - decay) ** steps if decay <= 1 else 1 + growth * float(later[0])
        made = float(np.sum(longest * later))
    return plan.local_lr * math.sqrt(dimension) * made + decayed * length


def adaptive_steps(rule: AdamW, steps: int) -> Floats:
    """(steps,) float64: the most that |first moment| / sqrt(second moment), both without the bias
    of their beginning, can be at step 1, 2, ... whatever the gradients g were.

    The moments are the means of g and g^2 with weights a and b that add up to 1, so that by Cauchy
    and Schwarz the ratio is at most sqrt(sum a^2 / b), which g = a / b reaches; infinite where the
    second moment forgets what the first one remembers.
    """
    t = np.arange(1, steps + 1, dtype=np.float64)
    beta1, beta2 = rule.beta1, rule.beta2
    if beta1 == 0:
        remembered = np.ones(steps)
    elif beta2 == 0:
        remembered = np.where(t == 1, 1.0, np.inf)
    else:
        ratio = beta1**2 / beta2
        with np.errstate(over="ignore"):
            remembered = t if ratio == 1 else (np.power(ratio, t) - 1) / (ratio - 1)
    before = (1 - beta1) / (1 - np.power(beta1, t))
    after = (1 - np.power(beta2, t)) / (1 - beta2)
    most: Floats = np.sqrt(before**2 * after * remembered)
    return most


def _stretch(study: Study) -> float:
    """How much longer an algorithm may make the sum of a round's steps along gradients."""
    plan = study.optimisation
    rule = plan.local_optimiser
    if not isinstance(rule, Sgd) or rule.weight_decay:
        return math.inf  # steps of their own, which no gradient bounds
    summed = 1 / (1 - rule.momentum)  # what a gradient adds to all later steps together
    match plan.local:
        case FedAvgOptions() | FedBNOptions() | DittoOptions():
            return summed
        case FedProxOptions() if summed > 1:
            return math.inf
        case FedProxOptions(mu=mu):  # w - w_0 is multiplied by 1 - lr mu at each later step
            growth = math.log(max(1.0, abs(1 - plan.local_lr * mu)))
            return math.exp(min(700.0, (plan.local_steps - 1) * growth))
        case ScaffoldOptions():  # control variates, which earlier rounds have made, come on top
            return math.inf
    assert_never(plan.local)


def _impossible_counts(study: Study, counts: Integers, participants: Sites) -> str:
    """Every patient adds what the kind of outcome says, times `scale`, to the histogram of all and
    to one of each partition; in a query `scale`, over the cells of each statistic."""
    scale, cells = study.evaluation.scale, len(counts)
    if study.query is not None and study.query.compares_sites:
        parts = [counts[where] for where in study.query.slices]
        return next(
            filter(None, (_impossible_words(one, scale, participants) for one in parts)), ""
        )
    largest, added = (
        (1, len(study.query.statistics))
        if study.query is not None
        else (study.outcome.largest, study.outcome.added * study.evaluation.releases)
    )
    scored = most_scored(study, participants) * scale
    variance = len(participants) * histogram_variance(study, len(participants))
    cell, all_cells = (
        skellam_tail(variance, _level(study, cells)),
        skellam_tail(cells * variance, _level(study, 1)),
    )
    if study.query is not None:
        match study.query.mechanism:
            case "skellam":
                pass
            case "laplace":
                cell = max_noise(study)
                all_cells = cells * cell
            case never:
                assert_never(never)
    elif study.evaluation.exact:
        cell = all_cells = 0.0
        if np.any(counts % scale):
            return "a cell of an exact histogram is no whole number of patients"
    if int(counts.min()) < -cell or int(counts.max()) > largest * scored + cell:
        return "a cell of the histogram counts more patients than are declared, or less than none"
    whole = int(counts.sum(dtype=np.int64))
    if not -all_cells <= whole <= added * scored + all_cells:
        return "the histogram counts more patients than are declared, or less than none"
    return ""


def _impossible_words(counts: Integers, scale: int, participants: Sites) -> str:
    """Of one column in which sites are compared: a word of each, and their figures."""
    words, sums = np.split(counts, [len(SITES_THAT)])
    if int(words.min()) < 0 or int(words.sum()) != len(participants) * scale:
        return "of a column not every site has said one thing"
    if not 0 <= int(sums[0]) <= len(participants) * FIGURE_UNIT:
        return "more sites are compared in a column than take part"
    if _largest(sums) > len(participants) * LARGEST_FIGURE:
        return "the figures of a column are larger than any site may say"
    return ""


def _longest_skellam(study: Study, variance: float, dimension: int) -> float:
    """Norm of independent Skellam values of this variance v: with none above the bound B, their
    squares have mean v or less and fourth moment 3 v^2 + v (Bernstein's inequality)."""
    level = _level(study, 1)
    largest = skellam_tail(variance, _level(study, dimension))
    spread = math.sqrt(2 * dimension * (3 * variance**2 + variance) * level)
    return math.sqrt(dimension * variance + spread + 2 / 3 * largest**2 * level)


def _level(study: Study, values: int) -> float:
    """Minus the logarithm of the chance that one of so many values may be out of bounds."""
    return math.log(2 * values * study.aggregation.attempts * _CHECKS * 2.0**WRAP_BITS)


def _largest(integers: Integers) -> int:
    return max(int(integers.max()), -int(integers.min()))


def _length(values: Integers | Vector) -> float:
    """L2 norm, in float64, without a copy of the vector."""
    starts = range(0, len(values), _BLOCK)
    blocks = (values[start : start + _BLOCK].astype(np.float64) for start in starts)
    return math.sqrt(sum(float(np.dot(block, block)) for block in blocks))
