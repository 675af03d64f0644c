"""What all studies of a sweep cost a patient together: whoever picks the best has looked at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.privacy.epsilon_text import rounded_up

if TYPE_CHECKING:
    from protocol.privacy.events import Event
    from protocol.study.study import Study


@dataclass(frozen=True)
class Composition:
    """epsilon: at delta, of all that the studies release with noise, every attempt used; None where
    nothing is noised. exact: how many train without privacy, under no epsilon."""

    studies: int
    epsilon: float | None
    delta: float
    exact: int

    @staticmethod
    def of(studies: Iterable[Study]) -> Composition:
        """The studies' whole plans, at the largest delta of any. Raises as `planned_events`."""
        from protocol.privacy.accounting import epsilon_over_bands
        from protocol.privacy.releases import planned_events

        events: list[Event] = []
        number, delta, exact = 0, 0.0, 0
        for study in studies:
            number += 1
            exact += not study.privacy.traits.private
            if study.privacy.epsilon is not None:
                events += planned_events(study)
                delta = max(delta, study.privacy.delta)
        spent = epsilon_over_bands(events, delta) if events else None
        return Composition(number, spent, delta, exact)

    @property
    def without_privacy(self) -> str:
        """How many studies no epsilon is about, in words; empty where it is about all."""
        if not self.exact:
            return ""
        return f"{self.exact} of them train without privacy: no epsilon bounds what that tells."

    @property
    def text(self) -> str:
        """For whoever picks one of the studies by its results."""
        parts = []
        if self.epsilon is not None:
            parts.append(
                f"The {self.studies} studies together: epsilon at most {rounded_up(self.epsilon)} "
                f"at delta {self.delta:g}; a model chosen among them has that, not its own study's."
            )
        return " ".join([*parts, self.without_privacy]).strip()
