"""A prediction of a picture as the DICOM objects that go back to the PACS."""

from __future__ import annotations

from datetime import datetime

from client.config.prediction_rules import ModelRules
from client.data.dicom.results.influence_map import influence_map
from client.data.dicom.results.structured_report import ModelStatement, structured_report
from client.prediction.allowed_model import AllowedModel
from client.prediction.findings import findings
from client.prediction.predictions import Prediction
from protocol.errors import Code, WardroundError


def reports(model: AllowedModel, one: Prediction, when: datetime) -> dict[str, bytes]:
    """UID -> DICOM file: the report and, where the prediction is explained, the map.

    Raises WardroundError(MALFORMED_DATA) as `structured_report` does, and for a prediction without
    a picture."""
    if one.file is None:
        raise WardroundError(
            Code.MALFORMED_DATA,
            "A prediction is of no picture, so that no DICOM report can be made.",
            remedy="Write a table or FHIR instead.",
        )
    record = model.bundle.signed.record
    said = ModelStatement(
        name=record.model,
        version=record.version,
        digest=model.bundle.digest,
        study=model.bundle.study.digest,
        use=model.notice,
        limits=_limits(model.rules),
    )
    made = dict([structured_report(one.file, said, findings(model, one), when)])
    if one.influence is not None:
        made.update([influence_map(one.file, said, one.influence, when)])
    return made


def _limits(rules: ModelRules) -> str:
    stated = (
        ("modality", rules.modalities),
        ("body part", rules.body_parts),
        ("view", rules.views),
    )
    return "pictures of " + ", ".join(
        f"{name} {' or '.join(allowed)}" for name, allowed in stated if allowed
    )
