"""A study's tags and flat metrics in MLflow: public facts and pooled figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from protocol.outcomes.estimates import Estimate
from protocol.study.study import Study
from protocol.vectors import weights_digest
from server.answers import analysis_report, query_report
from server.outcome import Outcome, RoundReport
from server.tracking.model_card import describe


def opening_tags(study: Study, code_version: str, parent: str | None) -> dict[str, str]:
    """Tags of a run that begins. parent: the run below which MLflow shows it."""
    return {
        "wardround.study": study.digest,
        "wardround.purpose": study.purpose,
        "wardround.task": f"{study.task.name} {study.task.version}",
        "wardround.task_source": study.task.source,
        "wardround.mode": study.privacy.mode,
        "wardround.sites": str(len(study.roster)),
        "wardround.code_version": code_version,
        "mlflow.note.content": describe(study),
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


def round_metrics(report: RoundReport) -> Iterator[tuple[str, float]]:
    """A round's figures; an interval's ends are metrics of their own, `_low` and `_high`."""
    return _known(
        [
            ("seconds", report.seconds),
            ("bytes_sent", report.bytes_sent),
            ("bytes_received", report.bytes_received),
            ("participants", report.participants),
            ("attempt", report.attempt),
            ("epsilon", report.epsilon),
            *_spread(report.metrics),
        ]
    )


def final_metrics(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """The released model's figures as `final_...`, epsilon at the end, and totals."""
    return _known(
        [
            *((f"final_{name}", of) for name, of in _spread(outcome.metrics)),
            *query_report.metrics(outcome),
            *analysis_report.metrics(outcome.analysis),
            ("epsilon", outcome.epsilon),
            ("epsilon_broken", outcome.epsilon_broken),
            ("total_seconds", outcome.seconds),
            ("total_bytes_sent", outcome.bytes_sent),
            ("total_bytes_received", outcome.bytes_received),
        ]
    )


def _spread(metrics: Mapping[str, Estimate]) -> Iterator[tuple[str, float]]:
    for name, of in metrics.items():
        yield from ((name, of.value), (f"{name}_low", of.low), (f"{name}_high", of.high))


def _known(figures: Iterable[tuple[str, float | None]]) -> Iterator[tuple[str, float]]:
    """The figures that are known and finite. An infinite epsilon stays: MLflow shows 1.8e308."""
    for name, value in figures:
        if value is not None and (math.isfinite(value) or (value > 0 and "epsilon" in name)):
            yield name, value
