"""Volumes at a site: from the slices of a scanner to a model's answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.cohorts.loading import build_cohort
from protocol.study.study import Evaluation
from tasks import registry
from tests.client.cli.conftest import Run, run
from tests.client.data.dicom.dicom_files import radiograph, written
from tests.client.prediction.ward import allowing, with_view
from tests.protocol.models.bundles import bundle

__all__ = ["run"]

TASK = registry.load("nodules")
CT = "1.2.840.10008.5.1.4.1.1.2"
VIEW = (
    "SELECT patient, string_agg(image, ' ' ORDER BY image) AS slices, 1 AS nodule "
    "FROM images GROUP BY patient ORDER BY count(*), patient"
)


def scan(folder: Path, patient: int, heights: list[float], **said: Any) -> list[Path]:
    """One series, of which each slice is brighter than the one below; sent from the head down."""
    files = []
    for number, height in enumerate(reversed(heights)):
        pixels = np.full((64, 64), 100 + 10 * height, dtype="<u2")
        slice_ = radiograph(
            2 * patient,
            PatientID=f"7770777{patient}",
            SOPClassUID=CT,
            Modality="CT",
            SOPInstanceUID=f"1.2.9.{patient}.{number + 1}",
            InstanceNumber=number + 1,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-10, -10, height],
            PixelSpacing=[1, 1],
            RescaleSlope=1,
            RescaleIntercept=-1000,
            ViewPosition=None,
            PixelData=pixels.tobytes(),
            **said,
        )
        files.append(written(slice_, folder / "pacs" / f"{patient}-{number}.dcm"))
    return files


def grey(made: Any) -> list[int]:
    return [int(of.max()) for of in np.asarray(made)]


def test_slices_stand_in_their_places_and_what_is_wrong_is_named(tmp_path: Path) -> None:
    """Spacing 5 mm: 6 of 7 slices with one missing; 8 whole; 9 of them with one twice."""
    scan(tmp_path, 1, [0, 5, 10, 20, 25, 30])
    scan(tmp_path, 2, [5.0 * k for k in range(8)])
    scan(tmp_path, 3, [0, 5, 10, 15, 15, 20, 25, 30, 35])
    (stray,) = scan(tmp_path, 4, [0.0])
    config = with_view(tmp_path, TASK.name, VIEW)
    cohort = build_cohort(config, TASK, lambda _: 0.1, Evaluation(release="exact"))
    made = {tuple(bool(of.any()) for of in one): one for one in np.asarray(cohort.features)}
    whole, gap = made[(True,) * 8], next(of for seen, of in made.items() if sum(seen) == 6)
    assert grey(whole) == sorted(grey(whole))
    assert len(set(grey(whole))) == 8
    assert not gap[0].any()
    assert not gap[4].any()
    assert stray.is_file()
    said = " ".join(cohort.notes)
    assert "1 volumes lack slices, whose places stay empty: row 2 slice 4." in said
    assert "1 volumes have slices twice, of which the first is taken: row 4 slice 4." in said
    assert "1 rows of the view are no volume and have no picture, row 1: positions" in said
    assert "7770777" not in said


def test_a_volume_has_one_score_and_one_report(run: Run, tmp_path: Path) -> None:
    scan(tmp_path, 1, [5.0 * k for k in range(8)])
    scan(tmp_path, 2, [2.5 * k for k in range(16)])
    model = bundle(TASK)
    with_view(tmp_path, TASK.name, VIEW, allowing(model, modalities=["CT"]))
    model.write(tmp_path / "model.safetensors")
    said = ("predict", "--model", tmp_path / "model.safetensors", "--for", "cohort", "--json")
    done = run(*said, "--to", tmp_path / "all.csv", "-c", tmp_path / "site")
    assert done.status == 0, done.err
    found = pd.read_csv(tmp_path / "all.csv")
    assert len(found) == 2
    assert found["score"].between(0, 1).all()
    assert found["score"][0] == pytest.approx(found["score"][1], abs=0.05)
