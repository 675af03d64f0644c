"""What a model says of each pixel as a DICOM Segmentation (PS3.3, A.51) over the image."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationFractionalTypeValues,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from client.data.dicom.pixels.back_projection import back_projected
from client.data.dicom.results.structured_report import (
    LONG_STRING,
    MAKER,
    SCHEME,
    ModelStatement,
    derived_uid,
    reported_image,
)

_MASK_SERIES = 99019
_STRUCTURE = CodedConcept("123037004", "SCT", "Anatomical Structure")


@dataclass(frozen=True)
class SegmentationText:
    """What an object of segments says of itself. name: tells its identifiers from those of others
    of the same image and model; number: of its series; label, description: of its content."""

    name: str
    number: int
    label: str
    description: str


def mask(
    file: Path,
    model: ModelStatement,
    classes: npt.NDArray[np.uint8],
    names: Sequence[str],
    when: datetime,
) -> tuple[str, bytes]:
    """A segment for each structure, on an image, as a DICOM file in the image's own study: its UID
    and its content.

    classes: (rows, columns) of the prepared picture, 0 for none and k for names[k - 1]. Raises
    WardroundError(MALFORMED_DATA) as `segments` does."""
    every = np.arange(1, len(names) + 1)[:, None, None]
    segments_of = [
        (_STRUCTURE, CodedConcept(f"class{k}", SCHEME, name[:LONG_STRING]))
        for k, name in enumerate(names, start=1)
    ]
    text = SegmentationText("mask", _MASK_SERIES, "MASK", "Structures that a model sees")
    shares = (255 * (classes[None] == every)).astype(np.uint8)
    return segments(file, model, shares, segments_of, text, when, SegmentationTypeValues.BINARY)


def segments(
    file: Path,
    model: ModelStatement,
    shares: npt.NDArray[np.uint8],
    concepts: Sequence[tuple[CodedConcept, CodedConcept]],
    text: SegmentationText,
    when: datetime,
    kind: SegmentationTypeValues = SegmentationTypeValues.FRACTIONAL,
) -> tuple[str, bytes]:
    """shares: (segments, rows, columns) of the prepared picture, 255 for all. concepts: category
    and type of each segment.

    Raises WardroundError(MALFORMED_DATA) as `reported_image` does, and for an image of several
    frames."""
    with reported_image(file) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote patients' names
        if int(image.get("NumberOfFrames") or 1) > 1:
            raise ValueError
        algorithm = AlgorithmIdentificationSequence(
            name=f"{model.name}, sha256:{model.digest}"[:LONG_STRING],
            family=codes.DCM.ArtificialIntelligence,
            version=model.version,
        )
        described = [
            SegmentDescription(
                segment_number=number,
                segment_label=of_type.meaning,
                segmented_property_category=category,
                segmented_property_type=of_type,
                algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
            )
            for number, (category, of_type) in enumerate(concepts, start=1)
        ]
        if "ImageOrientationPatient" in image and not image.get("SliceThickness"):
            image.SliceThickness = image.SpacingBetweenSlices  # a slice has one, in a Segmentation
        laid = np.stack([back_projected(one, image) for one in shares], axis=-1)
        fractional = kind is SegmentationTypeValues.FRACTIONAL
        made = Segmentation(
            source_images=[image],
            pixel_array=(laid / np.float32(255) if fractional else laid > 127)[None],
            segmentation_type=kind,
            fractional_type=SegmentationFractionalTypeValues.PROBABILITY,
            segment_descriptions=described,
            series_instance_uid=derived_uid(
                model.digest, image.StudyInstanceUID, f"{text.name} series"
            ),
            series_number=text.number,
            sop_instance_uid=derived_uid(model.digest, image.SOPInstanceUID, text.name),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=f"{model.name} {model.version}"[:LONG_STRING],
            software_versions=version(MAKER),
            device_serial_number=model.digest,
            series_description=model.use[:LONG_STRING],
            content_description=f"{text.description}. {model.use}"[:LONG_STRING],
            content_label=text.label,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=False,
        )
        made.ContentDate, made.ContentTime = DA(when.date()), TM(f"{when:%H%M%S}")
        made.PatientOrientation = image.get("PatientOrientation") or ""
        for measures in made.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", ()):
            if "SpacingBetweenSlices" not in image:  # highdicom makes one up for a single slice
                measures.pop("SpacingBetweenSlices", None)
        buffer = io.BytesIO()
        made.save_as(buffer, enforce_file_format=True)
        return str(made.SOPInstanceUID), buffer.getvalue()
