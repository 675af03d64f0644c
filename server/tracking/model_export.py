"""Takes a registered model out of MLflow into one file: `protocol.models.bundle`."""

from __future__ import annotations

from pathlib import Path

from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.models.bundle import CARD, Bundle
from protocol.models.decision import (
    DecisionHistory,
    SignedEntry,
    require_approved,
    unapproved,
)
from protocol.study.study import Study
from protocol.vectors import Layout, pack
from server import released_model
from server.tracking import registered_model


def export(
    address: str,
    target: Path,
    *,
    key: str | Path | None = None,
    tracking_uri: str | None = None,
    history: DecisionHistory | None = None,
) -> Bundle:
    """Writes the bundle of a model that its coordinator signed, checked as whoever gets it will.

    It carries the approval of a version that a reviewer has approved, and none of one that nobody
    has decided about. history: the coordinator's own record, whose last word on the version then
    counts; None: what MLflow has, which may be an older one. Other arguments are those of
    `registered_model.load`. Raises WardroundError as
    `registered_model.verify` does, WEIGHTS for a model that was registered without study and card,
    REFUSED_POLICY for one that was rejected or withdrawn, or whose decision the coordinator did not
    sign, and what `Bundle.write` raises.
    """
    trusted = registered_model.required_key(key)
    with registered_model.fetched(address, tracking_uri, trusted, False) as found:
        signed, address = found.record, found.address
        if signed is None or CARD not in signed.record.files:
            raise WardroundError(
                Code.WEIGHTS,
                f"{address} was registered without its study and card.",
                remedy="An earlier release registered it: train it again with this one.",
            )
        data = (found.folder / CARD).parent
        study = Study.parse((data / released_model.STUDY).read_bytes())
        card = (found.folder / CARD).read_text(encoding="utf-8")
        weights = released_model.tensors(data / released_model.WEIGHTS)
        frozen = released_model.tensors(data / released_model.FROZEN) if study.model.frozen else {}
        layout = Layout(tuple((name, tensor.shape) for name, tensor in weights.items()))
        record, approval = digest(signed.text.encode()), None
        decision = SignedEntry.of_tags(found.tags)
        if history is not None:
            last = history.last(record)
            if last is None and decision is not None:
                raise unapproved(address, "its coordinator has no such decision in its record")
            decision = None if last is None else last.signed
        if decision is not None:
            approval = require_approved(address, decision, record, trusted)
        bundle = Bundle(signed, study, card, layout, pack(weights, layout), frozen, approval)
    checked = Bundle.parse(bundle.to_bytes(), trusted, address)
    checked.write(target)
    return checked
