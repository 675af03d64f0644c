"""Where a score comes from, as a DICOM Segmentation (PS3.3, A.51) over the image that it is of.

One fractional segment: at each pixel how much what the model says falls once its surroundings are
covered, as a share of the largest fall (`tasks.explanations.occlusion_map`). It is no finding.
"""

from __future__ import annotations

import io
import warnings
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

_SERIES = 99018
_INFLUENCE = "Influence on the score"


def influence_map(
    file: Path, model: ModelStatement, influence: npt.NDArray[np.uint8], when: datetime
) -> tuple[str, bytes]:
    """The map on an image as a DICOM file in the image's own study: its UID and its content.

    influence: (rows, columns) of the prepared picture, 255 for the largest. Raises
    WardroundError(MALFORMED_DATA) as `reported_image` does, and for an image of several frames."""
    with reported_image(file) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote patients' names
        if int(image.get("NumberOfFrames") or 1) > 1:
            raise ValueError
        segment = SegmentDescription(
            segment_number=1,
            segment_label=_INFLUENCE,
            segmented_property_category=CodedConcept(
                "309825002", "SCT", "Spatial and Relational Concept"
            ),
            segmented_property_type=CodedConcept("influence", SCHEME, _INFLUENCE),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=AlgorithmIdentificationSequence(
                name=f"{model.name}, sha256:{model.digest}"[:LONG_STRING],
                family=codes.DCM.ArtificialIntelligence,
                version=model.version,
            ),
        )
        if "ImageOrientationPatient" in image and not image.get("SliceThickness"):
            image.SliceThickness = image.SpacingBetweenSlices  # a slice has one, in a Segmentation
        shares = back_projected(influence, image).astype(np.float32) / 255
        made = Segmentation(
            source_images=[image],
            pixel_array=shares[None],
            segmentation_type=SegmentationTypeValues.FRACTIONAL,
            fractional_type=SegmentationFractionalTypeValues.PROBABILITY,
            segment_descriptions=[segment],
            series_instance_uid=derived_uid(model.digest, image.StudyInstanceUID, "map series"),
            series_number=_SERIES,
            sop_instance_uid=derived_uid(model.digest, image.SOPInstanceUID, "map"),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=f"{model.name} {model.version}"[:LONG_STRING],
            software_versions=version(MAKER),
            device_serial_number=model.digest,
            series_description=model.use[:LONG_STRING],
            content_description=f"{_INFLUENCE}. {model.use}"[:LONG_STRING],
            content_label="INFLUENCE",
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
