"""The demo's hospitals with images and records: a PACS sends the images, a table has the records.

As radiology.py, with a generated record for every patient; some have no record, and some lost
their picture on the way (or had it set aside), which the view keeps as a missing side.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from launch.demo.hospitals import part_of
from launch.demo.radiology import RadiologyHospitals
from launch.demo.synthetic_radiographs import Radiograph
from tasks.datasets.generated_patients import record
from tasks.schema import SPLIT

_NO_PICTURE, _NO_RECORD = 0.1, 0.1
_VIEW = """\
SELECT pseudonym(labels.record_number) AS patient, images.image AS radiograph,
  labels.* EXCLUDE (record_number, accession_number)
FROM labels LEFT JOIN images
  ON images.accession = pseudonym(labels.accession_number)
  AND images.modality IN ('CR', 'DX') AND images.view_position IN ('PA', 'AP')"""


class FusionHospitals(RadiologyHospitals):
    """Hospitals whose patients have a radiograph, a record, or both."""

    view: ClassVar[str] = _VIEW

    def columns(self, site: str, made: list[Radiograph]) -> dict[str, Any]:
        """One row a patient: the first radiograph's accession number and the record."""
        first = {one.patient: one for one in reversed(made)}
        chosen = [first[patient] for patient in sorted(first)]
        generator = np.random.default_rng([len(made), *site.encode()])
        values = record(np.array([one.ill for one in chosen]), generator)
        absent = generator.random(len(chosen)) < _NO_RECORD
        for column in values.values():
            column[absent] = None if column.dtype == object else np.nan
        lost = (generator.random(len(chosen)) < _NO_PICTURE) & ~absent
        return {
            "record_number": [one.patient for one in chosen],
            "accession_number": [
                None if gone else one.accession for one, gone in zip(chosen, lost, strict=True)
            ],
            **values,
            "pneumonia": [int(one.ill) for one in chosen],
            SPLIT: [part_of(site, one.patient) for one in chosen],
        }
