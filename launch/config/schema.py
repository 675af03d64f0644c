"""Every key of a study's configuration: its type, default, meaning and range."""

# ruff: noqa: RUF009 (`key` and `group` return dataclass fields)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from omegaconf import MISSING

from launch.config.keys import group, key
from protocol.study.algorithms import StopMetric
from protocol.study.privacy_mode import Mode
from protocol.study.study import Averaging, Precision, Release, Split

PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "algorithm": {
        "fedavg": (),
        "fedsgd": (),
        "fedprox": ("mu",),
        "scaffold": (),
        "fedbn": (),
        "ditto": ("attraction", "steps", "lr", "evaluated"),
    },
    "local_optimiser": {
        "sgd": ("momentum", "weight_decay"),
        "adamw": ("beta1", "beta2", "weight_decay"),
    },
    "local_schedule": {
        "constant": ("warmup",),
        "cosine": ("warmup", "floor"),
        "step": ("warmup", "every", "factor"),
    },
    "schedule": {
        "constant": ("warmup",),
        "cosine": ("warmup", "floor"),
        "step": ("warmup", "every", "factor"),
    },
    "robust": {"none": (), "median": (), "trimmed_mean": ("byzantine",), "krum": ("byzantine",)},
}
"""Section -> name -> the keys that belong to it."""


@dataclass
class TaskConfig:
    """What is learned."""

    name: str = key(MISSING, "the task; `wardround tasks` lists them")
    file: str = key("", "the file of a task that is not installed; task=FILE.py sets it")
    options: dict[str, Any] = key({}, "choices that the task leaves open, as option: value")


@dataclass
class PrivacyConfig:
    """epsilon and delta asked for; the noise multiplier follows."""

    mode: str = key(
        MISSING,
        "who adds how much noise; the group sets it",
        choices=get_args(Mode),
    )
    epsilon: float | None = key(
        None, "what a patient may lose over all of the study, at delta", above=0, max=1e4
    )
    delta: float = key(
        1e-5, "the probability left out of epsilon, well below 1 / patients", above=0, below=0.5
    )
    clip_norm: float = key(
        1.0, "the norm to which each patient's gradient is clipped", above=0, max=1e6
    )
    sampling_rate: float = key(
        1.0, "the probability with which a patient is drawn into a step", above=0, max=1
    )
    sites_per_patient: int = key(
        1, "at how many of the sites one patient may be, which nobody can check", min=1, max=1000
    )


@dataclass
class AlgorithmConfig:
    """What a site does with its steps of a round."""

    name: str = key("fedavg", "the algorithm; the group sets it", choices=(*PARTS["algorithm"],))
    mu: float | None = key(None, "fedprox: pull to the model of the round", above=0, max=1e4)
    attraction: float | None = key(
        None, "ditto: pull of a site's own model to the shared one (lambda)", min=0, max=1e4
    )
    steps: int | None = key(None, "ditto: steps of the own model a round", min=1, max=100_000)
    lr: float | None = key(None, "ditto: learning rate of the own model", above=0, max=1e4)
    evaluated: str | None = key(
        None, "ditto: whose scores are pooled", choices=("shared", "personal")
    )


@dataclass
class LocalOptimiserConfig:
    """What a site's steps of a round make of their gradients; its memory begins anew each round."""

    name: str = key("sgd", "the rule; the group sets it", choices=(*PARTS["local_optimiser"],))
    momentum: float | None = key(None, "sgd: share of the running sum that stays", min=0, below=1)
    beta1: float | None = key(None, "adamw: decay of the first moment", min=0, below=1)
    beta2: float | None = key(None, "adamw: decay of the second moment", min=0, below=1)
    weight_decay: float | None = key(
        None, "pull to zero, times local_lr (adamw: 0.01 unless set)", min=0, max=10
    )


@dataclass
class ScheduleConfig:
    """A learning rate from round to round: the server's, or local_lr."""

    name: str = key("constant", "its course; the group sets it", choices=(*PARTS["schedule"],))
    warmup: int | None = key(None, "rounds of linear rise before it", min=0, max=100_000)
    floor: float | None = key(None, "cosine: what is left at the end", min=0, max=1)
    every: int | None = key(None, "step: rounds between two falls", min=1, max=100_000)
    factor: float | None = key(None, "step: what each fall multiplies with", above=0, max=1)


@dataclass
class StopConfig:
    """Early stopping on the pooled metric that is released anyway."""

    metric: str | None = key(
        None,
        "stop when this no longer improves (null: never)",
        choices=get_args(StopMetric),
    )
    patience: int = key(
        5, "evaluations in a row without improvement, then stop", min=1, max=100_000
    )
    least: float = key(0.0, "what counts as an improvement is more than this", min=0, max=1e4)


