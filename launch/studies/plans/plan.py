"""What a study would cost in privacy, bytes and time, and who would take part. Nothing runs.

Privacy and bytes follow from the document alone and are exact for a study that loses no attempt;
time is one site's step on made-up patients, here and now, times the rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.config.policy import Policy
from client.config.site_config import SiteConfig
from client.governance.exact_releases import ExactReleases
from launch.config.schema import Config
from launch.federations.deployment import RemoteFederation
from launch.federations.inprocess import cohorts_of
from launch.studies.permit import under_permit
from launch.studies.plan_spares import enough
from launch.studies.plans.plan_bytes import PlannedTraffic, traffic
from launch.studies.plans.plan_time import seconds
from launch.studies.public_data import data_root
from launch.studies.run import credentials_of, declared_patients, split_plan
from launch.studies.study_builder import build_study, chosen
from protocol.errors import WardroundError
from protocol.privacy.accounting import epsilon_over_bands
from protocol.privacy.epsilon_text import rounded_up
from protocol.privacy.releases import (
    about_delta,
    assumption,
    max_evaluations,
    planned_broken_epsilon,
    planned_events,
    spent_epsilon,
)
from protocol.study.study import Study
from protocol.terminal.printable import printable
from server.rounds.dry_run import ANSWERS
from server.rounds.proposal import rules_in_words
from server.rounds.round_loop import uncovered
from tasks import registry


@dataclass(frozen=True)
class DryRunAnswers:
    """How many sites accept at once, wait for a person, refuse, are away; and the rules of how
    many sites forbid the study. Never whose."""

    accepted: int
    waiting: int
    refused: int
    away: int
    rules: dict[str, int]
    codes: dict[str, int]

    @property
    def why(self) -> str:
        """The rules in words, or the codes where no rule was named."""
        named = {f"{rule}{n}": (rule,) for rule, many in self.rules.items() for n in range(many)}
        if named:
            return rules_in_words(named)
        return ", ".join(f"{code} ({many} sites)" for code, many in sorted(self.codes.items()))


@dataclass(frozen=True)
class StudyPlan:
    """A study that has not been proposed, and what it comes to."""

    study: Study
    simulated: bool
    epsilon: float | None
    epsilon_broken: float | None
    traffic: PlannedTraffic
    seconds: float
    answers: DryRunAnswers | None
    policies: dict[str, tuple[str, ...]]
    """site.yaml -> the rules in it that forbid the study."""
    line_speed: float = 12.5e6
    """Bytes a second of a site's line, as stated."""
    loss: float = 0.0
    """The probability that an attempt is lost, as configured."""

    @property
    def enough(self) -> float:
        """The probability that the spare attempts are enough."""
        return enough(self.study, self.loss)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        study = self.study
        return {
            "task": study.task.name,
            "mode": study.privacy.mode,
            "epsilon": self.epsilon,
            "epsilon_broken": self.epsilon_broken,
            "delta": study.privacy.delta,
            "noise_multiplier": study.privacy.noise_multiplier,
            "evaluation_noise_multiplier": study.evaluation.noise_multiplier,
            "attempts": study.aggregation.attempts,
            "spare_attempts": study.spare_attempts,
            "enough": self.enough,
            "rounds": study.optimisation.rounds,
            "evaluations": max_evaluations(study),
            "subgroups": [one.name for one in study.evaluation.subgroups],
            "releases_of_an_evaluation": study.evaluation.releases,
            "uncovered": uncovered(study),
            "sites_per_patient": study.privacy.sites_per_patient,
            "assumption": assumption(study),
            "patients": {member.name: member.patients for member in study.roster},
            "traffic": asdict(self.traffic),
            "line_speed": self.line_speed,
            "line_seconds": self.traffic.seconds(self.line_speed),
            "seconds": self.seconds,
            "answers": None if self.answers is None else asdict(self.answers),
            "policies": {path: list(rules) for path, rules in self.policies.items()},
        }


def plan(config: Config, policies: Sequence[str] = ()) -> StudyPlan:
    """The study that a configuration describes, weighed. policies: paths of site.yaml files.

    Raises WardroundError as `launch.studies.run.run` does before its first round, and as
    `SiteConfig.load` does.
    """
    task = registry.load(config.task.name, config.task.options)
    answers: DryRunAnswers | None = None
    if config.federation.name == "deployment":
        with RemoteFederation(
            credentials_of(config), address=config.federation.coordinator
        ) as remote:
            study = remote.pinned(build_study(config, task, remote.patients()))
            study = under_permit(study, config.permit)
            answers = answers_of(remote.consult(study))
    else:
        cohorts = cohorts_of(
            task, chosen(config, task.public_sites(data_root())), split_plan(config)
        )
        study = build_study(config, task, declared_patients(cohorts))
        study = under_permit(study, config.permit)
    attempts, noised = study.aggregation.attempts, study.privacy.epsilon is not None
    return StudyPlan(
        study=study,
        simulated=answers is None,
        epsilon=spent_epsilon(study, attempts, max_evaluations(study)),
        epsilon_broken=planned_broken_epsilon(study, study.privacy.delta) if noised else None,
        traffic=traffic(study),
        seconds=seconds(study, task, simulated=answers is None, line=config.federation.line_speed),
        line_speed=config.federation.line_speed,
        answers=answers,
        loss=config.aggregation.loss,
        policies={path: objections(SiteConfig.load(Path(path)), study) for path in policies},
    )


