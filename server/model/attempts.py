"""The attempts that a study has made: what its epsilon is computed from.

An attempt counts from before any site is asked, whatever becomes of it: a site that answered has
spent, and nobody learns which did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from protocol.privacy.releases import spent_epsilon
from protocol.study.study import Study
from protocol.study.vector_layout import Sections


@dataclass(frozen=True)
class Attempts:
    """made: all of them, the number of the latest. trainings, evaluations: those that trained and
    that evaluated. lost: numbers of those that gave no sum, which are among all of these."""

    made: int = 0
    trainings: int = 0
    evaluations: int = 0
    lost: tuple[int, ...] = ()

    def begin(self, sections: Sections) -> Attempts:
        """With one more, which asks for these sections."""
        return replace(
            self,
            made=self.made + 1,
            trainings=self.trainings + sections.train,
            evaluations=self.evaluations + sections.evaluate,
        )

    def lose(self) -> Attempts:
        """With the latest one lost; it stays counted."""
        return replace(self, lost=(*self.lost, self.made))

    def epsilon(self, study: Study, *, broken: bool = False) -> float | None:
        """What they have spent, at most; None without noise. broken: if secure aggregation did not
        hold."""
        return spent_epsilon(study, self.trainings, self.evaluations, broken=broken)

    def epsilon_so_far(self, study: Study) -> float | None:
        """The same for the next tenth of the study, so that composing distributions does not cost
        more than the rounds themselves."""
        rounds, used = study.optimisation.rounds, self.trainings
        tenth = max(1, rounds // 10)
        reached = min(math.ceil(used / tenth) * tenth, max(used, rounds))
        return spent_epsilon(study, reached, self.evaluations)
