"""The layout of an aggregate vector, [update | control | histogram] in integers, and its decoding.

Both sides derive it from the study:

- update, (P,): modes none and local: each site's difference of weights, times its public share of
  the declared patients, in units of 1 / `update_scale`. Mode distributed: the sum over its sampled
  patients of clipped gradients, in units of clip_norm / scale.
- control, (P,), with SCAFFOLD: each site's difference of control variates, times local_steps *
  local_lr, so that it is as large as an update; weighted and encoded as one.
- histogram, (2 * bins,): label 0's scores, then label 1's, in units of 1 / evaluation.scale.
  In a query, which has nothing else: the cells of its statistics, in the same units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.study.algorithms import sends_control
from protocol.study.privacy_mode import NoiseSource, noise_share
from protocol.study.study import Study
from protocol.vectors import Vector

Integers = npt.NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class Sections:
    """Which sections an attempt's vector has, and where."""

    study: Study
    train: bool
    evaluate: bool

    @property
    def update(self) -> slice:
        return slice(0, self.study.model.parameters if self.train else 0)

    @property
    def control(self) -> slice:
        start, present = self.update.stop, self.train and uses_control_variates(self.study)
        return slice(start, start + (self.study.model.parameters if present else 0))

    @property
    def body(self) -> int:
        """Float32 numbers that a site is sent: the model, and the server's control variate."""
        return self.study.model.parameters + int(self.control.stop - self.control.start)

    @property
    def histogram(self) -> slice:
        start = self.control.stop
        return slice(start, start + (histogram_cells(self.study) if self.evaluate else 0))

    @property
    def length(self) -> int:
        """Words of the vector, guards not counted."""
        return int(self.histogram.stop)

    @property
    def exact(self) -> bool:
        """Whether anything in the vector is released without noise of its own."""
        return (self.train and not self.study.privacy.traits.private) or (
            self.evaluate and self.study.evaluation.exact
        )

    @property
    def kind(self) -> str:
        """The kind of aggregate, part of the context that masks are bound to."""
        control = self.train and uses_control_variates(self.study)
        present = {"update": self.train, "control": control, "histogram": self.evaluate}
        return "+".join(name for name in present if present[name])


def histogram_cells(study: Study) -> int:
    """Words of the histogram section; in a query the cells of its statistics."""
    return 2 * study.evaluation.bins if study.query is None else study.query.cells


def uses_control_variates(study: Study) -> bool:
    """Whether control variates travel (SCAFFOLD)."""
    return sends_control(study.optimisation.local)


def update_scale(study: Study) -> float:
    """Integers per unit of a weighted update, as fine as k bits allow: n sites of at most
    update_range each stay below 2^(k-1). A power of two, so that scaling is exact."""
    bound = len(study.roster) * study.aggregation.update_range
    return 2.0 ** (study.aggregation.word_bits - 2 - math.ceil(math.log2(bound)))


def encode_update(study: Study, site: str, difference: Vector) -> npt.NDArray[np.int64]:
    """(P,) float32 new - old weights, or a control difference times local_steps * local_lr -> (P,)
    integers, weighted, clipped to update_range.

    Clipping by coordinate keeps a private update private (it is post-processing); what is not
    finite counts as 0, since no answer may depend on data.
    """
    weight = study.patients(frozenset({site})) / study.patients()
    bound = study.aggregation.update_range
    limited = np.clip(np.nan_to_num(difference * np.float32(weight)), -bound, bound)
    integers: npt.NDArray[np.int64] = np.rint(
        limited.astype(np.float64) * update_scale(study)
    ).astype(np.int64)
    return integers


def decode_gradient(study: Study, total: Integers, participants: frozenset[str]) -> Vector:
    """(P,) opened integers -> (P,) float32 gradient for the server optimiser.

    Modes none and local: minus the mean difference, weighted by declared patients. Distributed:
    the clipped sum over the expected number of sampled patients, q times those declared.
    """
    if study.privacy.traits.one_sum:
        expected = study.privacy.sampling_rate * study.patients(participants)
        factor = study.privacy.clip_norm / (study.aggregation.scale * expected)
    else:
        factor = -study.patients() / (study.patients(participants) * update_scale(study))
    return np.multiply(total, np.float32(factor), dtype=np.float32, casting="unsafe")


def decode_control(study: Study, total: Integers) -> Vector:
    """(P,) opened integers -> (P,) float32, the step of the server's control variate: weighted over
    the whole roster, since absent sites' variates do not change (Karimireddy et al. 2020,
    Algorithm 1, line 17, with weights by patients)."""
    optimisation = study.optimisation
    steps = optimisation.local_steps * optimisation.local_lr
    factor = np.float32(1 / (update_scale(study) * steps))
    return np.multiply(total, factor, dtype=np.float32, casting="unsafe")


def encode_histogram(study: Study, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(2, bins) counts -> (2 * bins,) integers."""
    return counts.reshape(-1) * study.evaluation.scale


def decode_histogram(study: Study, total: Integers) -> npt.NDArray[np.float64]:
    """(2 * bins,) opened integers -> (2, bins) counts, with noise where the study adds it."""
    return (total.astype(np.float64) / study.evaluation.scale).reshape(2, study.evaluation.bins)


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
    mu = (study.evaluation.noise_multiplier * study.evaluation.scale) ** 2
    return _share(study, study.privacy.traits.evaluation_noise_source, mu, participants)


def _share(study: Study, source: NoiseSource, variance: float, participants: int) -> float:
    honest = participants - study.aggregation.colluding_sites
    return noise_share(source, variance, honest)
