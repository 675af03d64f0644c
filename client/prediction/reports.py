"""A prediction of a picture as the DICOM objects that go back to the PACS."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from client.config.prediction_rules import ModelRules
from client.data.dicom.results.influence_map import influence_map
from client.data.dicom.results.segmentation import mask
from client.data.dicom.results.structured_report import ModelStatement, structured_report
from client.prediction.allowed_model import AllowedModel
from client.prediction.findings import findings
from client.prediction.predictions import Prediction
from protocol.errors import Code, WardroundError


def report(model: AllowedModel, one: Prediction, when: datetime) -> tuple[str, bytes]:
    """UID and content of the DICOM report.

    Raises WardroundError(MALFORMED_DATA) as `structured_report` does, and for a prediction without
    a picture."""
    return structured_report(_picture(one), _statement(model), findings(model, one), when)


def explanation(model: AllowedModel, one: Prediction, when: datetime) -> dict[str, bytes]:
    """UID -> content of the map of what the score rests on; empty where there is none.

    Raises WardroundError(MALFORMED_DATA) as `influence_map` does."""
    if one.influence is None:
        return {}
    return dict([influence_map(_picture(one), _statement(model), one.influence, when)])


def drawn(model: AllowedModel, one: Prediction, when: datetime) -> dict[str, bytes]:
    """UID -> content of the mask that the model makes of the picture; empty for one that makes
    none. Raises WardroundError(MALFORMED_DATA) as `mask` does."""
    if one.mask is None:
        return {}
    names = [found.of for found in findings(model, one)]
    return dict([mask(_picture(one), _statement(model), one.mask, names, when)])


def _picture(one: Prediction) -> Path:
    if one.file is None:
        raise WardroundError(
            Code.MALFORMED_DATA,
            "A prediction is of no picture, so that no DICOM report can be made.",
            remedy="Write a table or FHIR instead.",
        )
    return one.file


def _statement(model: AllowedModel) -> ModelStatement:
    record = model.bundle.signed.record
    return ModelStatement(
        name=record.model,
        version=record.version,
        digest=model.bundle.digest,
        study=model.bundle.study.digest,
        use=model.notice,
        limits=_limits(model.rules),
    )


def _limits(rules: ModelRules) -> str:
    stated = (
        ("modality", rules.modalities),
        ("body part", rules.body_parts),
        ("view", rules.views),
    )
    return "pictures of " + ", ".join(
        f"{name} {' or '.join(allowed)}" for name, allowed in stated if allowed
    )
