"""What a model says of an image as a DICOM measurement report (PS3.16, TID 1500, Comprehensive SR).

Its unique identifiers follow from the image and the model: the same result is the same object
however often it is made, so that a PACS which was sent it twice has it once (IHE AI Results).
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from protocol.errors import Code
from protocol.untrusted import parsing

SCHEME = "99WARDROUND"
MAKER = "wardround"
_SERIES = 99017
LONG_STRING, _SHORT_STRING = 64, 16
"""Characters of VR LO and SH (PS3.5, section 6.2)."""
_PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Of type 2: there, though possibly empty (PS3.3, C.7.1.1 and C.7.2.1)."""


_AGE = "PatientAge"
_TIME = r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"
_FORMS = {
    "PatientBirthDate": r"\d{8}",
    "StudyDate": r"\d{8}",
    "StudyTime": _TIME,
    _AGE: r"\d{3}[DWMY]",
}
"""Of what results copy from their image (PS3.5, section 6.2)."""


@dataclass(frozen=True)
class ModelStatement:
    """What a report says of its model. use: what it may be used for; limits: in which of this
    site's pictures. digest: of its bundle."""

    name: str
    version: str
    digest: str
    study: str
    use: str
    limits: str


@dataclass(frozen=True)
class Finding:
    """A number that a model says, without a unit: `measure` (such as "Probability of") `of`
    what."""

    measure: str
    of: str
    value: float


def structured_report(
    file: Path, model: ModelStatement, found: Sequence[Finding], when: datetime
) -> tuple[str, bytes]:
    """The report on an image as a DICOM file in the image's own study: its UID and its content.

    Raises WardroundError(MALFORMED_DATA) for an image that is of no study, or cannot be read any
    more.
    """
    with reported_image(file) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote patients' names
        buffer = io.BytesIO()
        report = _report(image, model, found, when)
        report.save_as(buffer, enforce_file_format=True)
        return str(report.SOPInstanceUID), buffer.getvalue()


@contextmanager
def reported_image(file: Path) -> Iterator[Dataset]:
    """The header of the image that a result is made about, in Unicode.

    Raises WardroundError(MALFORMED_DATA) for one that is of no study, or cannot be read any more,
    and for whatever fails while a result of it is made."""
    with parsing(
        "A picture that was scored cannot be reported on: it is gone, or names no study.",
        Code.MALFORMED_DATA,
        "Run `wardround-site index`, and look at it with `wardround-site images`.",
    ):
        image = dcmread(file, stop_before_pixels=True)
        for name in _PATIENT_AND_STUDY:
            if name not in image:
                setattr(image, name, "")
        if not image.StudyInstanceUID or not image.SOPInstanceUID:
            raise ValueError
        _mend(image)
        image.decode()
        image.SpecificCharacterSet = "ISO_IR 192"  # what results are written in, whatever it was
        yield image


def _mend(image: Dataset) -> None:
    """Writes dates and times of ACR-NEMA (1997.04.24, 11:20:00) as today, and leaves empty or out
    what is none: a result is not withheld for what a scanner wrote of another thing."""
    for name, form in _FORMS.items():
        written = str(image.get(name) or "").strip()
        plain = written if name == _AGE else written.replace(":", "").rstrip()
        plain = plain.replace(".", "") if name.endswith("Date") else plain
        if name == _AGE and name in image and not re.fullmatch(form, plain):
            del image[name]
        elif name != _AGE:
            setattr(image, name, plain if _is_valid(name, plain, form) else "")


def _is_valid(name: str, text: str, form: str) -> bool:
    if not re.fullmatch(form, text):
        return False
    if name.endswith("Date"):
        try:
            datetime.strptime(text, "%Y%m%d")  # a day, in no zone
        except ValueError:
            return False
    return True


def _report(
    image: Dataset, model: ModelStatement, found: Sequence[Finding], when: datetime
) -> Dataset:
    return ComprehensiveSR(
        evidence=[image],
        content=_content(image, model, found),
        series_instance_uid=derived_uid(model.digest, image.StudyInstanceUID, "series"),
        series_number=_SERIES,
        sop_instance_uid=derived_uid(model.digest, image.SOPInstanceUID, "report"),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=True,
        is_final=False,
        series_description=model.use[:LONG_STRING],
        manufacturer_model_name=f"{model.name} {model.version}"[:LONG_STRING],
        software_versions=version(MAKER),
        content_date=when.date(),
        content_time=when.time().replace(microsecond=0, tzinfo=None),
    )


def _content(image: Dataset, model: ModelStatement, found: Sequence[Finding]) -> MeasurementReport:
    algorithm = AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[f"model sha256:{model.digest}", f"study sha256:{model.study}"],
        manufacturer=MAKER,
    )
    group = MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(
            uid=derived_uid(model.digest, image.SOPInstanceUID, "finding"), identifier=model.name
        ),
        algorithm_id=algorithm,
        measurements=[_measured(one) for one in found],
        source_images=[SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)],
    )
    for text in (model.use, f"Intended for {model.limits}."):
        group[0].ContentSequence.append(TextContentItem(codes.DCM.Comment, text, "CONTAINS"))
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid(model.digest, "", "device"),
        name=model.name,
        manufacturer_name=MAKER,
        model_name=model.version,
    )
    return MeasurementReport(
        ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device)),
        CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _measured(one: Finding) -> Measurement:
    name = CodedConcept(
        hashlib.sha256(one.of.encode()).hexdigest()[:_SHORT_STRING],
        SCHEME,
        f"{one.measure} {one.of}"[:LONG_STRING],
    )
    measured = Measurement(name, one.value, CodedConcept("1", "UCUM", "no units"))
    measured[0].MeasuredValueSequence[0].FloatingPointValue = one.value  # with all its bits
    return measured


def derived_uid(digest: str, of: str, what: str) -> str:
    """Always the same of what a model said of something: from a hash, as from a UUID (PS3.5,
    B.2)."""
    hashed = hashlib.sha256(f"{what}\0{digest}\0{of}".encode()).digest()
    return f"2.25.{int.from_bytes(hashed[:16])}"
