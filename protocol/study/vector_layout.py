"""The layout of an aggregate vector, [update | control | histogram] in integers, and its decoding.

Both sides derive it from the study:

- update, (P,): modes none and local: each site's difference of weights, times its public share of
  the declared patients, in units of 1 / `update_scale`; with `update_bits` it is rotated before.
  Mode distributed: the sum over its sampled patients of clipped gradients, in units of clip_norm /
  scale.
  In an exact analysis: `protocol.exact.sums`, in units of 2^-fraction_bits.
- control, (P,), with SCAFFOLD: each site's difference of control variates, times local_steps *
  local_lr, so that it is as large as an update; weighted and encoded as one.
- histogram, (cells,): what the kind of outcome counts (`protocol.outcomes`), in units of 1 /
  evaluation.scale; of a binary one label 0's scores, then label 1's, (2 * bins,). First of all
  patients, then of each level of each partition by subgroups.
  In a query, which has nothing else: the cells of its statistics, in the same units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from protocol.document import canonical, digest
from protocol.study.algorithms import sends_control
from protocol.study.privacy_mode import NoiseSource, noise_share
from protocol.study.quantiser import Draw, rotated, rotated_back, round_randomly
from protocol.study.study import Study
from protocol.study.subgroups import by_hospital
from protocol.vectors import Vector

Integers = npt.NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class Sections:
    """Which sections an attempt's vector has, and where."""

    study: Study
    train: bool
    evaluate: bool

    @cached_property
    def update(self) -> slice:
        return slice(0, self.study.released_numbers if self.train else 0)

    @cached_property
    def control(self) -> slice:
        start, present = self.update.stop, self.train and uses_control_variates(self.study)
        return slice(start, start + (self.study.model.parameters if present else 0))

    @cached_property
    def body(self) -> int:
        """Float32 numbers that a site is sent: the model, the server's control variate, and the
        model to be scored where that is another one."""
        return int(max(self.start.stop, self.scored.stop))

    @cached_property
    def start(self) -> slice:
        """Where, in what a site is sent, that stands which its steps begin with: the model, and the
        control variate."""
        control = int(self.control.stop - self.control.start)
        return slice(0, self.study.model.parameters + control)

    @cached_property
    def scored(self) -> slice:
        """Where, in what a site is sent, the model stands that is scored: the first one, or behind
        all else the average of iterates, which a study that averages would release then."""
        size, behind = self.study.model.parameters, int(self.start.stop)
        if self.train and self.evaluate and self.study.optimisation.averages:
            return slice(behind, behind + size)
        return slice(0, size)

    @cached_property
    def histogram(self) -> slice:
        start = self.control.stop
        return slice(start, start + (histogram_cells(self.study) if self.evaluate else 0))

    @cached_property
    def length(self) -> int:
        """Words of the vector, guards not counted."""
        return int(self.histogram.stop)

    @cached_property
    def exact(self) -> bool:
        """Whether anything in the vector is released without noise of its own."""
        noised = self.study.privacy.traits.private and self.study.exact is None
        return (self.train and not noised) or (self.evaluate and self.study.evaluation.exact)

    @cached_property
    def least_sites(self) -> int:
        """How many sites must add to it: the whole roster where it is exact, and where hospitals
        are told apart by class."""
        apart = self.evaluate and by_hospital(self.study.evaluation.subgroups)
        whole = self.exact or bool(apart)
        return len(self.study.roster) if whole else self.study.aggregation.least_sites

    @cached_property
    def kind(self) -> str:
        """The kind of aggregate, part of the context that masks are bound to."""
        control = self.train and uses_control_variates(self.study)
        present = {"update": self.train, "control": control, "histogram": self.evaluate}
        return "+".join(name for name in present if present[name])


def histogram_cells(study: Study) -> int:
    """Words of the histogram section; in a query the cells of its statistics."""
    if study.query is not None:
        return study.query.cells
    return study.outcome.cells(study.evaluation.bins) * study.evaluation.histograms


def largest_release(study: Study) -> int:
    """Words of the largest of an evaluation's releases: that of all patients, or of the partition
    with most levels."""
    levels = (len(partition.levels) for partition in study.evaluation.subgroups)
    return study.outcome.cells(study.evaluation.bins) * max(1, 1, *levels)


T = TypeVar("T", np.int64, np.float64)
_BLOCK = 1 << 16
"""Integers decoded at a time."""


def of_everyone(study: Study, histogram: npt.NDArray[T]) -> npt.NDArray[T]:
    """(cells of the section,) -> (outcome.cells,): the histogram of all patients."""
    return histogram[: study.outcome.cells(study.evaluation.bins)]


def by_level(study: Study, histogram: npt.NDArray[T]) -> list[npt.NDArray[T]]:
    """(cells of the section,) -> for each partition (levels, outcome.cells), the histogram of each
    level."""
    rows = histogram.reshape(study.evaluation.histograms, -1)
    ends = np.cumsum([1, *(len(partition.levels) for partition in study.evaluation.subgroups)])
    return [rows[start:end] for start, end in pairwise(ends)]


def evaluation_norm(study: Study) -> float:
    """What one patient can change in one release of the histogram section (of all patients, or of
    one partition's levels), in L2 and in integers; in a query, in the cells of one statistic."""
    sensitivity = 1.0 if study.query is not None else study.outcome.sensitivity
    return study.evaluation.scale * sensitivity


def uses_control_variates(study: Study) -> bool:
    """Whether control variates travel (SCAFFOLD)."""
    return sends_control(study.optimisation.local)