@dataclass
class RobustConfig:
    """Instead of the mean, where updates may be seen: federation.masked=false at every site."""

    name: str = key("none", "the rule; the group sets it", choices=(*PARTS["robust"],))
    byzantine: int | None = key(
        None, "trimmed_mean, krum: sites that may send anything", min=0, max=499
    )


@dataclass
class OptimiserConfig:
    """The server optimiser on the flat vector."""

    name: str = key(MISSING, "the update rule; the group sets it")
    lr: float = key(1.0, "its learning rate", above=0, max=1e4)
    momentum: float = key(0.0, "of fedavgm", min=0, below=1)
    beta1: float = key(0.9, "decay of the first moment", min=0, below=1)
    beta2: float = key(0.99, "decay of the second moment", min=0, below=1)
    tau: float = key(1e-3, "adaptivity, the least divisor of a step", above=0, max=1)


@dataclass
class AggregationConfig:
    """Secure aggregation; null lets wardround choose from the roster and the model."""

    least_sites: int | None = key(
        None, "the least number of sites in a sum (null: 3, or all if fewer)", min=1, max=1000
    )
    colluding_sites: int = key(1, "how many sites may collude with the coordinator", min=0, max=999)
    grace: float | None = key(
        10.0,
        "deployment, where all is noised: seconds until a study starts with the sites that have "
        "accepted, if they are enough; the others are taken in later (null: waits for all)",
        min=0,
        max=86_400,
    )
    slow: float | None = key(
        None,
        "deployment, where all is noised: a site that takes so many times as long as the others is "
        "asked in some rounds only (null: in all)",
        above=1,
        max=1000,
    )
    loss: float = key(
        0.05,
        "deployment: the probability that an attempt is lost, from which spare ones are planned",
        min=0,
        max=0.9,
    )
    spare_attempts: int | None = key(
        None,
        "attempts beyond one a round that epsilon pays for (null: enough for 99 studies in 100 "
        "with this loss; none where sites are simulated)",
        min=0,
        max=99_000,
    )
    word_bits: int | None = key(None, "bits of a masked number: 32 or 64", min=32, max=64)
    update_bits: int | None = key(
        None,
        "send an update in words of so many bits and log2(sites): rotated and rounded at random, "
        "or in mode distributed with a coarser scale (null: word_bits)",
        min=2,
        max=30,
    )
    update_range: float | None = key(
        None,
        "bound of one coordinate of a site's weighted update (null: 8, or what suits update_bits)",
        above=0,
        max=1e6,
    )
    scale: int | None = key(
        None, "the integer that the clip norm becomes (distributed)", min=1, max=2**40
    )


@dataclass
class EvaluationConfig:
    """When models are scored, on which patients, and how the histograms leave."""

    every: int = key(
        0, "evaluate after every so many rounds; 0: at the end only", min=0, max=100_000
    )
    bins: int | None = key(None, "bins of the score histogram", min=2, max=4096)
    release: str = key(
        "noised",
        "noised and debited; exact, where an epsilon is not claimed; or off",
        choices=get_args(Release),
    )
    split: str = key(
        "patients",
        "who evaluates: by the site's own hash, by the column `split` of the cohort, or by date",
        choices=get_args(Split),
    )
    fraction: float = key(0.3, "of patients, who evaluate", above=0, below=1)
    since: str = key(
        "", "with split=date: records of this day (2027-03-31) and later evaluate, earlier train"
    )
    subgroups: dict[str, Any] = key(
        {},
        "columns by which figures are told apart, each a release more: {sex: null} for the task's "
        "own categories, {site: [arm, leg]} for these values, {age: [40, 65]} for bands",
    )
    hospitals: dict[str, Any] = key(
        {},
        "the same by an attribute of whole hospitals, which each affirms: "
        "{vendor: {acme: [a, b, c], other: [d, e, f]}}",
    )
    least_count: int = key(20, "a subgroup of fewer patients has no figure", min=1, max=10**6)


@dataclass
class FederationConfig:
    """Where the sites are."""

    name: str = key(MISSING, "inprocess, ray or deployment; the group sets it")
    sites: list[str] = key([], "the sites that are asked, by name (empty: all)")
    masked: bool | None = key(
        None,
        "whether sums are masked (secure aggregation); without masks every site's share is seen "
        "and counts by itself (null: where that spares noise, which takes 3 sites)",
    )
    coordinator: str | None = key(None, "deployment: HOST:PORT instead of the credentials' own")
    credentials: str | None = key(None, "deployment: the file that the operator made")
    on_interrupt: str = key(
        "cancel",
        "deployment: what Ctrl-C does with the study: cancel it for good, or leave it running, "
        "to be followed again with --resume",
        choices=("cancel", "leave"),
    )
    workers: int | None = key(
        None, "ray: processes that play the sites (null: one a core)", min=1, max=4096
    )
    line_speed: float = key(
        12.5e6,
        "bytes a second of a site's line to the coordinator, for the times that a plan states",
        min=1000,
        max=1e12,
    )
    address: str | None = key(
        None,
        "ray: a running cluster that asks for a token (auto, or its address); null: our own, on "
        "this machine alone",
    )


