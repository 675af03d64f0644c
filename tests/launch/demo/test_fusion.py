"""The fusion demo's records: one row a patient, whose sides may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.data.cohort import Cohort
from launch.demo.fusion import FusionHospitals
from launch.demo.hospitals import write_csv
from launch.demo.synthetic_radiographs import SCANNER_MODELS, cohort
from protocol.study.study import Evaluation
from tasks.schema import PATIENT, SPLIT
from tasks.shipped.fusion import RADIOGRAPH, Fusion

_TASK = Fusion()


def _columns() -> Mapping[str, Any]:
    made = cohort("east", 60, 0.4, SCANNER_MODELS[:2], 7)
    return FusionHospitals(_TASK, Evaluation(release="exact")).columns("east", made)


def test_every_patient_has_one_row_with_the_columns_of_the_task() -> None:
    columns = _columns()
    assert len(set(columns["record_number"])) == len(columns["record_number"]) >= 60
    named = set(_TASK.schema.names) - {PATIENT, RADIOGRAPH}
    assert set(columns) == named | {"record_number", "accession_number", SPLIT}
    lost = np.array([accession is None for accession in columns["accession_number"]])
    absent = np.isnan(columns["temperature"])
    assert 0 < lost.sum() < 20
    assert 0 < absent.sum() < 20
    assert not (lost & absent).any()


def test_the_rows_make_a_cohort_with_or_without_pictures(tmp_path: Path) -> None:
    columns = dict(_columns())
    write_csv(columns, tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text().count("\n") == len(columns["record_number"]) + 1
    patients = np.array(columns.pop("record_number"), dtype=object)
    pictures = np.zeros((len(patients), 28, 28), np.uint8)
    pictures[::2, 5:9, 5:9] = 200
    table = {name: np.asarray(values) for name, values in columns.items()}
    built = Cohort.build(
        _TASK,
        {**table, PATIENT: patients, RADIOGRAPH: pictures},
        lambda _: 0.0,
        Evaluation(release="exact"),
    )
    assert built.patients == len(patients)
    assert built.features[::2, _TASK.width].all()
    assert not built.features[1::2, _TASK.width].any()
