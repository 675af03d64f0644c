"""What one site adds to one sum: integers before noise, and its share of the noise.

How it trains is its algorithm's (`client.training.algorithms`); what that keeps between rounds is
in `AlgorithmState`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
import numpy.typing as npt

from client.cohorts.evaluation_counts import counted
from client.training.algorithm_state import AlgorithmState
from client.training.algorithms import FedAvg, algorithm
from client.training.local_steps import RoundSteps, SiteContext
from protocol.errors import Code, WardroundError
from protocol.privacy.randomness import Stream
from protocol.privacy.skellam import skellam
from protocol.study.study import Study
from protocol.study.vector_layout import (
    Sections,
    encode_histogram,
    encode_update,
    histogram_variance,
    rounding_key,
    update_variance,
)
from protocol.vectors import Vector

_log = logging.getLogger("wardround.site")


@dataclass(frozen=True)
class Contributor:
    """What a site trains with, and what it keeps from round to round."""

    context: SiteContext
    state: AlgorithmState = field(default_factory=AlgorithmState)
    _algorithm: FedAvg = field(init=False, repr=False)

    def __post_init__(self) -> None:
        chosen = algorithm(self.context.study, self.context.learner.model)
        object.__setattr__(self, "_algorithm", chosen)

    @property
    def study(self) -> Study:
        return self.context.study

    def contribution(self, sections: Sections, body: Vector, round_: int) -> npt.NDArray[np.int64]:
        """(sections.length,) integers. The ledger has been debited for them before.

        body: (sections.body,) float32, what the coordinator sent. Raises WardroundError(DIVERGED)
        in mode none; a private mode raises nothing that depends on data.
        """
        weights, own = body[: self.study.model.parameters], self.state.vector
        parts = []
        if sections.train:
            parts += self._update(body[sections.start], own, round_)
        if sections.evaluate:
            counts = self._evaluated(self._algorithm.scored(body[sections.scored], own))
            parts.append(encode_histogram(self.study, counts))
        if not sections.train:
            self._keep_model(weights, own)
        return np.concatenate(parts)

    def noise(self, sections: Sections, participants: int) -> npt.NDArray[np.int64]:
        """This site's share for |U| participants, (sections.length,) integers, fresh each time."""
        share = np.zeros(sections.length, dtype=np.int64)
        for part, variance in (
            (sections.update, update_variance(self.study, participants)),
            (sections.histogram, histogram_variance(self.study, participants)),
        ):
            if variance > 0:
                share[part] = skellam(variance, part.stop - part.start)
        return share

    def _evaluated(self, weights: Vector) -> npt.NDArray[np.int64]:
        """The histogram of all patients of the evaluation part, then that of each level of each
        partition."""
        patients = self.context.patients
        blocks = self.context.learner.scored(weights, patients.evaluation)
        number = len(patients.evaluation)
        return counted(self.study, self.context.site, blocks, number, patients.levels)

    def _update(self, body: Vector, own: Vector | None, round_: int) -> list[npt.NDArray[np.int64]]:
        """The sections of training, and what the site keeps once the attempt counts."""
        study, weights = self.study, body[: self.study.model.parameters]
        steps = RoundSteps(self.context, round_)
        match study.privacy.traits.training:
            case "clipped_sum":
                privacy, aggregation = study.privacy, study.aggregation
                batch = self.context.patients.private_sample(privacy.sampling_rate)
                clipped = self.context.learner.clipped_sum(
                    weights, batch, privacy.clip_norm, aggregation.scale, aggregation.rounding
                )
                parts, kept = [clipped], None
            case "plain_steps" | "dp_sgd":
                trained = self._algorithm.train(body, own, steps.of_study)
                parts = self._encoded(round_, trained.difference, trained.control)
                kept = trained.own
            case never:
                assert_never(never)
        kept = self._beside(weights, own, steps) if kept is None else kept
        if kept is not None:
            self.state.propose(kept)
        return parts

    def _encoded(self, round_: int, *vectors: Vector | None) -> list[npt.NDArray[np.int64]]:
        """What is sent of a round's vectors. How much of them was cut off only the site's own log
        says."""
        study, site = self.study, self.context.site
        key = None if study.privacy.traits.private else rounding_key(study, round_, site)
        draw, parts = Stream(key).words, []
        for vector in vectors:
            if vector is not None:
                integers, outside = encode_update(study, site, vector, round_, draw)
                parts.append(integers)
                if outside:
                    _log.info(
                        "round %d: %d of %d numbers of the update are beyond update_range, cut off",
                        round_,
                        outside,
                        len(integers),
                    )
        return parts

    def _beside(self, weights: Vector, own: Vector | None, steps: RoundSteps) -> Vector | None:
        try:
            return self._algorithm.beside(weights, own, steps.of_site)
        except WardroundError as error:
            if error.code is not Code.DIVERGED or not self.study.privacy.traits.private:
                raise
            # No answer of a private mode may depend on data: here only the site itself hears of it.
            _log.warning("the own model of round %d diverged: begun again", steps.round)
            return weights.copy()

    def _keep_model(self, weights: Vector, own: Vector | None) -> None:
        """At the close, `weights` being the released model: this site's own one, if it has one,
        and what both score on its own patients, for its own eyes."""
        personal = self._algorithm.personal(weights, own)
        if personal is None:
            return
        outcome, bins = self.study.outcome, self.study.evaluation.bins
        figures = {}
        for name, model in (("released", weights), ("own", personal)):
            counts = self._evaluated(model)[: outcome.cells(bins)].astype(np.float64)
            metrics = sorted(outcome.pooled(counts, bins).items())
            figures[name] = {m: of.value for m, of in metrics if np.isfinite(of.value)}
        self.state.keep_model(personal, figures)
