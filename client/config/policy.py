"""The hospital's policy, and the check of a study against it. What it does not allow is refused.

It is read from site.yaml when the daemon starts. Nothing in a study can loosen it: `check` only
compares, and the ledger (client/governance/ledger.py) enforces the caps on epsilon.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, time
from typing import Annotated, Literal, Self, assert_never
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field
from pydantic import model_validator as validator

from client.config.hours import Hours
from client.config.known_permits import KnownPermit
from client.config.known_permits import objection as permit_objection
from client.config.prediction_rules import Predict
from protocol.document import Document, canonical, digest
from protocol.errors import Code, WardroundError
from protocol.study.condition import ColumnName
from protocol.study.privacy_mode import QUERY_MODE, Mode, traits_of
from protocol.study.query import StatisticKind
from protocol.study.study import Name, Study
from protocol.study.subgroups import Bands, Categories, Hospitals
from protocol.yaml.documents import contradiction
from protocol.yaml.values import Number, Size, YamlList

Epsilon = Annotated[Number, Field(gt=0, le=1e4)]


def utc_today() -> str:
    """This machine's day, UTC."""
    return datetime.now(UTC).date().isoformat()


class Policy(Document):
    """The rules of one site. Lists name what is allowed; an empty list allows nothing."""

    tasks: YamlList[Name] = Field(
        default=(), description="a list of task names, such as [heart_disease]"
    )
    task_options: YamlList[str] = Field(
        default=(), description="a list of the task options that a study may set"
    )
    queries: YamlList[StatisticKind] = Field(
        default=(),
        description="a list of statistics that queries may ask for: count, histogram, table, mean",
    )
    purposes: YamlList[Name] = Field(
        default=(), description="a list of purposes, such as [research]"
    )
    modes: YamlList[Mode] = Field(
        default=(), description="a list of privacy modes: none, local, distributed"
    )
    approval: Literal["hand", "rule"] = Field(
        default="hand",
        description="hand (a person approves each study) or rule (these rules suffice)",
    )
    least_patients: Annotated[
        int,
        Field(ge=1, description="a whole number of patients, 1 or more; below it nothing is said"),
    ] = 20
    least_sites: Annotated[
        int, Field(ge=1, description="the least number of sites in a sum, 3 or more")
    ] = 3
    colluding_sites: int = Field(
        default=1, ge=0, description="how many colluding sites a study must tolerate at least"
    )
    participant_sets: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="a whole number: the most different sets of sites in the sums of a round",
        ),
    ] = 8
    least_noise_multiplier: Annotated[
        Number,
        Field(gt=0, le=1e6, description="the floor on every noise multiplier, a number above 0"),
    ] = 0.3
    delta: Annotated[Number, Field(gt=0, le=0.01)] = Field(
        default=1e-5, description="a probability above 0 and at most 0.01, well below 1 / patients"
    )
    epsilon_per_study: Epsilon | None = Field(
        default=None, description="a number above 0: the most epsilon that one study may spend"
    )
    epsilon_lifetime: Epsilon | None = Field(
        default=None, description="a number above 0: the most epsilon over all studies, for ever"
    )
    epsilon_broken: Epsilon | None = Field(
        default=None,
        description="a number above 0: the most epsilon of a study if secure aggregation broke",
    )
    unmasked: bool = Field(
        default=False,
        description="true or false: whether a study may do without secure aggregation",
    )
    exact_evaluation: bool = Field(
        default=False, description="true or false: whether evaluation may be released without noise"
    )
    exact_releases: Annotated[
        int,
        Field(
            ge=0,
            le=10**6,
            description="a whole number: the most sums without noise over all studies, for ever",
        ),
    ] = 0
    public_data: YamlList[Name] = Field(
        default=(),
        description="a list of tasks whose data are public or synthetic: about no patient of yours",
    )
    subgroups: YamlList[ColumnName] = Field(
        default=(),
        description="a list of columns by which a study may tell patients apart when it evaluates, "
        "such as [sex, age]: none that tells hospitals apart",
    )
    attributes: dict[ColumnName, str] = Field(
        default={},
        description="a mapping of what this hospital affirms of itself, such as {vendor: acme}, by "
        "which a study may tell hospitals apart",
    )
    permit_required: bool = Field(
        default=False,
        description="true or false: whether a study needs one of `permits`, signed by a person "
        "whom it names",
    )
    permits: YamlList[KnownPermit] = Field(
        default=(),
        description="a list of permits or ethics votes {identifier, expires, persons, tasks}",
    )
    hours: YamlList[Hours] = Field(
        default=(), description='a list of windows {days: [sat, sun], from: "19:00", to: "06:00"}'
    )
    time_zone: str | None = Field(
        default=None, description="a name such as Europe/Rome; left out: this machine's"
    )
    predict: Predict = Field(
        default=Predict(), description="which released models may score patients here"
    )
    threads: Annotated[
        int, Field(ge=1, le=1024, description="a whole number of CPU threads, 1 or more")
    ] = 2
    studies_at_once: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="a whole number: the most studies that compute at once, and share threads "
            "and memory",
        ),
    ] = 4
    memory: Annotated[
        Size,
        Field(ge=2**28, description="a number with its unit, 256 MiB or more, such as 4 GiB"),
    ] = 4 * 2**30
    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
            description="cpu, cuda or cuda:N (an NVIDIA GPU, refused where it is not there), or "
            "auto: a GPU for the tasks that pass the self-check on it, the processor for others",
        ),
    ] = "cpu"
    device_memory: Annotated[Size, Field(ge=2**28)] | None = Field(
        default=None,
        description="a number with its unit: what this daemon may take of the GPU's memory; left "
        "out: all",
    )

    @validator(mode="after")
    def _consistent(self) -> Self:
        for problem, remedy in self._contradictions():
            raise contradiction(problem, remedy)
        return self

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        private = [mode for mode in self.modes if traits_of(mode).private]
        sharing = [mode for mode in self.modes if traits_of(mode).shares_noise]
        per_study, lifetime = self.epsilon_per_study, self.epsilon_lifetime
        broken = self.epsilon_broken
        if self.colluding_sites >= self.least_sites:
            yield "colluding_sites is not below least_sites", "Lower it or raise least_sites"
        if not self.unmasked and (self.least_sites < 3 or self.colluding_sites < 1):
            yield (
                "secure aggregation needs least_sites of 3 and colluding_sites of 1 or more",
                "Raise them, or set unmasked: true and do without it",
            )
        if private and (per_study is None or lifetime is None):
            yield (
                f"mode {private[0]} is allowed without caps on epsilon",
                "Set epsilon_per_study and epsilon_lifetime",
            )
        if self.permit_required and not self.permits:
            yield "a permit is required, and none is entered", "Enter one under permits"
        if len({one.identifier for one in self.permits}) < len(self.permits):
            yield "permits has an identifier twice", "Make one entry of both"
        if self.queries and QUERY_MODE not in self.modes:
            yield (
                f"queries are allowed, but mode {QUERY_MODE}, in which they are answered, is not",
                f"Add {QUERY_MODE} to modes, or empty queries",
            )
        if sharing and broken is None:
            yield f"mode {sharing[0]} is allowed without a cap on epsilon_broken", "Set it"
        if per_study is not None and lifetime is not None and per_study > lifetime:
            yield "epsilon_per_study exceeds epsilon_lifetime", "Lower the one or raise the other"
        if per_study is not None and broken is not None and broken < per_study:
            yield "epsilon_broken is below epsilon_per_study", "Raise it or lower the other"
        for index, hours in enumerate(self.hours):
            if hours.start == hours.end and hours.start != time(0):
                yield f"hours.{index} begins and ends at the same time", 'Use "00:00" to "24:00"'
        try:
            self.local(datetime.now().astimezone())
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield "time_zone is not known here", "Use a name such as Europe/Rome, or leave it out"

    @property
    def digest(self) -> str:
        """Identifies the rules for studies: one accepted under others is checked before it
        continues."""
        return digest(canonical(self.model_dump(mode="json", exclude={"predict"})))

    def local(self, now: datetime) -> datetime:
        """Returns the site's local time."""
        return now.astimezone(ZoneInfo(self.time_zone) if self.time_zone else None)

    def at_work(self, now: datetime) -> bool:
        """Returns whether work is allowed now; without `hours`, always."""
        return not self.hours or any(window.contains(self.local(now)) for window in self.hours)

    def check_hours(self, now: datetime) -> None:
        """Raises WardroundError(OUTSIDE_HOURS) outside the hours of work."""
        if not self.at_work(now):
            raise WardroundError(
                Code.OUTSIDE_HOURS,
                "policy.hours does not allow work at this time of day.",
                remedy="The coordinator asks again later; to allow it, change policy.hours.",
            )

    def check_permit(self, study: Study, today: str) -> None:
        """Raises WardroundError(REFUSED_POLICY) where a permit is required and none that is entered
        here covers the study on the day `today` (UTC, 2027-03-31), signed by a person it names. A
        study that states a permit of its own accord is held to it as well."""
        if not self.permit_required and study.permit is None:
            return
        if not self.permit_required and not self.permits:
            return
        if why := permit_objection(self.permits, study, today):
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"policy.permits {why}.",
                remedy="The permit that this hospital has on paper counts: enter it under "
                "policy.permits in site.yaml, and restart the daemon.",
                rule="permits",
            )

    def check(
        self, study: Study, *, site: str, roster: Collection[str], today: str | None = None
    ) -> None:
        """Compares a study with every rule that needs neither data nor ledger.

        roster: the sites whose identity keys this site has. today: UTC, 2027-03-31; None: by this
        machine's clock. Raises WardroundError: REFUSED_POLICY
        naming the first rule that forbids the study, REFUSED_STUDY where its roster lacks this site
        or names a stranger.
        """
        if site not in study.sites:
            raise WardroundError(
                Code.REFUSED_STUDY,
                "This site is not on the study's roster.",
                remedy="The data scientist must name it, or leave it alone.",
            )
        strangers = sorted(set(study.sites) - set(roster))
        if strangers:
            raise WardroundError(
                Code.REFUSED_STUDY,
                f"The study's roster names {strangers[0]}, whose identity key is not known here.",
                remedy="Add it to `roster` in site.yaml once its fingerprint has been compared.",
            )
        self.check_permit(study, today or utc_today())
        for rule, objection in self._objections(study, site):
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"policy.{rule} {objection}.",
                remedy=f"To allow it, change policy.{rule} in site.yaml and restart the daemon.",
                rule=rule,
            )

    def objections(self, study: Study, site: str, today: str | None = None) -> tuple[str, ...]:
        """Returns the keys of all rules that forbid the study; today as in `check`."""
        rules = [rule for rule, _ in self._objections(study, site)]
        try:
            self.check_permit(study, today or utc_today())
        except WardroundError as error:
            rules.append(error.rule)
        return tuple(dict.fromkeys(rules))

    def _objections(self, study: Study, site: str) -> Iterator[tuple[str, str]]:
        privacy, aggregation, evaluation = study.privacy, study.aggregation, study.evaluation
        if study.task.name not in self.tasks:
            yield "tasks", f"does not allow the task {study.task.name}"
        for option in study.task.options:
            if option not in self.task_options:
                yield "task_options", "does not allow a task option that the study sets"
        for statistic in study.query.asks if study.query is not None else ():
            if statistic not in self.queries:
                yield "queries", f"does not allow a query for a {statistic}"
        if study.query is not None and (scored := study.query.scored) is not None:
            rules = self.predict.models.get(scored.model)
            if rules is None or not rules.watch:
                yield "predict", "does not let the predictions of that model be counted (watch)"
        if study.purpose not in self.purposes:
            yield "purposes", f"does not allow the purpose {study.purpose}"
        if privacy.mode not in self.modes:
            yield "modes", f"does not allow the privacy mode {privacy.mode}"
        if study.patients(frozenset({site})) < self.least_patients:
            yield "least_patients", "is above what the study declares for this site"
        if not aggregation.masked and not self.unmasked:
            yield "unmasked", "does not allow a study without secure aggregation"
        if aggregation.least_sites < self.least_sites:
            yield "least_sites", f"asks for more than {aggregation.least_sites} sites in a sum"
        if aggregation.colluding_sites < self.colluding_sites:
            yield "colluding_sites", f"asks for more than {aggregation.colluding_sites}"
        if evaluation.exact and not self.exact_evaluation:
            yield "exact_evaluation", "does not allow evaluation without noise"
        for partition in evaluation.subgroups:
            match partition:
                case Categories() | Bands():
                    if partition.column not in self.subgroups:
                        yield "subgroups", f"does not allow subgroups by {partition.column}"
                case Hospitals():
                    known = self.attributes.get(partition.attribute)
                    if known != partition.levels[partition.level_of(site)]:
                        yield "attributes", f"does not affirm the study's {partition.attribute}"
                case never:
                    assert_never(never)
        floor = self.least_noise_multiplier
        if privacy.traits.private and privacy.noise_multiplier < floor:
            yield "least_noise_multiplier", "is above the study's noise_multiplier"
        if evaluation.noised and evaluation.noise_multiplier < floor:
            yield "least_noise_multiplier", "is above the evaluation's noise_multiplier"
        if privacy.epsilon is not None and privacy.delta > self.delta:
            yield "delta", "is below the delta at which the study states its epsilon"

    def check_patients(self, patients: int) -> None:
        """Raises WardroundError(TOO_FEW_PATIENTS) below `least_patients`, without a number."""
        if patients < self.least_patients:
            raise WardroundError(
                Code.TOO_FEW_PATIENTS,
                "This site's cohort has fewer patients than policy.least_patients.",
                remedy="Check the task's view; the rule is the site's own.",
            )
