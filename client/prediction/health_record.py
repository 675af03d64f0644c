"""Predictions for the health record: HL7 FHIR R4 as NDJSON, a resource and a Provenance each.

A probability, or those of several classes, is a RiskAssessment, where it is a percentage
(https://hl7.org/fhir/R4/riskassessment.html); a number is an Observation
(https://hl7.org/fhir/R4/observation.html). Whose it is says an identifier, as the site's view or
the picture names the patient; the record's own server has to find the Patient resource.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any, assert_never

from client.data.dicom.results.structured_report import Finding
from client.prediction.allowed_model import AllowedModel
from client.prediction.findings import findings, in_full
from client.prediction.predictions import Prediction
from protocol.document import canonical, digest
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent

_FIGURE = re.compile(r'("(?:value|probabilityDecimal)": )(-?[0-9.]+e[+-]?[0-9]+)')
_SHOWN = 5
"""Of a record's contributions."""
_DICOM, _SHA256 = "urn:dicom:uid", "urn:wardround:sha256"


def ndjson(model: AllowedModel, predictions: Sequence[Prediction], when: datetime) -> bytes:
    """One resource a line; a Provenance after what it is about. when: with a time zone.

    Raises WardroundError(MALFORMED_DATA) as `SourceImage.of` does.
    """
    lines = [
        _positional(json.dumps(resource, ensure_ascii=False, allow_nan=False))
        for one in predictions
        for resource in _resources(model, one, when.isoformat(timespec="seconds"))
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _positional(text: str) -> str:
    """JSON whose figures have no exponent: R4 allows one, and not every server takes it."""
    return _FIGURE.sub(lambda found: found[1] + f"{Decimal(found[2]):f}", text)


@dataclass(frozen=True)
class _Subject:
    """Whom a resource is about, and the examination that it was made from, if any."""

    patient: str
    examination: str

    @staticmethod
    def of(one: Prediction) -> _Subject:
        if one.file is None:
            return _Subject(one.patient, "")
        from client.data.dicom.results.source_image import SourceImage

        image = SourceImage.of(one.file)
        return _Subject(image.patient_id, image.study_uid)

    def references(self, basis: str) -> dict[str, Any]:
        """The element subject, and with an examination the one called `basis`."""
        found: dict[str, Any] = {"subject": {"identifier": {"value": self.patient}}}
        if self.examination:
            found[basis] = [_identified(_DICOM, f"urn:oid:{self.examination}")]
        return found


def _resources(model: AllowedModel, one: Prediction, time: str) -> Iterator[dict[str, Any]]:
    bundle, outcome = model.bundle, model.task.outcome
    device = {"display": f"wardround {version('wardround')}, model {bundle.name}"}
    found = findings(model, one)
    match outcome:
        case Binary() | Multiclass() | MultiLabel() | Ordinal() | TimeToEvent():
            said = _risk_assessment(model, found, _Subject.of(one), time, device)
            if why := _rationale(one, "Contributions to the log odds"):
                likeliest = max(said["prediction"], key=lambda p: p["probabilityDecimal"])
                likeliest["rationale"] = why
        case Regression() | EventCount() | Segmentation():
            said = _observation(model, found, _Subject.of(one), time, device)
        case never:
            assert_never(never)
    name = digest(canonical([bundle.digest, one.record]))
    notes = [model.notice]
    if said["resourceType"] == "Observation" and (why := _rationale(one, "Contributions")):
        notes.append(why)
    said |= {"id": name, "note": [{"text": text} for text in notes]}
    yield said
    yield {
        "resourceType": "Provenance",
        "id": digest(canonical([name, "provenance"])),
        "target": [{"reference": f"{said['resourceType']}/{name}"}],
        "recorded": time,
        "agent": [{"who": device}],
        "entity": [
            {"role": "source", "what": _identified(_SHA256, bundle.digest)},
            {"role": "source", "what": _identified(_SHA256, bundle.study.digest)},
        ],
    }


def _risk_assessment(
    model: AllowedModel,
    found: Sequence[Finding],
    subject: _Subject,
    time: str,
    device: dict[str, Any],
) -> dict[str, Any]:
    return {
        "resourceType": "RiskAssessment",
        "status": "preliminary",
        "method": {"text": _method(model)},
        **subject.references("basis"),
        "occurrenceDateTime": time,
        "performer": device,
        "prediction": [
            {
                "outcome": {"text": in_full(one.of, model)},
                "probabilityDecimal": float(Decimal(repr(one.value)) * 100),
            }
            for one in found
        ],
    }


def _observation(
    model: AllowedModel,
    found: Sequence[Finding],
    subject: _Subject,
    time: str,
    device: dict[str, Any],
) -> dict[str, Any]:
    """One number is the value of the observation, several are its components."""
    each = [
        {
            "code": {"text": f"{one.measure} {in_full(one.of, model)}"},
            "valueQuantity": {"value": one.value},
        }
        for one in found
    ]
    title = {"code": {"text": f"{found[0].measure} {in_full(model.task.title, model)}"}}
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        **(each[0] if len(each) == 1 else title | {"component": each}),
        "method": {"text": _method(model)},
        **subject.references("derivedFrom"),
        "effectiveDateTime": time,
        "device": device,
    }


def _rationale(one: Prediction, measure: str) -> str:
    """The columns that contribute most; "" where nothing is explained."""
    most = sorted(one.contributions.items(), key=lambda pair: -abs(pair[1]))[:_SHOWN]
    said = ", ".join(f"{name} {value:+.2g}" for name, value in most)
    return said and f"{measure}: {said}"


def _method(model: AllowedModel) -> str:
    return f"{model.bundle.name}, sha256:{model.bundle.digest}"


def _identified(system: str, value: str) -> dict[str, Any]:
    return {"identifier": {"system": system, "value": value}}
