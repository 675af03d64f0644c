"""A study's choices beyond plain FedAvg: local algorithm, schedule, early stopping, robust rules.

Each choice is a small document that has only its own parameters. The checks here are those that
need another part of the study.
"""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field

from protocol.document import Document
from protocol.study.privacy_mode import Mode, traits_of


class FedAvgOptions(Document):
    """McMahan et al. 2017: plain steps. In mode distributed, one gradient a round: FedSGD."""

    name: Literal["fedavg"] = "fedavg"


class FedProxOptions(Document):
    """Li et al. 2020, equation 2: a proximal term mu pulls steps to the round's model."""

    name: Literal["fedprox"] = "fedprox"
    mu: Annotated[float, Field(gt=0, le=1e4)] = 0.01


class ScaffoldOptions(Document):
    """Karimireddy et al. 2020, Algorithm 1 with option II: control variates against drift."""

    name: Literal["scaffold"] = "scaffold"


class FedBNOptions(Document):
    """Li et al. 2021: each site has its own normalisation layers, which never leave it."""

    name: Literal["fedbn"] = "fedbn"


class DittoOptions(Document):
    """Li et al. 2021, Algorithm 1: each site also trains a personal model, near the shared one.

    `steps` and `lr` are the personal model's, in each round; `attraction` is the paper's lambda.
    `evaluated`: the model whose scores the study's histograms hold.
    """

    name: Literal["ditto"] = "ditto"
    attraction: Annotated[float, Field(ge=0, le=1e4)] = 0.1
    steps: Annotated[int, Field(ge=1, le=100_000)] = 10
    lr: Annotated[float, Field(gt=0, le=1e4)] = 0.1
    evaluated: Literal["shared", "personal"] = "shared"

    @property
    def scores_own(self) -> bool:
        """Whether the study's histograms hold the scores of the personal models."""
        match self.evaluated:
            case "shared":
                return False
            case "personal":
                return True
        assert_never(self.evaluated)


LocalAlgorithm = Annotated[
    FedAvgOptions | FedProxOptions | ScaffoldOptions | FedBNOptions | DittoOptions,
    Field(discriminator="name"),
]


class Sgd(Document):
    """Steps against the gradient; with `momentum`, against its running sum, which begins anew each
    round (Sutskever et al. 2013, as torch computes it). `weight_decay`: decoupled, as of AdamW."""

    name: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0


class AdamW(Document):
    """Loshchilov and Hutter 2019, Algorithm 2; its moments begin anew each round."""

    name: Literal["adamw"] = "adamw"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01


LocalOptimiser = Annotated[Sgd | AdamW, Field(discriminator="name")]


class _Schedule(Document):
    """A learning rate by round; it rises linearly during the first `warmup` rounds."""

    warmup: Annotated[int, Field(ge=0, le=100_000)] = 0


class Constant(_Schedule):
    """The learning rate does not change."""

    name: Literal["constant"] = "constant"


class Cosine(_Schedule):
    """Loshchilov and Hutter 2017, one period: falls along a cosine to `floor` times the rate."""

    name: Literal["cosine"] = "cosine"
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0


class Step(_Schedule):
    """The learning rate is multiplied by `factor` after every `every` rounds."""

    name: Literal["step"] = "step"
    every: Annotated[int, Field(ge=1, le=100_000)] = 10
    factor: Annotated[float, Field(gt=0, le=1)] = 0.5


Schedule = Annotated[Constant | Cosine | Step, Field(discriminator="name")]


StopMetric = Literal[
    "auc",
    "average_precision",
    "accuracy",
    "brier",
    "log_loss",
    "macro_auc",
    "r2",
    "mae",
    "rmse",
    "quadratic_kappa",
    "d2",
    "concordance",
    "integrated_brier",
]


class StopRule(Document):
    """Early stopping: after `patience` evaluations in a row that do not improve the best by more
    than `least`, the study ends and releases the best model scored.

    The metric is the pooled, noised one that the study releases anyway, so stopping is
    post-processing and costs no privacy.
    """

    metric: StopMetric = "auc"
    patience: Annotated[int, Field(ge=1, le=100_000)] = 5
    least: Annotated[float, Field(ge=0, le=1e4)] = 0.0

    @property
    def rises(self) -> bool:
        """Whether more of the metric is better."""
        match self.metric:
            case (
                "auc"
                | "average_precision"
                | "accuracy"
                | "macro_auc"
                | "r2"
                | "quadratic_kappa"
                | "d2"
                | "concordance"
            ):
                return True
            case "brier" | "log_loss" | "mae" | "rmse" | "integrated_brier":
                return False
        assert_never(self.metric)


class Median(Document):
    """Yin et al. 2018, Option I: the median of the sites' updates, coordinate by coordinate."""

    name: Literal["median"] = "median"


class TrimmedMean(Document):
    """Yin et al. 2018, Option II: the mean, coordinate by coordinate, without the `byzantine`
    largest and smallest values."""

    name: Literal["trimmed_mean"] = "trimmed_mean"
    byzantine: Annotated[int, Field(ge=1, le=499)] = 1


class Krum(Document):
    """Blanchard et al. 2017: the one update nearest to its n - `byzantine` - 2 neighbours."""

    name: Literal["krum"] = "krum"
    byzantine: Annotated[int, Field(ge=0, le=499)] = 1


