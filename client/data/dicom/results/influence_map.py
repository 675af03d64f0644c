"""Where a score comes from, as a DICOM Segmentation over the image that it is of.

One fractional segment: at each pixel how much what the model says falls once its surroundings are
covered, as a share of the largest fall (`tasks.explanations.occlusion_map`). It is no finding.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from highdicom.sr import CodedConcept

from client.data.dicom.results.segmentation import SegmentationText, segments
from client.data.dicom.results.structured_report import SCHEME, ModelStatement

_INFLUENCE = "Influence on the score"
_TEXT = SegmentationText("map", 99018, "INFLUENCE", _INFLUENCE)
_CONCEPTS = (
    CodedConcept("309825002", "SCT", "Spatial and Relational Concept"),
    CodedConcept("influence", SCHEME, _INFLUENCE),
)


def influence_map(
    file: Path, model: ModelStatement, influence: npt.NDArray[np.uint8], when: datetime
) -> tuple[str, bytes]:
    """The map on an image as a DICOM file in the image's own study: its UID and its content.

    influence: (rows, columns) of the prepared picture, 255 for the largest. Raises
    WardroundError(MALFORMED_DATA) as `segments` does."""
    return segments(file, model, influence[None], [_CONCEPTS], _TEXT, when)
