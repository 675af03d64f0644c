"""A study's life: the one set of states that coordinator and hospitals speak of.

`docs/study_states.md` draws it. A study rests when it is paused, has failed or has expired: it may
go on from where it stood. Only the end (finished) and the owner (cancelled) are for good.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never


class StudyState(StrEnum):
    """Where a study stands, at the coordinator as a whole and at each hospital for itself.

    At a hospital, one that it refused, rejected or revoked is no more than proposed.
    """

    PROPOSED = "proposed"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    EXPIRED = "expired"
    FINISHED = "finished"
    CANCELLED = "cancelled"

    @property
    def following(self) -> frozenset[StudyState]:
        """The states that may come next."""
        match self:
            case StudyState.PROPOSED:
                return _ALL - {StudyState.PROPOSED, StudyState.EXPIRED}
            case StudyState.WAITING:
                return _ALL - {StudyState.WAITING, StudyState.EXPIRED}
            case StudyState.RUNNING:
                return _ALL - {StudyState.RUNNING}
            case StudyState.PAUSED | StudyState.FAILED | StudyState.EXPIRED:
                return _ALL - {self, StudyState.WAITING}
            case StudyState.FINISHED | StudyState.CANCELLED:
                return frozenset()
        assert_never(self)

    def become(self, state: StudyState) -> StudyState:
        """The next state. Raises ValueError for one that cannot come after this one."""
        if state not in self.following:
            raise ValueError(f"a study that is {self} cannot become {state}")
        return state

    @property
    def over(self) -> bool:
        """Whether the study has ended for good."""
        return not self.following

    @property
    def rests(self) -> bool:
        """Whether nobody works on the study, and it may be resumed."""
        match self:
            case StudyState.PAUSED | StudyState.FAILED | StudyState.EXPIRED:
                return True
            case (
                StudyState.PROPOSED
                | StudyState.WAITING
                | StudyState.RUNNING
                | StudyState.FINISHED
                | StudyState.CANCELLED
            ):
                return False
        assert_never(self)

    @property
    def works(self) -> bool:
        """Whether the coordinator works on the study."""
        return not self.over and not self.rests


_ALL = frozenset(StudyState)
