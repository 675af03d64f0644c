"""Predictions for the health record: HL7 FHIR R4 as NDJSON, a RiskAssessment and a Provenance each.

https://hl7.org/fhir/R4/riskassessment.html. A probability is a percentage there. Whose it is says
an identifier, as the site's view or the picture names the patient; the record's own server has to
find the Patient resource.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from client.prediction.allowed_model import AllowedModel
from client.prediction.predictions import Prediction
from protocol.document import canonical, digest

_DICOM, _SHA256 = "urn:dicom:uid", "urn:wardround:sha256"


def ndjson(model: AllowedModel, predictions: Sequence[Prediction], when: datetime) -> bytes:
    """One resource a line; a Provenance after what it is about. when: with a time zone.

    Raises WardroundError(MALFORMED_DATA) as `SourceImage.of` does.
    """
    lines = [
        json.dumps(resource, ensure_ascii=False)
        for one in predictions
        for resource in _resources(model, one, when)
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _resources(model: AllowedModel, one: Prediction, when: datetime) -> Iterator[dict[str, Any]]:
    bundle, name = model.bundle, digest(canonical([model.bundle.digest, one.record]))
    time = when.isoformat(timespec="seconds")
    device = {"display": f"wardround {version('wardround')}, model {bundle.name}"}
    patient, basis = one.patient, []
    if one.file is not None:
        from client.data.dicom.results.source_image import SourceImage

        image = SourceImage.of(one.file)
        patient = image.patient_id
        basis = [_identified(_DICOM, f"urn:oid:{image.study_uid}")]
    percent = float(Decimal(repr(one.scores[0])) * 100)
    yield {
        "resourceType": "RiskAssessment",
        "id": name,
        "status": "preliminary",
        "method": {"text": f"{bundle.name}, sha256:{bundle.digest}"},
        "subject": {"identifier": {"value": patient}},
        "occurrenceDateTime": time,
        "performer": device,
        **({"basis": basis} if basis else {}),
        "prediction": [
            {
                "outcome": {"text": f"{model.task.title} ({model.task.schema.label_meaning})"},
                "probabilityDecimal": percent,
            }
        ],
        "note": [{"text": model.notice}],
    }
    yield {
        "resourceType": "Provenance",
        "id": digest(canonical([name, "provenance"])),
        "target": [{"reference": f"RiskAssessment/{name}"}],
        "recorded": time,
        "agent": [{"who": device}],
        "entity": [
            {"role": "source", "what": _identified(_SHA256, bundle.digest)},
            {"role": "source", "what": _identified(_SHA256, bundle.study.digest)},
        ],
    }


def _identified(system: str, value: str) -> dict[str, Any]:
    return {"identifier": {"system": system, "value": value}}