RobustRule = Annotated[Median | TrimmedMean | Krum, Field(discriminator="name")]


def keeps_state(local: LocalAlgorithm) -> bool:
    """Whether sites have state that lasts from round to round."""
    match local:
        case ScaffoldOptions() | FedBNOptions() | DittoOptions():
            return True
        case FedAvgOptions() | FedProxOptions():
            return False
    assert_never(local)


def sends_control(local: LocalAlgorithm) -> bool:
    """Whether control variates travel beside the updates."""
    match local:
        case ScaffoldOptions():
            return True
        case FedAvgOptions() | FedProxOptions() | FedBNOptions() | DittoOptions():
            return False
    assert_never(local)


def check_local(local: LocalAlgorithm, mode: Mode, *, evaluates: bool) -> None:
    """Raises ValueError for an algorithm that the privacy mode makes void or unsafe, or that keeps
    something in a closing round, which a study without evaluation does not have."""
    traits = traits_of(mode)
    match local:
        case FedProxOptions() if traits.one_sum:
            raise ValueError(
                f"fedprox does nothing in mode {mode}: its term is zero at the one gradient "
                "that a round sums; take fedavg, or mode local"
            )
        case ScaffoldOptions() if traits.one_sum:
            raise ValueError(
                f"scaffold cannot run in mode {mode}: a site's control variate would be made "
                "of its own gradient without noise, and steer what the next rounds release; take "
                "mode local"
            )
        case FedBNOptions() if traits.one_sum:
            raise ValueError(
                f"fedbn cannot run in mode {mode}: a site's own layers would be trained "
                "without noise, and shape the gradients that the next rounds release; take mode "
                "local"
            )
        case FedBNOptions() | DittoOptions() if not evaluates:
            raise ValueError(
                f"{local.name} leaves each site its own model after the closing round, which only "
                "evaluates: it cannot do without evaluation"
            )
        case DittoOptions() if local.scores_own and traits.private:
            raise ValueError(
                f"ditto cannot release scores of personal models in mode {mode}: a patient who "
                "trains a personal model moves every score of his site, which no epsilon here "
                "covers; each site sees its own"
            )
        case (
            FedAvgOptions() | FedProxOptions() | ScaffoldOptions() | FedBNOptions() | DittoOptions()
        ):
            return
    assert_never(local)


def check_local_optimiser(
    optimiser: LocalOptimiser,
    schedule: Schedule,
    local: LocalAlgorithm,
    mode: Mode,
    local_steps: int,
) -> None:
    """Raises ValueError for a local optimiser or schedule that cannot act, or that the algorithm
    does not know of."""
    plain = optimiser == Sgd() and schedule == Constant()
    if plain:
        return
    if traits_of(mode).one_sum:
        raise ValueError(
            f"in mode {mode} sites take no steps: a local optimiser or schedule does nothing "
            "there; choose the server's"
        )
    if sends_control(local):
        raise ValueError(
            f"{local.name} makes its control variates of plain steps at one learning rate: leave "
            "the local optimiser and schedule out"
        )
    match optimiser:
        case Sgd(momentum=momentum) if momentum and local_steps == 1:
            raise ValueError(
                "momentum begins anew each round and does nothing with local_steps = 1; choose the "
                "server's (fedavgm)"
            )
        case Sgd() | AdamW():
            return
    assert_never(optimiser)


def check_robust(
    robust: RobustRule | None, local: LocalAlgorithm, mode: Mode, *, masked: bool, least_sites: int
) -> None:
    """Raises ValueError where a robust rule cannot see single updates, or has too few of them."""
    if robust is None:
        return
    if masked:
        raise ValueError(
            f"{robust.name} has to see each site's update, and secure aggregation opens nothing "
            "but their sum: set aggregation.masked to false, where every site allows it"
        )
    if traits_of(mode).shares_noise:
        raise ValueError(
            f"{robust.name} cannot run in mode {mode}: noise suffices only in the sum of all "
            "shares, and each would be seen by itself; take mode local"
        )
    if sends_control(local):
        raise ValueError(
            f"{local.name} cannot run under {robust.name}: its control variates must stay the mean "
            "of all sites' own"
        )
    if (needed := min_sites_of_rule(robust)) > least_sites:
        raise ValueError(
            f"{robust.name} needs {needed} sites in every sum, and aggregation.least_sites is "
            f"{least_sites}"
        )


def min_sites_of_rule(robust: RobustRule | None) -> int:
    """The least number of sites for which the rule's claim holds: for the trimmed mean above 2 f
    (Yin et al. 2018), for Krum above 2 f + 2 (Blanchard et al. 2017, Proposition 4.2)."""
    match robust:
        case None | Median():
            return 1
        case TrimmedMean():
            return 2 * robust.byzantine + 1
        case Krum():
            return 2 * robust.byzantine + 3
    assert_never(robust)


def check_stop(stop: StopRule | None, *, every: int, averages: bool) -> None:
    """Raises ValueError where early stopping has no evaluations, or contradicts averaging."""
    if stop is None:
        return
    if every == 0:
        raise ValueError("early stopping needs evaluations: set evaluation.every above 0")
    if averages:
        raise ValueError(
            "averaging last_half needs to know which half is the last, and early stopping does "
            "not: choose one"
        )
