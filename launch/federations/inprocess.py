"""All sites of a federation in this process: the same round loop and site code, no sockets.

For tests, sweeps and notebooks, on data that the user already holds. Therefore the simulated sites
have no ledger and no policy.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from client.cohorts.exact_sums import contributor_of
from client.cohorts.query_counts import QueryContributor
from client.config.known_roster import KnownRoster
from client.daemon.site import Site, StandingState
from client.data.cohort import Cohort
from client.governance.approvals import DryRunAnswer
from client.governance.patient_split import PatientSplit
from client.training.algorithm_state import AlgorithmState
from launch.federations.planned_sites import require_planned
from launch.federations.ring_masks import RingParty
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.study import Evaluation, Study
from protocol.study.vector_layout import Sections
from protocol.vectors import Vector
from protocol.wire.messages import AcceptedBy, Ending, Frame, Ready, Share
from server.outcome import Outcome
from server.rounds import farewell
from server.rounds.listener import Listener
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from server.rounds.transport import Fleet
from tasks import contract
from tasks.base import Task
from tasks.schema import Table


class SimulatedGovernance:
    """Governance of a simulated site: accepts every study, and still refuses replays."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._ended: set[str] = set()
        self.errors: list[WardroundError] = []

    def propose(self, study: Study) -> tuple[StandingState, Code | None]:
        return "accepted", None

    def weigh(self, study: Study, *, note: bool) -> DryRunAnswer:
        return DryRunAnswer("accepted")

    def admit(self, study: Study) -> None:
        if study.digest in self._ended:
            raise WardroundError(Code.REVOKED, "This site has ended its part in the study.")

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        last_round, last_attempt = self._last.get(study.digest, (1, 0))
        if attempt <= last_attempt or round_ < last_round:
            raise WardroundError(Code.REFUSED_REPLAY, "This attempt is not above the last one.")
        self._last[study.digest] = (round_, attempt)

    def last_attempt(self, study: Study) -> int:
        """Nothing outlives this process: no coordinator comes back behind its sites."""
        return 0

    def accepted_by(self, study: Study) -> AcceptedBy:
        """Nobody: simulated sites have no person and no rules."""
        return ""

    def take_part(self, study: Study, round_: int, participants: Collection[str]) -> None:
        pass

    def fix_rows(self, study: Study, rows: str) -> None:
        """Any: the data is this process's own."""

    def end(self, study: Study, why: str) -> None:
        self._ended.add(study.digest)

    def answered(self, answer: Ready | Share, sent: Frame, *, again: bool = False) -> None:
        pass

    def refused(self, study: str | None, error: WardroundError) -> None:
        """Keeps it. The data is this process's own: what code raised on it may be read here."""
        if error.__cause__ is not None:
            error.detail = "".join(traceback.format_exception(error.__cause__))
        self.errors.append(error)

    def witness(self, ready: Ready) -> None:
        return None

    def known(self, digest: str) -> Study | None:
        return None

    def close(self, study: Study, outcome: Ending) -> None:
        return None


class InProcessFleet:
    """A `server.rounds.transport.Fleet` of sites that are called directly, one by one."""

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
    return PatientSplit(f"wardround in process: {site}".encode()).place


def cohorts_of(
    task: Task, tables: Mapping[str, Table], evaluation: Evaluation
) -> dict[str, Cohort]:
    """Site -> cohort, split as that site splits. Raises what `contract.check` and `Cohort.build`
    raise."""
    contract.check(task)
    return {
        site: Cohort.build(task, table, split_of(site), evaluation)
        for site, table in sorted(tables.items())
    }


class Simulation(Protocol):
    """A federation that runs a study here, from its proposal to its outcome."""

    def run(
        self,
        study: Study,
        task: Task,
        listener: Listener,
        *,
        checkpoint: Path | None = None,
        start: Vector | None = None,
    ) -> Outcome:
        """start: (P,) float32 of the released model that the study starts from, if it does."""
        ...


SITES = "sites"
"""Folder beside a checkpoint: the state of the study's algorithm at each site."""


class _CheckpointedState(AlgorithmState):
    """A site's algorithm state beside a checkpoint, which is removed together with it."""

    def close(self, study: bytes, *, finished: bool) -> None:
        pass


class InProcessFederation:
    """Simulated sites with these cohorts; for queries, with these tables."""

    def __init__(
        self, cohorts: Mapping[str, Cohort], tables: Mapping[str, Table] | None = None
    ) -> None:
        tables = tables or {}
        identities = {site: Identity.generate() for site in sorted({*cohorts, *tables})}
        self.roster = {site: key.public_key.hex() for site, key in identities.items()}
        self.governance = {site: SimulatedGovernance() for site in self.roster}
        self.states: dict[tuple[str, str], AlgorithmState] = {}
        """(site, study's digest) -> the state of the study's algorithm there."""
        self._checkpoint: Path | None = None
        self._fleet = InProcessFleet(
            {
                site: Site(
                    site,
                    identities[site],
                    KnownRoster(self.roster),
                    self.governance[site],
                    _cohort_loader(cohorts.get(site)),
                    respondent=_query_contributor(tables.get(site)),
                    keep=partial(self._state, site),
                    allow_unmasked=True,
                    party=RingParty,
                )
                for site in self.roster
            }
        )

    def _state(self, site: str, study: Study) -> AlgorithmState:
        if (site, study.digest) not in self.states:
            state = AlgorithmState()
            if self._checkpoint is not None:
                folder = self._checkpoint.with_name(SITES) / site
                state = _CheckpointedState(folder, study.model.parameters)
            self.states[site, study.digest] = state
        return self.states[site, study.digest]

    def run(
        self,
        study: Study,
        task: Task,
        listener: Listener,
        *,
        checkpoint: Path | None = None,
        start: Vector | None = None,
    ) -> Outcome:
        """Raises what `RoundLoop.run` raises, or a site's own error where that says more."""
        self._checkpoint = checkpoint
        try:
            return run_rounds(study, task, self._fleet, self.roster, listener, checkpoint, start)
        except WardroundError as error:
            if error.code in (Code.TOO_FEW_SITES, Code.AGGREGATION):
                for site in self.governance.values():
                    if site.errors:
                        raise site.errors[0] from None
            raise


def run_rounds(
    study: Study,
    task: Task,
    fleet: Fleet,
    roster: Mapping[str, str],
    listener: Listener,
    checkpoint: Path | None,
    start: Vector | None,
) -> Outcome:
    """Runs a study on simulated sites, which are all there or never will be. roster: site -> public
    identity key in hex. Raises what `RoundLoop.run` and `require_planned` raise."""
    require_planned(study.sites, roster)
    patience = Patience(join=0.0, poll=0.0, comeback=0.0, failures=3)
    rounds = RoundLoop(
        study,
        task,
        fleet,
        roster,
        listener,
        checkpoint=checkpoint,
        patience=patience,
        start=start,
    )
    ending: Ending = "failed"
    try:
        outcome = rounds.run()
        ending = "finished"
        return outcome
    except KeyboardInterrupt:
        ending = "cancelled"
        raise
    finally:
        farewell.send(study, fleet, frozenset(study.sites), ending)


def _cohort_loader(cohort: Cohort | None) -> Callable[[Task, Study], Cohort]:
    def load(task: Task, study: Study) -> Cohort:
        if cohort is None:
            raise WardroundError(Code.NO_DATA, "This simulated site has tables for queries only.")
        return cohort

    return load


def _query_contributor(table: Table | None) -> Callable[[Task, Study], QueryContributor] | None:
    if table is None:
        return None
    return lambda task, study: contributor_of(study, task, table)
