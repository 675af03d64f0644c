"""All sites of a federation in this process: the same round loop and site code, no sockets.

For tests, sweeps and notebooks, on data that the person at this keyboard holds anyway. That is why
these sites keep no ledger: what a hospital's own daemon would refuse is for its own daemon to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from client.cohorts.query_counts import QueryContributor
from client.daemon.site import Site, StandingState
from client.data.cohort import Cohort
from client.governance.approvals import DryRunAnswer
from client.governance.patient_split import Split
from client.training.algorithm_state import AlgorithmState
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.study import Evaluation, Study
from protocol.study.vector_layout import Sections
from protocol.wire.messages import Frame, Ready, Share
from server.outcome import Outcome
from server.rounds.listener import Listener
from server.rounds.proposal import Patience
from server.rounds.round_loop import Rounds
from tasks.base import Task
from tasks.schema import Table


class Simulated:
    """Governance of a simulated site: agrees to everything, and still refuses replays."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self.errors: list[WardroundError] = []

    def propose(self, study: Study) -> tuple[StandingState, Code | None]:
        return "accepted", None

    def weigh(self, study: Study, *, note: bool) -> DryRunAnswer:
        return DryRunAnswer("accepted")

    def admit(self, study: Study) -> None:
        return None

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        last_round, last_attempt = self._last.get(study.digest, (1, 0))
        if attempt <= last_attempt or round_ < last_round:
            raise WardroundError(Code.REFUSED_REPLAY, "This attempt is not above the last one.")
        self._last[study.digest] = (round_, attempt)

    def answered(self, answer: Ready | Share, sent: Frame) -> None:
        return None

    def refused(self, study: str | None, error: WardroundError) -> None:
        self.errors.append(error)

    def witness(self, ready: Ready) -> None:
        return None

    def close(self, study: Study, outcome: str) -> None:
        return None


class InProcessFleet:
    """Sites that are called directly, one after the other."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self._sites = dict(sites)

    def online(self) -> frozenset[str]:
        return frozenset(self._sites)

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        for site, frame in frames.items():
            yield site, self._sites[site].answer(frame)


def split_of(site: str) -> Callable[[str], float]:
    """A simulated site's split of patients: deterministic, unlike a hospital's secret one."""
    return Split(f"wardround in process: {site}".encode()).place


def cohorts_of(
    task: Task, tables: Mapping[str, Table], evaluation: Evaluation
) -> dict[str, Cohort]:
    """Site -> cohort, split as that site splits. Raises what `Cohort.build` raises."""
    return {
        site: Cohort.build(task, table, split_of(site), evaluation)
        for site, table in sorted(tables.items())
    }


class Simulation(Protocol):
    """A federation that runs a study here, from its proposal to its outcome."""

    def run(
        self, study: Study, task: Task, listener: Listener, *, checkpoint: Path | None = None
    ) -> Outcome: ...


SITES = "sites"
"""Folder beside a checkpoint: what its study's algorithm keeps at each site, to go on from."""


class _Beside(AlgorithmState):
    """Kept beside a checkpoint, and left there or removed together with it."""

    def close(self, study: bytes, *, finished: bool) -> None:
        pass


class InProcessFederation:
    """Simulated sites with these cohorts; for queries, with these tables."""

    def __init__(
        self, cohorts: Mapping[str, Cohort], tables: Mapping[str, Table] | None = None
    ) -> None:
        asked = tables or {}
        identities = {site: Identity.generate() for site in sorted({*cohorts, *asked})}
        self.roster = {site: key.public_key.hex() for site, key in identities.items()}
        self.governance = {site: Simulated() for site in self.roster}
        self.kept: dict[tuple[str, str], AlgorithmState] = {}
        """(site, study's digest) -> what the study's algorithm keeps there."""
        self._checkpoint: Path | None = None
        self._fleet = InProcessFleet(
            {
                site: Site(
                    site,
                    identities[site],
                    self.roster,
                    self.governance[site],
                    _given(cohorts.get(site)),
                    respondent=_asked(asked.get(site)),
                    keep=self._keeping(site),
                    allow_unmasked=True,
                )
                for site in self.roster
            }
        )

    def _keeping(self, site: str) -> Callable[[Study], AlgorithmState]:
        def keep(study: Study) -> AlgorithmState:
            if (site, study.digest) not in self.kept:
                made = AlgorithmState()
                if self._checkpoint is not None:
                    folder = self._checkpoint.with_name(SITES) / site
                    made = _Beside(folder, study.model.parameters)
                self.kept[site, study.digest] = made
            return self.kept[site, study.digest]

        return keep

    def run(
        self, study: Study, task: Task, listener: Listener, *, checkpoint: Path | None = None
    ) -> Outcome:
        """Raises what `Rounds.run` raises, or a site's own error where that says more."""
        self._checkpoint = checkpoint
        patience = Patience(join=0.0, look=0.0, failures=3)
        rounds = Rounds(
            study,
            task,
            self._fleet,
            self.roster,
            listener,
            checkpoint=checkpoint,
            patience=patience,
        )
        try:
            return rounds.run()
        except WardroundError as error:
            if error.code in (Code.TOO_FEW_SITES, Code.AGGREGATION):
                for site in self.governance.values():
                    if site.errors:
                        raise site.errors[0] from None
            raise


def _given(cohort: Cohort | None) -> Callable[[Task, Study], Cohort]:
    def load(task: Task, study: Study) -> Cohort:
        if cohort is None:
            raise WardroundError(Code.NO_DATA, "This simulated site has tables for queries only.")
        return cohort

    return load


def _asked(table: Table | None) -> Callable[[Task, Study], QueryContributor] | None:
    return (
        None
        if table is None
        else lambda task, study: QueryContributor.of(study, task.schema, table)
    )
