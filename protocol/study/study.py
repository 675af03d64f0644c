"""The study: one immutable document that states everything which shapes a release.

The SHA-256 of its bytes is its identity: every message carries it, ledger and audit log are keyed
by it. All that shapes a hospital's release (sampling rate, steps, denominators, ranges) is a public
constant here, never derived from a cohort (see Opacus issues 571 and 819).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal, Self, assert_never, get_args

from pydantic import Field, StringConstraints, ValidationError
from pydantic import model_validator as validator

from protocol.document import (
    ANNOTATIONS,
    Document,
    added_field,
    canonical,
    digest,
    first_fault,
    read_canonical,
)
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import Binary
from protocol.outcomes.kinds import OutcomeKind
from protocol.release import Sender, cannot_work_together, unknown_field
from protocol.study.algorithms import (
    Constant,
    FedAvgOptions,
    LocalAlgorithm,
    LocalOptimiser,
    RobustRule,
    Schedule,
    Sgd,
    StopMetric,
    StopRule,
    check_local,
    check_local_optimiser,
    check_robust,
    check_stop,
)
from protocol.study.analysis import Analysis
from protocol.study.analysis import check as check_analysis
from protocol.study.exact_analysis import EXACT_TITLE, AnyExact, check_exact
from protocol.study.gates import Gates
from protocol.study.permit import Permit
from protocol.study.privacy_mode import QUERY_MODE, Mode, ModeTraits, is_shared, traits_of
from protocol.study.query import Query
from protocol.study.start import Start
from protocol.study.subgroups import MOST_PARTITIONS, Partition, by_hospital, check_partitions

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Scalar = bool | int | float | str
SumRounding = Literal["patient", "site"]
Averaging = Literal["none", "last_half"]
Precision = Literal["float32", "mixed"]
Release = Literal["noised", "exact", "off"]
Split = Literal["patients", "column", "date"]


class TaskReference(Document):
    """An installed task; `source` is the digest of its code, so that all sites run the same."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    source: Digest
    options: dict[str, Scalar] = Field(default={})


class Model(Document):
    """The flat vector that is sent: P parameters (0 in a query); `layout` is a digest. `frozen` is
    that of the parameters that are not trained and never sent, "" where there are none."""

    parameters: Annotated[int, Field(ge=0, le=2**31)]
    layout: Digest
    frozen: str = added_field("", pattern=r"^([0-9a-f]{64})?$")


class Privacy(Document):
    """The privacy plan. `epsilon` at `delta` bounds all that the study releases with noise of a
    patient who is at no more than `sites_per_patient` (k) of its sites, every attempt used; in mode
    none, where only evaluation can be noised, that alone."""

    mode: Mode
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    noise_multiplier: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    delta: Annotated[float, Field(gt=0, lt=0.5)] = 1e-5
    epsilon: Annotated[float, Field(gt=0, le=1e4)] | None = None
    sites_per_patient: int = added_field(1, ge=1, le=1000)

    @property
    def traits(self) -> ModeTraits:
        """The traits of the mode."""
        return traits_of(self.mode)

    @validator(mode="after")
    def _noise_where_privacy_is_claimed(self) -> Self:
        if not self.traits.private:
            if self.noise_multiplier:
                raise ValueError(f"mode {self.mode} trains without noise")
        elif self.noise_multiplier <= 0 or self.epsilon is None:
            raise ValueError(f"mode {self.mode} needs a noise_multiplier above 0 and an epsilon")
        return self