@dataclass
class GatesConfig:
    """What the model must come to before a reviewer may approve it; part of the study."""

    metrics: dict[str, float] = key(
        {},
        "metric: bound, such as {auc: 0.8}; all of the 95% interval must be on its good side",
    )
    epsilon: float | None = key(
        None, "the most that the study may have spent of a patient", above=0, max=1e4
    )
    card: bool = key(
        False, "whether the model card must say who launched it, who agreed, how well it does"
    )
    gaps: dict[str, float] = key(
        {},
        "metric: how far all of each subgroup difference's interval may be from 0, such as "
        "{auc: 0.1}",
    )
    audit: bool = key(
        False, "whether who approves must show what `wardround audit --study` found on public data"
    )


@dataclass
class StartConfig:
    """A released model whose weights training starts from, with the epsilon that it carries."""

    model: str = key(
        "", "models:/NAME/VERSION, or a file that `wardround export` wrote; empty: none"
    )
    digest: str = key("", "the digest that this version must have; empty: any that is signed")
    key: str = key(
        "",
        "the public key of its coordinator, or a file with it (empty: the credentials in use)",
    )


@dataclass
class TrackingConfig:
    """MLflow."""

    uri: str | None = key(None, "an http(s) address of an MLflow server; null: no tracking")
    experiment: str = key("wardround", "the experiment's name there")
    model: str | None = key(None, "the registered model's name (null: the task's)")


@dataclass
class Config:
    """Everything `wardround run` takes."""

    title: str = key(MISSING, "what hospitals and reviewers read first")
    purpose: str = key("research", "what the data is used for; a policy names what it allows")
    contact: str = key(MISSING, "whom a hospital asks")
    rounds: int = key(20, "rounds of training", min=1, max=100_000)
    local_steps: int = key(
        1, "steps at a site in a round (1 in mode distributed)", min=1, max=100_000
    )
    local_lr: float = key(0.5, "learning rate at the sites", above=0, max=1e4)
    server_lr: float = key(1.0, "learning rate of fedavg and fedavgm", above=0, max=1e4)
    averaging: str = key(
        "none",
        "release the last iterate, or the mean of the last half of them",
        choices=get_args(Averaging),
    )
    seed: int = key(0, "of initial weights, and of sampling in mode none", min=0, below=2**63)
    precision: str = key(
        "float32",
        "of a model's products while it trains; mixed (bfloat16) in mode none alone",
        choices=get_args(Precision),
    )
    expires: str = key(
        "", "to which day (UTC, 2027-03-31) hospitals keep the plan reserved while the study rests"
    )
    permit: str = key(
        "",
        "a YAML file with the permit or ethics vote under which hospitals are asked, and who signs",
    )
    output: str = key("outputs", "the folder that gets one folder a study")
    baselines: list[str] = key(
        [],
        "trained beside the study with its budget: each hospital alone, all data pooled",
        choices=("local", "pooled"),
    )
    task: TaskConfig = group(TaskConfig, "what is learned")
    privacy: PrivacyConfig = group(PrivacyConfig, "who adds how much noise")
    algorithm: AlgorithmConfig = group(AlgorithmConfig, "what a site does with its steps")
    optimiser: OptimiserConfig = group(OptimiserConfig, "what the server makes of a sum")
    local_optimiser: LocalOptimiserConfig = group(
        LocalOptimiserConfig, "what a site's steps make of their gradients"
    )
    local_schedule: ScheduleConfig = group(ScheduleConfig, "the sites' learning rate over rounds")
    schedule: ScheduleConfig = group(ScheduleConfig, "the server's learning rate over rounds")
    stop: StopConfig = group(StopConfig, "early stopping")
    robust: RobustConfig = group(RobustConfig, "instead of the mean, where updates are seen")
    aggregation: AggregationConfig = group(AggregationConfig, "secure aggregation")
    evaluation: EvaluationConfig = group(EvaluationConfig, "how models are scored")
    start: StartConfig = group(StartConfig, "the released model that training starts from")
    gates: GatesConfig = group(GatesConfig, "what a model must come to before it is approved")
    federation: FederationConfig = group(FederationConfig, "where the sites are")
    tracking: TrackingConfig = group(TrackingConfig, "MLflow")
