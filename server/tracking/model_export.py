"""Takes a registered model out of MLflow into one file: `protocol.models.bundle`."""

from __future__ import annotations

from pathlib import Path

from protocol.errors import Code, WardroundError
from protocol.models.bundle import CARD, Bundle
from protocol.study.study import Study
from protocol.vectors import Layout, pack
from server import released_model
from server.tracking import registered_model


def export(
    address: str, target: Path, *, key: str | Path | None = None, tracking_uri: str | None = None
) -> Bundle:
    """Writes the bundle of a model that its coordinator signed, checked as whoever gets it will.

    Arguments are those of `registered_model.load`. Raises WardroundError as
    `registered_model.verify` does, WEIGHTS for a model that was registered without study and card,
    and what `Bundle.write` raises.
    """
    trusted = registered_model.required_key(key)
    with registered_model.fetched(address, tracking_uri, trusted, False) as (signed, _, folder):
        if signed is None or CARD not in signed.record.files:
            raise WardroundError(
                Code.WEIGHTS,
                f"{address} was registered without its study and card.",
                remedy="An earlier release registered it: train it again with this one.",
            )
        data = (folder / CARD).parent
        study = Study.parse((data / released_model.STUDY).read_bytes())
        card = (folder / CARD).read_text(encoding="utf-8")
        weights = released_model.tensors(data / released_model.WEIGHTS)
        frozen = released_model.tensors(data / released_model.FROZEN) if study.model.frozen else {}
        layout = Layout(tuple((name, tensor.shape) for name, tensor in weights.items()))
        bundle = Bundle(signed, study, card, layout, pack(weights, layout), frozen)
    checked = Bundle.parse(bundle.to_bytes(), trusted, address)
    checked.write(target)
    return checked
