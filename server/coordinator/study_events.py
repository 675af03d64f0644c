"""A study's events as JSON, to and from the types of `server.outcome`, so aggregates only.

An event has `n` (1, 2, ...), `time` and `type`: submitted, resumed, waiting, searching, lost,
round, paused (by the study's owner), and one of finished, failed or cancelled at the end. A failed
or paused study may go on: submitted, resumed and so on follow. A figure that is not finite is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.document import finite
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.untrusted import parsing
from server.outcome import Outcome, RoundReport, read_metrics
from server.rounds.listener import Listener, Reason
from server.tracking.tracker import TrackingReceipt

Event = Mapping[str, Any]
ENDS = frozenset({"finished", "failed", "cancelled"})
"""Types of a study's last event."""
DURABLE = ENDS | {"paused"}
"""Types of the events that say where a study stands once nobody works on it."""


def report_to_json(report: RoundReport) -> dict[str, Any]:
    plain = asdict(report)
    return plain | {"metrics": finite(plain["metrics"])}


def report_from_json(event: Event) -> RoundReport:
    """Raises WardroundError(MESSAGE) where the event is no round's."""
    with _parsing():
        return RoundReport(
            round=int(event["round"]),
            attempt=int(event["attempt"]),
            participants=int(event["participants"]),
            seconds=float(event["seconds"]),
            bytes_sent=int(event["bytes_sent"]),
            bytes_received=int(event["bytes_received"]),
            epsilon=None if event["epsilon"] is None else float(event["epsilon"]),
            metrics=read_metrics(event["metrics"]),
        )


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """Without the study, its rounds and its weights, which have events and files of their own."""
    return dict(finite(outcome.figures()))


def outcome_from_json(
    plain: Event,
    study: Study,
    rounds: tuple[RoundReport, ...],
    weights: npt.NDArray[np.float32],
) -> Outcome:
    """weights: (P,) float32. Raises WardroundError(MESSAGE)."""
    with _parsing():
        return Outcome.of_figures(plain, study, weights, rounds)


def deliver(event: Event, listener: Listener) -> RoundReport | None:
    """Tells a listener what an event says; the report, where it is a round's.

    Raises WardroundError(MESSAGE) where the event is none of its type.
    """
    match event.get("type"):
        case "waiting" | "searching":
            with _parsing():
                why, sites = _waits_for(event["why"]), tuple(str(site) for site in event["sites"])
            listener.waiting(why, sites)
        case "lost":
            with _parsing():
                round_, attempt, said = int(event["round"]), int(event["attempt"]), event["why"]
            listener.lost(round_, attempt, str(said))
        case "round":
            report = report_from_json(event)
            listener.round(report)
            return report
    return None


def receipt_from_json(plain: Event | None) -> TrackingReceipt:
    """Where the study is in MLflow, as `dataclasses.asdict` wrote it. Raises
    WardroundError(MESSAGE)."""
    if plain is None:
        return TrackingReceipt()
    with _parsing():
        return TrackingReceipt(
            url=str(plain.get("url", "")),
            model=str(plain.get("model", "")),
            signer=str(plain.get("signer", "")),
            missing=tuple(str(what) for what in plain.get("missing", ())),
            remedy=str(plain.get("remedy", "")),
        )


def error_to_json(error: WardroundError) -> dict[str, str]:
    return {"code": error.code.value, "message": error.message, "remedy": error.remedy}


def error_from_json(plain: Event) -> WardroundError:
    """An error as the coordinator gave it; a code that this version does not know is INTERNAL."""
    try:
        code = Code(str(plain.get("code")))
    except ValueError:
        code = Code.INTERNAL
    return WardroundError(
        code, str(plain.get("message", ""))[:2000], remedy=str(plain.get("remedy", ""))[:2000]
    )


def _waits_for(why: object) -> Reason:
    match why:
        case "offline" | "approval" | "hours" | "trouble" | "suspects" | "unconfirmed":
            return why
    raise ValueError


_parsing = partial(
    parsing,
    "The coordinator sent an event that cannot be read.",
    remedy="Install the coordinator's version of wardround here (`wardround --version`).",
)
