"""What a study's own code releases of some patients, one attempt at a time.

The one place where the audit meets training: `Contributor` is what a site answers with, from the
sample to the noise. Nothing is computed here in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from client.data.cohort import Cohort
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.local_steps import SiteContext
from client.training.per_patient_gradients import drawn_features
from client.training.sampling import Patients
from protocol.errors import Code, WardroundError
from protocol.privacy.events import Event
from protocol.privacy.releases import evaluation_event, max_evaluations, training_event
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.vectors import Vector
from tasks.base import Task

Floats = npt.NDArray[np.float64]
ROUND = 1
"""Of every attempt."""
Part = Literal["training", "evaluation"]
"""What an attempt releases: a step of training, or a histogram of scores."""


@dataclass(frozen=True)
class AuditedStudy:
    """A study whose first site is audited: the others have no patients, and add their noise."""

    study: Study
    task: Task
    learner: DPTrainer

    @staticmethod
    def of(study: Study, task: Task) -> AuditedStudy:
        """update_bits, which only blur what is noised already, are left out: without them more can
        be told. So are subgroups: each is one more histogram with noise of the same kind."""
        audited = AuditedStudy(study, task, DPTrainer(task, study.optimisation.seed))
        without = {"subgroups": ()}
        return audited.changed(aggregation={"update_bits": None}, evaluation=without)

    @cached_property
    def twin(self) -> AuditedStudy:
        """The same sums without chance: everybody is sampled, and no noise is in a contribution."""
        return self.changed(
            privacy={"mode": "distributed", "sampling_rate": 1.0},
            optimisation={"local_steps": 1, "local": {"name": "fedavg"}},
        )

    @cached_property
    def stepwise(self) -> AuditedStudy:
        """The study with one step of training an attempt: the release whose noise is known."""
        return self.changed(optimisation={"local_steps": 1})

    def changed(self, **sections: dict[str, Any]) -> AuditedStudy:
        document = self.study.model_dump()
        for section, values in sections.items():
            document[section] |= values
        return AuditedStudy(Study.model_validate(document), self.task, self.learner)

    def claims(self, part: Part) -> bool:
        """Whether an epsilon covers it."""
        return self._event(part)[0] is not None

    def spent(self, part: Part) -> Event:
        """All attempts that the study's epsilon pays for, as accounting sees them.

        Raises WardroundError(INTERNAL) for a part that no epsilon covers.
        """
        event, attempts = self._event(part)
        if event is None:
            raise WardroundError(Code.INTERNAL, f"No epsilon covers the {part} of this study.")
        return replace(event, count=event.count * attempts)

    def _event(self, part: Part) -> tuple[Event | None, int]:
        match part:
            case "training":
                return training_event(self.study), self.study.aggregation.attempts
            case "evaluation":
                return evaluation_event(self.study), max_evaluations(self.study)
        assert_never(part)

    def site(self, patients: Cohort, part: Part) -> AuditedSite:
        """The audited site with these patients."""
        study, name = self.study, self.study.sites[0]
        held = Patients.of(self.task, patients)
        drawn = drawn_features(tuple(patients.features.shape[1:]))
        self.learner.try_out(drawn, in_floats=study.sums_in_floats)
        contributor = Contributor(SiteContext(study, name, held, self.learner))
        return AuditedSite(contributor, Sections(study, part == "training", part == "evaluation"))


@dataclass(frozen=True)
class AuditedSite:
    """A site, and the section of the vector that it is asked for."""

    contributor: Contributor
    sections: Sections

    def contribution(self, weights: Vector) -> Floats:
        """(sections.length,) integers of one attempt on (P,) weights, before the shares of noise;
        of a mode whose noise is added at the site, with it."""
        body = np.zeros(self.sections.body, np.float32)
        body[: len(weights)] = weights
        return self.contributor.contribution(self.sections, body, ROUND).astype(np.float64)

    def release(self, weights: Vector) -> Floats:
        """The same with the noise that protects it: of all honest sites where they share it (those
        that collude may tell theirs), of this site alone otherwise."""
        study = self.contributor.study
        sites, colluding = len(study.roster), study.aggregation.colluding_sites
        shares = sites - colluding if study.privacy.traits.shares_noise else 1
        total = self.contribution(weights)
        for _ in range(shares):
            total += self.contributor.noise(self.sections, sites)
        return total


def cohort_of(features: npt.NDArray[Any], labels: npt.NDArray[Any], part: Part) -> Cohort:
    """(n, ...) features and (n,) labels -> as many patients of one record, all in one part."""
    count = len(labels)
    training = np.full(count, part == "training")
    return Cohort(
        np.array(features),
        np.array(labels, dtype=np.float32),
        np.arange(count, dtype=np.int64),
        np.arange(2 * count, dtype=np.uint64).reshape(count, 2),
        np.zeros(count),
        training,
        training.copy(),
        ~training,
    )