class ServerOptimiser(Document):
    """An optimiser of the flat vector (Reddi et al. 2021, Algorithm 2)."""

    name: Name = "fedavg"
    lr: Annotated[float, Field(gt=0, le=1e4)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    tau: Annotated[float, Field(gt=0, le=1)] = 1e-3


class Optimisation(Document):
    """Rounds, the steps inside a round, and what the server makes of their sum."""

    rounds: Annotated[int, Field(ge=0, le=100_000)]
    local_steps: Annotated[int, Field(ge=1, le=100_000)] = 1
    local_lr: Annotated[float, Field(gt=0, le=1e4)] = 0.1
    local: LocalAlgorithm = FedAvgOptions()
    server: ServerOptimiser = ServerOptimiser()
    schedule: Schedule = Constant()
    averaging: Averaging = "none"
    stop: StopRule | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    local_optimiser: LocalOptimiser = added_field(Sgd())
    """What a site's steps of a round make of their gradients, in modes none and local."""
    local_schedule: Schedule = added_field(Constant())
    """Of `local_lr`, by round."""
    precision: Precision = added_field("float32")
    """Of a model's products while it trains in mode none."""

    @property
    def averages(self) -> bool:
        """Whether the mean of the last half of the iterates is released, not the last one."""
        match self.averaging:
            case "none":
                return False
            case "last_half":
                return True
        assert_never(self.averaging)

    @property
    def mixes(self) -> bool:
        """Whether a model's products have less than float32's precision while it trains."""
        match self.precision:
            case "float32":
                return False
            case "mixed":
                return True
        assert_never(self.precision)


UPDATE_RANGE = 8.0


class Aggregation(Document):
    """Secure aggregation: who must take part, how many attempts epsilon pays for, which integers.

    `least_sites` is m, `colluding_sites` x, `word_bits` k. Modes none and local: `update_range`
    bounds one coordinate of a site's weighted update. Mode distributed: `scale` is the clip norm as
    an integer; `rounding` says whether each patient's gradient is rounded or a site's sum of them
    (`fixed_point.sensitivity`). `robust`: replaces the weighted mean where updates are seen.
    `grace`: seconds after which a study that needs no whole roster starts with the sites that have
    accepted, if they are m; None waits for the answers of all. `slow`: a site that takes so many
    times as long as the others is not asked in each round (`server.rounds.pace`); None asks all.
    `update_bits`: updates travel in words of update_bits + ceil(log2 n) bits; without, of k bits.
    Modes none and local: a site's update is rotated and rounded at random to numbers of so many
    bits, between -update_range and update_range (`vector_layout.encode_update`). Distributed: no
    number changes; `scale` is so coarse that the sum fits.
    """

    masked: bool = True
    robust: RobustRule | None = None
    least_sites: Annotated[int, Field(ge=1, le=1000)] = 3
    colluding_sites: Annotated[int, Field(ge=0, le=999)] = 1
    attempts: Annotated[int, Field(ge=1, le=200_000)]
    word_bits: Literal[32, 64] = 32
    update_range: Annotated[float, Field(gt=0, le=1e6)] = UPDATE_RANGE
    scale: Annotated[int, Field(ge=1, le=2**40)] = 4096
    rounding: SumRounding = "patient"
    grace: float | None = added_field(None, ge=0, le=86_400)
    slow: float | None = added_field(None, gt=1, le=1000)
    update_bits: Annotated[int, Field(ge=2, le=30)] | None = added_field(None)

    @property
    def rounds_once(self) -> bool:
        """Whether a site's sum is rounded, rather than each patient's gradient."""
        match self.rounding:
            case "patient":
                return False
            case "site":
                return True
        assert_never(self.rounding)


def adds_noise(release: Release) -> bool:
    """Whether such a release has noise of its own."""
    match release:
        case "noised":
            return True
        case "exact" | "off":
            return False
    assert_never(release)


def evaluates(release: Release) -> bool:
    """Whether any model is scored in the study."""
    match release:
        case "noised" | "exact":
            return True
        case "off":
            return False
    assert_never(release)


def by_day(split: Split) -> bool:
    """Whether a record's day says in which part it is."""
    match split:
        case "patients" | "column":
            return False
        case "date":
            return True
    assert_never(split)


class Evaluation(Document):
    """Which rounds' models are scored, on which patients, and how score histograms are released;
    none are with `release` off.

    `every` e: after rounds e, 2e, ... and always after the last; 0: only after the last.
    `split`: "patients" (by the site's fixed hash, `fraction` of them evaluate), "column" (the
    cohort's own split column) or "date" (records of the day `since` and later evaluate, earlier
    ones train). One patient may be in both parts, except with "patients".
    """

    every: Annotated[int, Field(ge=0, le=100_000)] = 0
    bins: Annotated[int, Field(ge=2, le=4096)] = 32
    release: Release = "noised"
    noise_multiplier: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    scale: Annotated[int, Field(ge=1, le=2**16)] = 256
    split: Split = "patients"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    since: str = added_field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    subgroups: tuple[Partition, ...] = added_field((), strict=False, max_length=MOST_PARTITIONS)
    """Partitions by which every evaluation is released once more, level by level."""
    least_count: int = added_field(20, ge=1, le=10**6)
    """A level with fewer patients, as they were counted with noise, has no figure."""

    @property
    def histograms(self) -> int:
        """Of one evaluation: that of all patients, and one for each level of each partition."""
        return 1 + sum(len(partition.levels) for partition in self.subgroups)

    @property
    def releases(self) -> int:
        """Of one evaluation about each patient: one of all patients, and one a partition."""
        return 1 + len(self.subgroups)

    @property
    def noised(self) -> bool:
        """Whether score histograms have noise; exact ones are covered by no epsilon."""
        return adds_noise(self.release)

    @property
    def takes_place(self) -> bool:
        """Whether any model is scored in the study."""
        return evaluates(self.release)

    @property
    def exact(self) -> bool:
        """Whether models are scored and the sums have no noise."""
        return self.takes_place and not self.noised

    @property
    def disjoint(self) -> bool:
        """Whether no patient of one site both trains and evaluates there."""
        match self.split:
            case "patients":
                return True
            case "column" | "date":
                return False
        assert_never(self.split)

    @validator(mode="after")
    def _day_where_dated(self) -> Self:
        if by_day(self.split) != bool(self.since):
            raise ValueError("since is a day when split is date, and only then")
        if self.since:
            date.fromisoformat(self.since)
        return self

    @validator(mode="after")
    def _noise_where_noised(self) -> Self:
        if (self.noise_multiplier > 0) != self.noised:
            raise ValueError("noise_multiplier is above 0 when release is noised, and only then")
        if self.every and not self.takes_place:
            raise ValueError("every is 0 when release is off")
        if self.subgroups and not self.takes_place:
            raise ValueError("subgroups is empty when release is off")
        return self


class Member(Document):
    """One site of the study; `patients` is its declared, banded number of training patients."""

    name: Name
    patients: Annotated[int, Field(ge=1, le=10**9)]


FORMAT = 1
MOST_SITES = 1000
"""In one study."""


class Study(Document):
    """One study from proposal to last sum. The constructor validates everything."""

    format: Literal[1] = 1
    title: Text
    purpose: Name
    contact: Text
    nonce: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16,64}$")]
    task: TaskReference
    model: Model
    privacy: Privacy
    optimisation: Optimisation
    aggregation: Aggregation
    evaluation: Evaluation
    roster: Annotated[tuple[Member, ...], Field(min_length=1, max_length=MOST_SITES, strict=False)]
    query: Query | None = None
    roster_version: Digest | None = added_field(None)
    """Whose keys hold for its sites: those of this version of the coordinator's roster
    (`RosterHistory.keys_at`); None: each site's first key."""
    expires: str = added_field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    """The last day (UTC) to which hospitals keep the plan reserved while the study is paused or has
    failed; with "" they release what is left of it at once."""
    outcome: OutcomeKind = added_field(Binary())
    """What is predicted of a patient, and so what evaluation releases: the task's own."""
    permit: Permit | None = added_field(None)
    """The permit or ethics vote under which data are asked for, signed by a person it names."""
    analysis: Analysis | None = added_field(None)
    """What the query's tables are read as, beside the counts themselves."""
    exact: AnyExact | None = added_field(None)
    """What is read off sums without noise, once the query's counts allow it. No epsilon covers
    them."""
    gates: Gates | None = added_field(None)
    """What the model must come to before a reviewer may approve it."""
    start: Start | None = added_field(None)
    """The released model whose weights round 1 starts from; None: those that the task draws."""

    @validator(mode="after")
    def _consistent(self) -> Self:
        names = [member.name for member in self.roster]
        aggregation, mode = self.aggregation, self.privacy.mode
        if names != sorted(set(names)):
            raise ValueError("roster must name each site once, in alphabetical order")
        if aggregation.least_sites > len(names):
            raise ValueError(
                f"least_sites is {aggregation.least_sites} but the roster has {len(names)} sites"
            )
        if self.privacy.sites_per_patient > len(names):
            raise ValueError(f"sites_per_patient is above the roster's {len(names)} sites")
        if aggregation.masked and aggregation.least_sites < 3:
            raise ValueError("least_sites must be at least 3 under secure aggregation")
        if aggregation.masked and not 1 <= aggregation.colluding_sites < aggregation.least_sites:
            raise ValueError("colluding_sites must be at least 1 and below least_sites")
        if aggregation.colluding_sites >= aggregation.least_sites:
            raise ValueError("colluding_sites must be below least_sites")
        if self.spare_attempts < 0:
            raise ValueError("attempts must be at least rounds + 1 (the last one evaluates)")
        if self.privacy.traits.one_sum and self.optimisation.local_steps != 1:
            raise ValueError(f"mode {mode} takes local_steps = 1 (one clipped sum a round)")
        if (self.privacy.epsilon is None) == (
            self.privacy.traits.private or self.evaluation.noised
        ):
            raise ValueError("epsilon is stated where anything is noised, and only there")
        check_local(self.optimisation.local, mode, evaluates=self.evaluation.takes_place)
        optimisation = self.optimisation
        check_local_optimiser(
            optimisation.local_optimiser,
            optimisation.local_schedule,
            optimisation.local,
            mode,
            optimisation.local_steps,
        )
        if optimisation.mixes and self.privacy.traits.private:
            raise ValueError(f"precision is float32 in mode {mode}: clipping is proved for that")
        check_robust(
            aggregation.robust,
            self.optimisation.local,
            mode,
            masked=aggregation.masked,
            least_sites=aggregation.least_sites,
        )
        if aggregation.update_bits is not None:
            if aggregation.robust is not None:
                raise ValueError("update_bits is of a mean, and robust replaces the mean")
            if aggregation.update_bits + (len(names) - 1).bit_length() > 32:
                raise ValueError("update_bits + ceil(log2 n) must be at most 32, for n sites")
        check_stop(
            self.optimisation.stop, every=self.evaluation.every, averages=self.optimisation.averages
        )
        check_partitions(self.evaluation.subgroups, names, aggregation.least_sites)
        stop = self.optimisation.stop
        if stop is not None and stop.metric not in self.outcome.metrics:
            known = [name for name in get_args(StopMetric) if name in self.outcome.metrics]
            raise ValueError(f"stop looks at {stop.metric}, and this outcome has {known}")
        if self.gates is not None:
            if self.query is not None:
                raise ValueError("gates are of a model, and a query has none")
            self.gates.check(
                self.outcome,
                evaluates=self.evaluation.takes_place,
                subgroups=bool(self.evaluation.subgroups),
                private=self.privacy.traits.private,
            )
        return self

    @validator(mode="after")
    def _expires_on_a_day(self) -> Self:
        if self.expires:
            try:
                date.fromisoformat(self.expires)
            except ValueError:
                raise ValueError("expires is a day, such as 2027-03-31") from None
        return self

    @validator(mode="after")
    def _trains_or_asks(self) -> Self:
        asks = self.query is not None
        iterates = 0 if self.exact is None else self.exact.iterates
        fits = self.optimisation.rounds == iterates if asks else self.optimisation.rounds > 0
        if not fits or (self.model.parameters == 0) != asks:
            raise ValueError("a query has neither rounds nor parameters, every other study both")
        if asks and not (self.privacy.mode == QUERY_MODE and self.evaluation.noised):
            raise ValueError(f"a query takes mode {QUERY_MODE} and a noised release")
        if asks and self.start is not None:
            raise ValueError("a query starts from no model")
        if asks and self.evaluation.subgroups:
            raise ValueError("a query has no subgroups: its tables tell patients apart")
        if asks and self.privacy.noise_multiplier != self.evaluation.noise_multiplier:
            raise ValueError("a query has one noise_multiplier, in privacy and in evaluation")
        if self.analysis is not None:
            if self.query is None:
                raise ValueError("an analysis is read off a query")
            check_analysis(self.analysis, self.query)
        if self.exact is not None:
            self._check_exact(self.exact)
        return self

    def _check_exact(self, exact: AnyExact) -> None:
        aggregation = self.aggregation
        if EXACT_TITLE not in self.title:
            raise ValueError(f"the title of an exact analysis says: {EXACT_TITLE}")
        if self.query is None or self.analysis is not None or not aggregation.masked:
            raise ValueError(
                "an exact analysis follows a masked query that is read as nothing else"
            )
        if aggregation.word_bits != 64:
            raise ValueError("exact sums take words of 64 bits")
        check_exact(exact, self.query, sites=len(self.roster), least_sites=aggregation.least_sites)

    @cached_property
    def document(self) -> bytes:
        """The canonical JSON that is hashed and sent; of a parsed study, the bytes received."""
        return canonical(self.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `document`: the study's identity."""
        return digest(self.document)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; with changes it is another study, with another digest."""
        copied = super().model_copy(update=update, deep=deep)
        if update:
            copied.__dict__.pop("document", None)
            copied.__dict__.pop("digest", None)
        return copied

    @staticmethod
    def parse(document: bytes, sender: Sender | None = None) -> Study:
        """Reads a document and stores its bytes unchanged: they are its identity. `annotations` may
        hold anything, and nothing reads them.

        sender: of a document that came in a message. Raises WardroundError: REFUSED_STUDY where
        the bytes are not canonical JSON, or naming the first invalid field; RELEASE for a format
        or a field of another release.
        """
        try:
            plain = read_canonical(document)
        except WardroundError:
            raise WardroundError(
                Code.REFUSED_STUDY,
                "The study is not in canonical form.",
                remedy="Take the document as wardround wrote it; any change makes another study.",
            ) from None
        if type(written := plain.get("format", FORMAT)) is not int:
            raise WardroundError(
                Code.REFUSED_STUDY,
                "The study is not valid: format: a whole number is meant.",
                remedy="Build it with `wardround run` or `wardround plan`.",
            )
        if written != FORMAT:
            raise cannot_work_together(
                sender, f"The study has format {written}; this release reads format {FORMAT}."
            )
        annotated = ANNOTATIONS in plain
        plain.pop(ANNOTATIONS, None)
        try:
            study = Study.model_validate_json(canonical(plain) if annotated else document)
        except ValidationError as error:
            field, what, is_unknown = first_fault(error)
            if is_unknown:
                raise unknown_field(field, "The study", sender) from None
            raise WardroundError(
                Code.REFUSED_STUDY,
                f"The study is not valid: {field or 'study'}: {what}.",
                remedy="Build it with `wardround run` or `wardround plan`.",
            ) from None
        study.__dict__["document"] = document
        return study

    @property
    def sums_in_floats(self) -> bool:
        """Whether a site adds up clipped gradients in float64 (`fixed_point.SITE_SLACK`), and not
        integers."""
        match self.privacy.traits.training:
            case "plain_steps":
                return False
            case "dp_sgd":
                return True
            case "clipped_sum":
                return self.aggregation.rounds_once
        assert_never(self.privacy.traits.training)

    @cached_property
    def sites(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.roster)

    @property
    def parts_disjoint(self) -> bool:
        """Whether no patient both trains and evaluates, at any site: each site splits by a secret
        of its own, so one who is at several may train at one and evaluate at another."""
        return self.evaluation.disjoint and self.privacy.sites_per_patient == 1

    def patients(self, names: frozenset[str] | None = None) -> int:
        """Declared training patients of the named sites (all of them by default)."""
        return sum(m.patients for m in self.roster if names is None or m.name in names)

    def evaluates(self, round_: int) -> bool:
        """Whether round `round_` (1-based; rounds + 1 closes the study) scores the model it gets,
        which is the one made by round `round_` - 1."""
        made = round_ - 1
        if self.exact is not None:
            return made == 0
        if not self.evaluation.takes_place:
            return False
        if made == self.optimisation.rounds:
            return True
        return self.evaluation.every > 0 and made > 0 and made % self.evaluation.every == 0

    def trains(self, round_: int) -> bool:
        """Whether round `round_` has an update; in an exact analysis, the sum of an iterate, which
        comes after the counts of round 1."""
        last = self.optimisation.rounds
        return 2 <= round_ <= last + 1 if self.exact is not None else 1 <= round_ <= last

    @property
    def released_numbers(self) -> int:
        """Numbers of an update, or of an exact analysis' sum."""
        return self.model.parameters if self.exact is None else self.exact.cells

    @property
    def exact_attempts(self) -> int:
        """Attempts at the sums of an exact analysis: all but the counts'."""
        return 0 if self.exact is None else self.aggregation.attempts - 1

    @property
    def whole_roster(self) -> bool:
        """Whether all sites must be in it to the end, since some sum has no noise: of two exact
        sums over different sites, the difference is what one hospital has added. Or since hospitals
        are told apart by class, and no class may shrink."""
        private = self.privacy.traits.private and self.exact is None
        told_apart = bool(by_hospital(self.evaluation.subgroups))
        return not private or self.evaluation.exact or told_apart

    @property
    def shares_noise(self) -> bool:
        """Whether some noise suffices only in the sum of the sites' shares."""
        traits = self.privacy.traits
        evaluation = self.evaluation.noised and is_shared(traits.evaluation_noise_source)
        return traits.shares_noise or evaluation

    @property
    def spare_attempts(self) -> int:
        """Attempts beyond those that train and the closing one, which evaluates."""
        closing = int(self.evaluation.takes_place)
        return self.aggregation.attempts - self.optimisation.rounds - closing

    def spare_left(self, round_: int, attempt: int) -> int:
        """How many of them are left once attempt number `attempt` was lost in round `round_`
        (rounds + 1 closes the study); below 0 where it can no longer finish."""
        return self.spare_attempts - (attempt - (round_ - 1))

    @property
    def evaluations(self) -> int:
        """How many rounds evaluate, the closing one included."""
        return sum(self.evaluates(r) for r in range(1, self.optimisation.rounds + 2))