def update_scale(study: Study) -> float:
    """Integers per unit of a weighted update: update_range is the largest integer of update_bits,
    or, without those, of as many bits as n sites leave each other in words of k: then a power of
    two, so that scaling is exact."""
    if (bits := study.aggregation.update_bits) is not None:
        return (2.0 ** (bits - 1) - 1) / study.aggregation.update_range
    bound = len(study.roster) * study.aggregation.update_range
    return 2.0 ** (study.aggregation.word_bits - 2 - math.ceil(math.log2(bound)))


def update_word_bits(study: Study) -> int | None:
    """Bits of a word of the update on the wire, update_bits + ceil(log2 n): the numbers of all n
    sites, each of update_bits, add up without wrapping; in mode distributed the sum itself fits
    (`word_size.word_bits_needed`). None: the study's words, as everything else."""
    bits = study.aggregation.update_bits
    return None if bits is None else bits + (len(study.roster) - 1).bit_length()


class EncodedUpdate(NamedTuple):
    """integers: (P,) int64. outside: how many coordinates were cut to update_range; of this site
    alone, and never sent."""

    integers: npt.NDArray[np.int64]
    outside: int


def encode_update(
    study: Study, site: str, difference: Vector, round_: int, draw: Draw
) -> EncodedUpdate:
    """(P,) float32 new - old weights, or a control difference times local_steps * local_lr -> (P,)
    integers, weighted, cut to update_range. draw: the bits of stochastic rounding, which numbers
    of few bits need.

    Cutting by coordinate keeps a private update private (it is post-processing); what is not
    finite counts as 0, since no answer may depend on data.
    """
    weight = study.patients(frozenset({site})) / study.patients()
    bound, few = study.aggregation.update_range, study.aggregation.update_bits
    values = difference * np.float32(weight)
    if few is not None:
        values = rotated(np.nan_to_num(values), rotation_key(study, round_))
    limited = np.clip(np.nan_to_num(values), -bound, bound)
    scaled = limited.astype(np.float64) * update_scale(study)
    integers = np.rint(scaled).astype(np.int64) if few is None else round_randomly(scaled, draw)
    return EncodedUpdate(integers, int(np.count_nonzero(limited != values)))


def rotation_key(study: Study, round_: int) -> bytes:
    """32 bytes, public: the rotation of a round, the same at all sites."""
    return _key("rotation", study.optimisation.seed, round_)


def rounding_key(study: Study, round_: int, site: str) -> bytes:
    """32 bytes: the stochastic rounding of a site in a round of a study without privacy, so that a
    study which is repeated gives the same bits."""
    return _key("rounding", study.optimisation.seed, round_, site)


def _key(*parts: str | int) -> bytes:
    return bytes.fromhex(digest(canonical(list(parts))))


def decode_gradient(
    study: Study, total: Integers, participants: frozenset[str], round_: int
) -> Vector:
    """(P,) opened integers -> (P,) float32 gradient for the server optimiser. Integers of 32 bits
    are used up: the gradient is in their memory.

    Modes none and local: minus the mean difference, weighted by declared patients. Distributed:
    the clipped sum over the expected number of sampled patients, q times those declared.
    """
    if study.privacy.traits.one_sum:
        expected = study.privacy.sampling_rate * study.patients(participants)
        factor = study.privacy.clip_norm / (study.aggregation.scale * expected)
    else:
        factor = -study.patients() / (study.patients(participants) * update_scale(study))
    return _decoded(study, total, factor, round_)


def decode_control(study: Study, total: Integers, round_: int) -> Vector:
    """(P,) opened integers, used up likewise -> (P,) float32, the step of the server's control
    variate: weighted over the whole roster, since absent sites' variates do not change (Karimireddy
    et al. 2020, Algorithm 1, line 17, with weights by patients)."""
    optimisation = study.optimisation
    steps = optimisation.local_steps * optimisation.local_lr
    return _decoded(study, total, 1 / (update_scale(study) * steps), round_)


def _decoded(study: Study, total: Integers, factor: float, round_: int) -> Vector:
    narrow = total.dtype == np.int32
    values = total.view(np.float32) if narrow else np.empty(len(total), np.float32)
    for start in range(0, len(total), _BLOCK):
        part = slice(start, start + _BLOCK)
        values[part] = np.multiply(
            total[part], np.float32(factor), dtype=np.float32, casting="unsafe"
        )
    if study.aggregation.update_bits is None or study.privacy.traits.one_sum:
        return values
    return rotated_back(values, rotation_key(study, round_))


def encode_histogram(study: Study, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(cells,) counts -> (cells,) integers."""
    return counts * study.evaluation.scale


def decode_histogram(study: Study, total: Integers) -> npt.NDArray[np.float64]:
    """(cells,) opened integers -> (cells,) counts, with noise where the study adds it."""
    return total.astype(np.float64) / study.evaluation.scale


def update_variance(study: Study, participants: int) -> float:
    """Variance of one site's share of noise on a coordinate of the update, in integer units.

    Distributed: mu / (|U| - x) with mu = (noise multiplier * scale)^2. Otherwise 0: local noise is
    in the update already.
    """
    if not study.privacy.traits.one_sum or study.query is not None:
        return 0.0
    mu = (study.privacy.noise_multiplier * study.aggregation.scale) ** 2
    return _share(study, study.privacy.traits.noise_source, mu, participants)


def histogram_variance(study: Study, participants: int) -> float:
    """Likewise for a coordinate of the histogram; in mode local each site adds all the noise."""
    mu = (study.evaluation.noise_multiplier * evaluation_norm(study)) ** 2
    return _share(study, study.privacy.traits.evaluation_noise_source, mu, participants)


def _share(study: Study, source: NoiseSource, variance: float, participants: int) -> float:
    honest = participants - study.aggregation.colluding_sites
    return noise_share(source, variance, honest)
