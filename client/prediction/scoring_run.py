"""One run of a model over a site's records: allowed, selected, scored, noted, handed on.

What is handed on goes to files, or into the outbox for the destinations that the policy names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.config.site_config import SiteConfig
from client.governance.audit import Audit
from client.governance.audit_replay import AuditEvent
from client.prediction import results
from client.prediction.about import about
from client.prediction.allowed_model import AllowedModel
from client.prediction.predictions import Prediction, Progress, predict
from client.prediction.selection import NEW, select
from client.prediction.state import PredictionState
from client.prediction.watched import to_keep
from protocol.errors import Code, WardroundError


@dataclass(frozen=True)
class ScoringRun:
    """What a run came to. reasons: why records have no score or no result -> how many.
    reads_records: whether the model reads columns beside pictures."""

    model: str
    digest: str
    use: str
    scored: int
    left_out: int
    reasons: Mapping[str, int]
    reads_records: bool


def run(
    config: SiteConfig,
    audit: Audit,
    state: PredictionState,
    bundle: Path,
    which: str,
    to: Path | None,
    progress: Progress = lambda done, of: None,
) -> ScoringRun:
    """which: as `selection.select` has it. to: what to write; None: reports go into the outbox.

    The audit log notes the run before anything is written; an empty one only where `to` is given.
    Raises WardroundError as its parts do, and REFUSED_POLICY where reports are to be sent nowhere.
    """
    now = datetime.now().astimezone()
    model = AllowedModel.open(config, bundle, now)
    if to is not None:
        results.refuse_unfit(to, model.task)
    elif not model.rules.send_to or not model.task.schema.images:
        raise WardroundError(
            Code.REFUSED_POLICY,
            f"Reports of {model.bundle.name} may be sent nowhere.",
            remedy="For a model of pictures, name AE titles in send_to of its rules in "
            "policy.predict.models; or write files: --to.",
            rule="predict.models.send_to",
        )
    digest = model.bundle.digest
    known = state.scored(digest) if which == NEW else frozenset()
    selection = select(config, model, which, known.__contains__)
    found = predict(config, model, selection, progress)
    made, unfit = found.made, Counter[str]()
    counts = {"scored": len(made), "left_out": sum(found.left_out.values())}
    if made or to is not None:
        audit.append(AuditEvent.PATIENTS_SCORED, model=digest, version=model.bundle.name, **counts)
    if to is None:
        queued = results.reports(model, sorted(made, key=_arrival), now)
        unfit, patients = queued.faults, about(config, queued.patients.values())
        state.add(
            digest,
            (one.record for one in made),
            model.rules.send_to,
            queued.objects,
            to_keep(config, model, made),
            dict(zip(queued.patients, patients, strict=True)),
        )
    elif made:
        unfit = results.write(to, model, made, now)
        records = (one.record for one in made)
        state.add(digest, records, watched=to_keep(config, model, made))
    return ScoringRun(
        model.bundle.name, digest, model.notice, **counts,
        reasons=dict(Counter(found.left_out) + unfit),
        reads_records=bool(model.task.schema.columns),
    )  # fmt: skip


def _arrival(one: Prediction) -> float:
    """When its picture came, in ns; reports go out in this order."""
    try:
        return 0.0 if one.file is None else one.file.stat().st_mtime_ns
    except OSError:
        return 0.0