def answers_of(plain: Mapping[str, Any]) -> DryRunAnswers:
    """What a coordinator answers to a plan."""
    return DryRunAnswers(
        **{name: int(plain["answers"][name]) for name in ANSWERS},
        rules={str(rule): int(many) for rule, many in plain["rules"].items()},
        codes={str(code): int(many) for code, many in plain["codes"].items()},
    )


def objections(config: SiteConfig, study: Study) -> tuple[str, ...]:
    """The rules of a site.yaml that forbid the study. Its ledger is not looked at, so the lifetime
    caps are those of a site which has spent nothing."""
    rules = (*config.policy.objections(study, config.site), *_caps(config.policy, study))
    try:
        ExactReleases().check(study, config.policy)
    except WardroundError as error:
        return (*rules, error.rule)
    return rules


def _caps(policy: Policy, study: Study) -> list[str]:
    events = planned_events(study)
    if not events:
        return []
    epsilon = epsilon_over_bands(events, policy.delta)
    costs = [
        ("epsilon_per_study", policy.epsilon_per_study, epsilon),
        ("epsilon_lifetime", policy.epsilon_lifetime, epsilon),
    ]
    if study.shares_noise:
        broken = planned_broken_epsilon(study, policy.delta)
        costs.append(("epsilon_broken", policy.epsilon_broken, broken))
    return [rule for rule, cap, cost in costs if cap is None or cost > cap]


def show(planned: StudyPlan, console: Console) -> None:
    """Two tables: what it costs, and who would take part."""
    console.print(_cost(planned))
    console.print()
    console.print(_answers(planned))
    if planned.epsilon is not None:
        console.print(assumption(planned.study), highlight=False)
    if large := about_delta(planned.study):
        console.print(f"{large}.", style="yellow", highlight=False)
    if unprotected := uncovered(planned.study):
        console.print(unprotected, style="yellow", highlight=False)


def _cost(planned: StudyPlan) -> Table:
    study, sent = planned.study, planned.traffic
    privacy, sites = study.privacy, len(study.roster)
    title = Text(printable(f"{study.title}: what it would cost"))
    table = Table(title=title, title_justify="left", box=None)
    table.show_header = False
    table.add_column("", style="cyan")
    table.add_column("")
    table.add_row("patients", f"{study.patients()} declared for training, at {sites} sites")
    if planned.epsilon is None:
        table.add_row("privacy", "none: no epsilon bounds what the sums tell")
    else:
        table.add_row("epsilon", f"{rounded_up(planned.epsilon)} at delta {privacy.delta:g}")
        if planned.epsilon_broken is not None and study.shares_noise:
            table.add_row(
                "",
                f"{rounded_up(planned.epsilon_broken)} if secure aggregation were broken",
            )
        table.add_row("noise multiplier", f"{privacy.noise_multiplier:.4g} in training")
        if study.evaluation.noise_multiplier:
            table.add_row("", f"{study.evaluation.noise_multiplier:.4g} in evaluation")
    closing = " and the closing one" if study.evaluation.takes_place else ""
    spare = ""
    if study.spare_attempts:
        spare = f", {study.spare_attempts} spare"
        spare += f" (enough in {planned.enough:.1%} of studies that lose {planned.loss:.1%})"
    table.add_row("attempts", f"{study.optimisation.rounds} rounds{closing}{spare}")
    table.add_row("evaluations", str(study.evaluations))
    if by := study.evaluation.subgroups:
        names = printable(", ".join(one.name for one in by))
        told = f"by {names}: each evaluation is {study.evaluation.releases} releases"
        if planned.study.evaluation.noised:
            told += "; without subgroups its noise multiplier would be " + _alone(study)
        table.add_row("subgroups", told)
    table.add_row("bytes", f"{_bytes(sent.to_site)} to each site, {_bytes(sent.from_site)} back")
    table.add_row("", f"{_bytes(sites * (sent.to_site + sent.from_site))} in total")
    on_line = _duration(sent.seconds(planned.line_speed))
    table.add_row("", f"{on_line} of each site's line, at {_bytes(planned.line_speed)} a second")
    where = "in this process" if planned.simulated else "with that line"
    table.add_row("time", f"about {_duration(planned.seconds)} {where}, a step timed here")
    return table


def _alone(study: Study) -> str:
    """The evaluation's noise multiplier without subgroups, for the same epsilon: of g + 1 releases
    with Gaussian or Skellam noise the variances add up (Dong, Roth and Su 2022, corollary 3.3)."""
    return f"about {study.evaluation.noise_multiplier / math.sqrt(study.evaluation.releases):.3g}"


def _answers(planned: StudyPlan) -> Table:
    table = Table(title="Who would take part", title_justify="left", box=None)
    table.add_column("", style="cyan")
    table.add_column("sites", justify="right")
    table.add_column("")
    if (answers := planned.answers) is not None:
        table.add_row("accept at once", str(answers.accepted), "")
        table.add_row("wait for a person", str(answers.waiting), "")
        table.add_row("refuse", str(answers.refused), Text(printable(answers.why)))
        table.add_row("not connected", str(answers.away), "")
        table.add_row("needed", str(planned.study.aggregation.least_sites), "")
    else:
        table.add_row("simulated", str(len(planned.study.roster)), "they have no policies")
    for path, rules in planned.policies.items():
        said = ", ".join(f"policy.{rule}" for rule in rules)
        refused = f"refuses: {said}" if rules else "would take part"
        table.add_row(Text(printable(path)), "", refused)
    return table


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
