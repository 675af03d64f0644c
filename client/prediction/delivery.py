"""Sends reports that wait to the AE titles that the policy allows, in order.

A destination that is away, rejects us or is full is tried again later, all its reports with it. A
report is given up, with a reason, where the destination refuses it for good, where the policy no
longer allows the destination or the model, where a reviewer has withdrawn the model, and after
GIVE_UP_AFTER.
"""

from __future__ import annotations

from collections.abc import Callable

from client.config.prediction_rules import Predict
from client.data.dicom.results.store import PeerAwayError, Refusal, association
from client.log_events import event
from client.prediction.state import PredictionState, Report
from protocol.address import Address

GIVE_UP_AFTER = 3 * 86400.0
"""Seconds."""


def deliver(state: PredictionState, rules: Predict, turned_down: Callable[[str], str]) -> None:
    """One attempt at all that is due. turned_down: a model's digest -> why a reviewer has taken it
    back, "" where none has. Raises WardroundError(STATE)."""
    for title in state.due():
        _give_up(state, rules, turned_down, title)
        if state.next_report(title) is None:
            continue
        host, port = Address.parse(rules.destinations[title])
        try:
            with association(host, port, called=title, calling=rules.ae_title) as send:
                _send_all(state, title, send)
        except PeerAwayError as error:
            event("reports wait", destination=title, why=str(error))
            state.put_off(title, str(error))


def _give_up(
    state: PredictionState, rules: Predict, turned_down: Callable[[str], str], title: str
) -> None:
    number = 0
    while (report := state.next_report(title, number)) is not None:
        number = report.number
        why = _hopeless(report, rules, state.clock()) or turned_down(report.model)
        if why:
            state.give_up(report, why)


def _hopeless(report: Report, rules: Predict, now: float) -> str:
    if report.destination not in rules.destinations:
        return "the policy no longer allows this destination"
    if report.model not in rules.models:
        return "the policy no longer allows its model"
    if now - report.added > GIVE_UP_AFTER:
        return f"not taken within {GIVE_UP_AFTER / 86400:.0f} days"
    return ""


def _send_all(state: PredictionState, title: str, send: Callable[[bytes], Refusal | None]) -> None:
    while (report := state.next_report(title)) is not None:
        refusal = send(report.content)
        if refusal is None:
            state.taken(report)
        else:
            event("report given up", destination=title, why=refusal.why)
            state.give_up(report, refusal.why)
