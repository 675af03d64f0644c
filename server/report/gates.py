"""The gates of a study (`protocol.study.gates`), judged by what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from protocol.outcomes.estimates import Estimate
from protocol.privacy.epsilon_text import rounded_up
from protocol.study.subgroups import MISSING
from server.outcome import Outcome

TAG = "wardround.gate."
AUDIT = "audit"
_AWAITED = "who approves shows the report of `wardround audit --study`"


@dataclass(frozen=True)
class Gate:
    """One gate. says: what was asked for and what came of it, in words. awaited: that comes with
    the approval."""

    name: str
    passed: bool
    says: str
    awaited: bool = False

    @property
    def verdict(self) -> str:
        """Whether it holds, in a word."""
        if self.awaited:
            return "awaited"
        return "passed" if self.passed else "FAILED"

    @property
    def tag(self) -> tuple[str, str]:
        """As MLflow shows it."""
        return f"{TAG}{self.name}", f"{self.verdict}: {self.says}"


def judged(outcome: Outcome, launched_by: str) -> tuple[Gate, ...]:
    """The study's gates; none where it states none. launched_by: the account that submitted it."""
    gates = outcome.study.gates
    if gates is None:
        return ()
    found = list(_metrics(outcome))
    if gates.epsilon is not None:
        found.append(_epsilon(outcome.epsilon, gates.epsilon))
    if gates.card:
        found.append(_card(outcome, launched_by))
    found += _gaps(outcome, gates.gaps)
    if gates.audit:
        found.append(Gate(AUDIT, False, _AWAITED, awaited=True))
    return tuple(found)


def failed(gates: tuple[Gate, ...]) -> tuple[str, ...]:
    """The gates that do not hold, in words; without what comes with the approval."""
    wanting = (gate for gate in gates if not gate.passed and not gate.awaited)
    return tuple(f"{gate.name}: {gate.says}" for gate in wanting)


def _metrics(outcome: Outcome) -> Iterator[Gate]:
    gates = outcome.study.gates
    for name, bound in sorted({} if gates is None else gates.metrics.items()):
        found = outcome.metrics.get(name)
        more = outcome.study.outcome.metrics[name].better == "more"
        asked = f"at {'least' if more else 'most'} {bound:g}"
        if found is None:
            yield Gate(name, False, f"{asked} was asked for, and it was not measured")
            continue
        holds = found.low >= bound if more else found.high <= bound
        yield Gate(name, holds, f"{_shown(found)}; all of the interval must be {asked}")


def _epsilon(spent: float | None, most: float) -> Gate:
    if spent is None or not math.isfinite(spent):
        return Gate("epsilon", False, f"at most {most:g} was asked for, and no epsilon is claimed")
    return Gate("epsilon", spent <= most, f"{rounded_up(spent)} spent; at most {most:g}")


def _gaps(outcome: Outcome, most: Mapping[str, float]) -> Iterator[Gate]:
    """Every level that the study names must have been measured: of one that is not shown nobody
    knows. "missing", often nobody, counts where it is shown."""
    named = len(outcome.study.evaluation.subgroups)
    for metric, bound in sorted(most.items()):
        name, asked = f"gap_{metric}", f"all of each difference's interval within {bound:g}"
        unknown = [
            f"{of.name} {level.level}"
            for of in outcome.subgroups
            for level in of.levels
            if level.level != MISSING and metric not in level.metrics
        ]
        found = [
            (f"{of.name} {one.level} less {one.reference}", one.difference)
            for of in outcome.subgroups
            for one in of.differences
            if one.metric == metric
        ]
        wide = [
            f"{what} {_shown(of)}"
            for what, of in found
            if not (-bound <= of.low and of.high <= bound)
        ]
        if unknown or len(outcome.subgroups) < named:
            lacking = ", ".join(unknown) or "any subgroup"
            yield Gate(name, False, f"{asked} was asked for, and not shown is {lacking}")
        elif wide:
            yield Gate(name, False, f"{'; '.join(wide)}; {asked} was asked for")
        else:
            yield Gate(name, True, f"{len(found)} differences; {asked}")


def _card(outcome: Outcome, launched_by: str) -> Gate:
    missing = [
        what
        for what, there in (
            ("who launched it", launched_by),
            ("how well it does", outcome.metrics),
            ("whom to ask", outcome.study.contact.strip()),
            ("how many hospitals agreed", outcome.approvals.by_hand + outcome.approvals.by_rule),
        )
        if not there
    ]
    says = f"the card does not say {' and '.join(missing)}" if missing else "the card is complete"
    return Gate("card", not missing, says)


def _shown(of: Estimate) -> str:
    value, low, high = (
        "unknown" if math.isnan(one) else f"{one:.4g}" for one in (of.value, of.low, of.high)
    )
    return f"{value} ({low} to {high})"
