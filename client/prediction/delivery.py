"""Sends reports that wait to the AE titles that the policy allows, in order.

A destination that is away, rejects us or is full is tried again later, all its reports with it. A
report is given up, with a reason, where the destination refuses it for good, where the policy no
longer allows the destination or the model, where a reviewer has withdrawn the model, and after
GIVE_UP_AFTER. One that is about a patient who objects by now is deleted.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from client.config.prediction_rules import Predict
from client.config.site_config import SiteConfig
from client.config.site_decisions import SiteDecisions
from client.data.dicom.results.store import PeerAwayError, Refusal, association, sender_context
from client.log_events import event
from client.prediction.about import objecting
from client.prediction.state import PredictionState, Report
from protocol.address import Address
from protocol.errors import Code, WardroundError
from protocol.secret_files import refuse_shared

GIVE_UP_AFTER = 3 * 86400.0
"""Seconds."""


def deliver(state: PredictionState, config: SiteConfig) -> None:
    """One attempt at all that is due. Raises WardroundError: STATE, TLS where a certificate or key
    cannot be used, and what reading the objections raises: then nothing is sent."""
    rules, due = config.policy.predict, state.due()
    turned_down = SiteDecisions(config).turned_down
    if due and (number := state.withdraw(objecting(config))):
        event("reports withdrawn", count=number, why="their patients object")
    for title in due:
        _give_up(state, rules, turned_down, title)
        if state.next_report(title) is None:
            continue
        host, port = Address.parse(rules.destinations[title])
        tls, calling = _tls(rules, title), rules.ae_title
        try:
            with association(host, port, called=title, calling=calling, tls=tls) as send:
                _send_all(state, title, send)
        except PeerAwayError as error:
            event("reports wait", destination=title, why=str(error))
            state.put_off(title, str(error))


def _tls(rules: Predict, title: str) -> ssl.SSLContext | None:
    if (tls := rules.tls.get(title)) is None:
        return None
    refuse_shared(tls.key, "private key of policy.predict.tls")
    try:
        return sender_context(str(tls.certificate), str(tls.key), str(tls.servers))
    except OSError:
        raise WardroundError(
            Code.TLS,
            f"The certificate, key or CA for {title} cannot be used.",
            remedy="Correct policy.predict.tls in site.yaml: three PEM files.",
        ) from None


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
