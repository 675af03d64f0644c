"""A study's tags and flat metrics in MLflow: public facts and pooled figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from protocol.models.starting_model import carried
from protocol.outcomes.estimates import Estimate
from protocol.outcomes.kinds import FIRST, HEADLINES
from protocol.privacy.epsilon_text import rounded_up
from protocol.study.study import Study
from protocol.vectors import weights_digest
from server.answers import analysis_report, query_report
from server.outcome import Outcome, RoundReport
from server.report import subgroups
from server.report.model_card import Background, describe

SECONDS = "system/seconds"
_OF_BINARY = ("sensitivity", "specificity", "calibration_error")
_SHOWN = tuple(dict.fromkeys((*FIRST, *HEADLINES, *_OF_BINARY)))
"""The figures that a table of runs has room for; a kind of outcome has some of them."""


def opening_tags(
    study: Study, code_version: str, parent: str | None, background: Background
) -> dict[str, str]:
    """Tags of a run that begins. parent: the run below which MLflow shows it."""
    launched = background.launched_by
    return {
        "wardround.study": study.digest,
        "wardround.purpose": study.purpose,
        "wardround.task": f"{study.task.name} {study.task.version}",
        "wardround.task_source": study.task.source,
        "wardround.mode": study.privacy.mode,
        "wardround.sites": str(len(study.roster)),
        "wardround.code_version": code_version,
        **({"wardround.permit": study.permit.identifier} if study.permit is not None else {}),
        "mlflow.note.content": describe(study, None, background),
        **({"wardround.launched_by": launched, "mlflow.user": launched} if launched else {}),
        **({} if parent is None else {"mlflow.parentRunId": parent}),
    }


def claims(outcome: Outcome) -> dict[str, str]:
    """Tags of the run, the logged model, its file and the registered version."""
    study = outcome.study
    tags = {
        "wardround.study": study.digest,
        "wardround.task": f"{study.task.name} {study.task.version}",
        "wardround.mode": study.privacy.mode,
        "wardround.status": outcome.status,
        "wardround.model": outcome.released,
        "wardround.uncovered": outcome.uncovered or "nobody",
        "wardround.sites_per_patient": str(study.privacy.sites_per_patient),
    }
    if (start := study.start) is not None:
        epsilon, delta = carried(study)
        tags |= {
            "wardround.start": start.model,
            "wardround.start_study": start.study,
            "wardround.start_weights": start.weights,
            "wardround.carried_epsilon": "none" if epsilon is None else repr(epsilon),
            "wardround.carried_delta": "none" if delta is None else repr(delta),
        }
    if by := subgroups.in_a_tag(outcome):
        tags["wardround.subgroups"] = by
    if outcome.weights.size:
        tags["wardround.weights"] = weights_digest(outcome.weights)
    if outcome.epsilon is not None:
        tags |= {
            "wardround.epsilon": repr(outcome.epsilon),
            "wardround.delta": repr(study.privacy.delta),
        }
    if outcome.epsilon_broken is not None:
        tags["wardround.epsilon_broken"] = repr(outcome.epsilon_broken)
    return tags


def parameters(study: Study) -> dict[str, str]:
    """What tells one training from another, in a run's columns; the whole is in study.json."""
    plan, of = study.privacy, study.optimisation
    if study.query is not None:
        return {"mode": plan.mode, "statistics": str(len(study.query.statistics))}
    private = {
        "planned_epsilon": plan.epsilon,
        "delta": plan.delta,
        "noise_multiplier": plan.noise_multiplier,
        "clip_norm": plan.clip_norm,
        "sampling_rate": plan.sampling_rate,
    }
    known = {
        "task": study.task.name,
        "algorithm": of.local.name,
        "rounds": of.rounds,
        "local_steps": of.local_steps,
        "local_lr": of.local_lr,
        "server_optimiser": of.server.name,
        "server_lr": of.server.lr,
        "seed": of.seed,
        "mode": plan.mode,
        **(private if plan.traits.private else {}),
        "sites": len(study.roster),
        "patients_declared": study.patients(),
        **{f"option_{name}": value for name, value in study.task.options.items()},
    }
    return {name: str(value) for name, value in known.items()}


def round_metrics(report: RoundReport) -> Iterator[tuple[str, float]]:
    """A round's figures, and its costs as `system/...`, which MLflow shows apart. What matters
    comes first: MLflow's page that compares runs opens on the metric that was written first. The
    seconds come last: a round that has them is written."""
    return _known(
        [
            *_shown(report.metrics),
            ("epsilon", _shown_epsilon(report.epsilon)),
            ("participants", report.participants),
            ("system/bytes_sent", report.bytes_sent),
            ("system/bytes_received", report.bytes_received),
            (SECONDS, report.seconds),
        ]
    )


def final_metrics(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """The released model's figures under the same names, as the last values of each, and what was
    spent in the end."""
    return _known(
        [
            *_shown(outcome.metrics),
            *query_report.metrics(outcome),
            *analysis_report.metrics(outcome.analysis),
            ("epsilon", _shown_epsilon(outcome.epsilon)),
        ]
    )


def _shown_epsilon(epsilon: float | None) -> float | None:
    """Rounded up to what MLflow shows of it, so that no table rounds it down."""
    known = epsilon is not None and math.isfinite(epsilon)
    return float(rounded_up(epsilon)) if known else epsilon


def _shown(metrics: Mapping[str, Estimate]) -> Iterator[tuple[str, float]]:
    """Those that a table of runs has room for, and the first one's interval; all of them, with
    their intervals, are in the model card."""
    shown = [name for name in _SHOWN if name in metrics]
    for name in shown:
        yield name, metrics[name].value
    for name in shown[:1]:
        yield from ((f"{name}_low", metrics[name].low), (f"{name}_high", metrics[name].high))


def _known(figures: Iterable[tuple[str, float | None]]) -> Iterator[tuple[str, float]]:
    """The figures that are known and finite. An infinite epsilon stays: MLflow shows 1.8e308."""
    for name, value in figures:
        if value is not None and (math.isfinite(value) or (value > 0 and "epsilon" in name)):
            yield name, value
