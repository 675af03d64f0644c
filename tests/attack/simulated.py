"""The same site code called directly, where a process would add nothing: three to six hospitals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.config.known_roster import KnownRoster
from client.daemon.site import Site
from client.data.cohort import Cohort
from launch.config.compose import load
from launch.federations.inprocess import SimulatedGovernance, cohorts_of
from launch.studies.run import split_plan
from launch.studies.study_builder import build_study
from protocol.document import digest
from protocol.identity import Identity
from protocol.secagg.aggregate import GUARDS, ShareSum
from protocol.secagg.context import roster_digest
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire import messages
from protocol.wire.messages import Frame, Ready, Standing
from tasks import registry
from tasks.base import Task
from tests.narrowing import instance

TASK = "breast_cancer"


class Paying(SimulatedGovernance):
    """Remembers what was debited."""

    def __init__(self) -> None:
        super().__init__()
        self.debits: list[int] = []

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        super().debit(study, round_, attempt, sections)
        self.debits.append(attempt)


def cohorts(count: int) -> dict[str, Cohort]:
    """So many sites with the first public site's patients each."""
    task = registry.load(TASK)
    rows = next(iter(task.public_sites(None).values()))
    config = load([f"task={TASK}", "federation=inprocess"])
    return cohorts_of(task, {f"site{k}": rows for k in range(count)}, split_plan(config))


def study_of(sites: Iterable[str], *overrides: str) -> Study:
    config = load(
        [f"task={TASK}", "federation=inprocess", "federation.masked=true", "tracking=off",
         "privacy.delta=1e-3", *overrides]
    )  # fmt: skip
    return build_study(config, registry.load(TASK), dict.fromkeys(sites, 100))


def lending(cohort: Cohort) -> Callable[[Task, Study], Cohort]:
    return lambda task, study: cohort


@dataclass(frozen=True)
class Federation:
    """Sites, their keys, and what they were charged."""

    sites: dict[str, Site]
    identities: dict[str, Identity]
    governance: dict[str, Paying]

    @staticmethod
    def of(patients: Mapping[str, Cohort], **rosters: Mapping[str, str]) -> Federation:
        """`rosters`: what a site believes instead of what is true."""
        identities = {site: Identity.generate() for site in patients}
        true = {site: key.public_key.hex() for site, key in identities.items()}
        governance = {site: Paying() for site in patients}
        sites = {
            site: Site(
                site,
                identities[site],
                KnownRoster(true | dict(rosters.get(site, {}))),
                governance[site],
                lending(cohort),
            )
            for site, cohort in patients.items()
        }
        return Federation(sites, identities, governance)

    @property
    def roster(self) -> dict[str, str]:
        return {site: key.public_key.hex() for site, key in self.identities.items()}

    def propose(self, study: Study, **roster: str) -> dict[str, Standing]:
        """With the coordinator's roster, changed as told."""
        keys = self.roster | roster
        frame = messages.frame(
            messages.Propose(
                document=study.document.decode(),
                roster=roster_digest((site, keys[site]) for site in study.sites if site in keys),
            )
        )
        return {
            name: instance(Standing, messages.parse(site.answer(frame)))
            for name, site in self.sites.items()
        }

    def prepare(
        self, study: Study, attempt: int = 1, *, round_: int = 1, train: bool = True,
        evaluate: bool = False, weights: npt.NDArray[np.float32] | None = None,
        among: tuple[str, ...] | None = None,
    ) -> dict[str, Frame]:  # fmt: skip
        sent = Sections(study, train=train, evaluate=evaluate).body
        weights = np.zeros(1, np.float32) if weights is None else weights
        model = np.resize(weights, sent)  # twice where the average is scored
        prepare = messages.Prepare(
            study=study.digest, round=round_, attempt=attempt, train=train, evaluate=evaluate,
            model=digest(model.tobytes()),
        )  # fmt: skip
        frame = messages.frame(prepare, [model.tobytes()])
        return {name: self.sites[name].answer(frame) for name in among or tuple(self.sites)}

    def collect(
        self, study: Study, readys: Mapping[str, Frame], attempt: int = 1, round_: int = 1
    ) -> dict[str, Frame]:
        listed = []
        for frame in readys.values():
            ready = messages.parse(frame)
            assert isinstance(ready, Ready), ready
            listed.append(ready)
        collect = messages.Collect(
            study=study.digest, round=round_, attempt=attempt, readys=tuple(listed)
        )
        frame = messages.frame(collect)
        return {name: self.sites[name].answer(frame) for name in readys}

    def open(self, study: Study, shares: Mapping[str, Frame]) -> npt.NDArray[np.int64]:
        bits = study.aggregation.word_bits
        length = sum(len(bytes(c)) for c in next(iter(shares.values())).body) * 8 // bits - GUARDS
        opening = ShareSum(sorted(shares), length, bits)
        for site, frame in shares.items():
            opening.fold(site, frame.body)
        return opening.open().astype(np.int64)


def changed(study: Study, section: str, **values: object) -> Study:
    """The study with other values in one section."""
    document = study.model_dump()
    document[section] |= values
    return Study.model_validate(document)
