"""The gates of a study (`protocol.study.gates`), judged by what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from protocol.outcomes.estimates import Estimate
from protocol.privacy.epsilon_text import rounded_up
from server.outcome import Outcome

TAG = "wardround.gate."


@dataclass(frozen=True)
class Gate:
    """One gate. says: what was asked for and what came of it, in words."""

    name: str
    passed: bool
    says: str

    @property
    def tag(self) -> tuple[str, str]:
        """As MLflow shows it."""
        return f"{TAG}{self.name}", f"{'passed' if self.passed else 'FAILED'}: {self.says}"


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
    return tuple(found)


def failed(gates: tuple[Gate, ...]) -> tuple[str, ...]:
    """The gates that do not hold, in words."""
    return tuple(f"{gate.name}: {gate.says}" for gate in gates if not gate.passed)


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
    return f"{of.value:.4g} ({of.low:.4g} to {of.high:.4g})"
