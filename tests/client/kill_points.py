"""Where a daemon can be killed in these tests: named points, wrapped around it from outside.

`arm` is called in the daemon's process before it starts; the product knows nothing of it. At the
point the process gets SIGKILL: no handler, no flush, as if the power had gone (but for what the
kernel holds, which tests of the state folder cover by their own means).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from client.daemon.daemon import Daemon
from client.governance.approvals import Approvals
from client.governance.audit import Audit
from client.governance.audit_head import ChainHead
from client.governance.audit_replay import AuditEvent
from client.governance.governance import SiteGovernance
from client.governance.ledger import Ledger
from client.training.contribution import Contributor
from client.transport.fleet_connection import FleetConnection
from protocol.secagg.party import Party
from protocol.wire.messages import Ready, Share

Condition = Callable[..., bool]


def _always(*_: Any, **__: Any) -> bool:
    return True


def _debits(_audit: Any, _db: Any, event: AuditEvent, *_: Any, **__: Any) -> bool:
    return event == AuditEvent.PRIVACY_DEBITED


def _ready(_governance: Any, answer: object, *_: Any, **__: Any) -> bool:
    return isinstance(answer, Ready)


def _share(_governance: Any, answer: object, *_: Any, **__: Any) -> bool:
    return isinstance(answer, Share)


def _sending(kind: bytes) -> Condition:
    return lambda _fleet, _delivery, frame: b'"type":"' + kind + b'"' in frame.header


POINTS: dict[str, tuple[type, str, bool, Condition]] = {
    # name: (owner, method, after it has returned?, at which calls)
    "proposed, nothing recorded": (Approvals, "propose", False, _always),
    "recorded, not accepted": (Ledger, "accept", False, _always),
    "accepted, not said": (SiteGovernance, "propose", True, _always),
    "asked, not debited": (SiteGovernance, "debit", False, _always),
    "inside the debit's transaction": (Audit, "append_within", True, _debits),
    "debit committed, head not written": (ChainHead, "write", False, _always),
    "debited, nothing computed": (SiteGovernance, "debit", True, _always),
    "computed, not said": (Contributor, "contribution", True, _always),
    "ready not noted": (SiteGovernance, "answered", False, _ready),
    "ready noted, not sent": (SiteGovernance, "answered", True, _ready),
    "ready sent": (FleetConnection, "reply", True, _sending(b"ready")),
    "asked to sum": (Party, "share", False, _always),
    "noise drawn": (Contributor, "noise", True, _always),
    "share masked, not noted": (SiteGovernance, "answered", False, _share),
    "share noted, not sent": (SiteGovernance, "answered", True, _share),
    "share sent": (FleetConnection, "reply", True, _sending(b"share")),
    "told that it is over": (SiteGovernance, "close", False, _always),
    "closed": (SiteGovernance, "close", True, _always),
}
"""ChainHead.write happens for every entry: an attempt's first is the debit's, see `arm`."""


def arm(point: str | None, record: Path) -> None:
    """Records every attempt whose data is touched; kills at `point`, the first time."""
    _record_attempts(record)
    serve = Daemon._serve

    def serving(self: Daemon, *args: Any) -> None:
        _State.serving = True
        serve(self, *args)

    patch.object(Daemon, "_serve", serving).start()
    if point is None:
        return
    owner, name, after, condition = POINTS[point]
    original: Callable[..., Any] = getattr(owner, name)
    debiting = owner is ChainHead

    def killing(*args: Any, **kwargs: Any) -> Any:
        now = _State.debiting if debiting else _State.serving
        hit = now and condition(*args, **kwargs)
        if hit and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killing)


class _State:
    serving = False
    """Studies open from before have been taken up: what is proposed now comes from outside."""
    debiting = False
    here = threading.local()
    """`attempt` of each thread: what it debited last, a study's digest and a number."""


def _record_attempts(record: Path) -> None:
    """Before a contribution is computed, says so in a file: what the ledger must not lack."""
    debit, contribution = SiteGovernance.debit, Contributor.contribution

    def noting(self: SiteGovernance, study: Any, round_: int, attempt: int, sections: Any) -> None:
        _State.here.attempt, _State.debiting = (study.digest, attempt), True
        try:
            debit(self, study, round_, attempt, sections)
        finally:
            _State.debiting = False

    def telling(self: Contributor, *args: Any) -> Any:
        study, attempt = _State.here.attempt
        with record.open("a") as file:
            file.write(f"{study} {attempt}\n")
        while record.with_name(f"held {study}").exists():  # it trains for as long as a test likes
            time.sleep(0.01)
        return contribution(self, *args)

    patch.object(SiteGovernance, "debit", noting).start()
    patch.object(Contributor, "contribution", telling).start()
