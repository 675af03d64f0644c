"""A prediction of a picture as the DICOM report that goes back to the PACS."""

from __future__ import annotations

from datetime import datetime

from client.config.prediction_rules import ModelRules
from client.data.dicom.results.structured_report import ModelStatement, structured_report
from client.prediction.allowed_model import AllowedModel
from client.prediction.findings import findings
from client.prediction.predictions import Prediction
from protocol.errors import Code, WardroundError


def report(model: AllowedModel, one: Prediction, when: datetime) -> tuple[str, bytes]:
    """UID and content of a DICOM file.

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
    return structured_report(one.file, said, findings(model, one), when)


def _limits(rules: ModelRules) -> str:
    stated = (
        ("modality", rules.modalities),
        ("body part", rules.body_parts),
        ("view", rules.views),
    )
    return "pictures of " + ", ".join(
        f"{name} {' or '.join(allowed)}" for name, allowed in stated if allowed
    )
