"""Several pictures of a patient at a site: one record, and one score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from client.cohorts.loading import build_cohort
from client.data.dicom.pixels.preprocessing import Preprocessing, picture
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Patients
from protocol.study.study import Evaluation, SumRounding
from tasks import registry
from tasks.flat_model import FlatModel
from tests.client.cli.conftest import Run, run
from tests.client.prediction.ward import allowing, with_radiographs, with_view
from tests.protocol.models.bundles import bundle
from tests.tasks.several_views import MOST, SIDE, SeveralViews

__all__ = ["run"]


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    registry.register(SeveralViews)


TASK = SeveralViews(pooling="max")
VIEW = (
    "SELECT patient, string_agg(image, ' ' ORDER BY instance_number) AS views, "
    "count(*) % 2 AS square FROM images GROUP BY patient"
)
SAID: tuple[dict[str, Any], ...] = (
    *({"PatientID": "A", "AccessionNumber": "first"} for _ in range(MOST + 1)),
    {"PatientID": "B", "PixelData": bytes(10)},
    {"PatientID": "B"},
    {"PatientID": "C"},
    {"PatientID": "C", "AccessionNumber": "last"},
)
"""Of A one picture too many, of B one that cannot be read."""


def pictures(folder: Path) -> list[Path]:
    numbered = ({"SOPInstanceUID": f"1.2.3.{n}"} | one for n, one in enumerate(SAID))
    return with_radiographs(folder, *numbered)


def test_pictures_of_a_patient_are_one_record_in_the_views_order(tmp_path: Path) -> None:
    files = pictures(tmp_path)
    cohort = build_cohort(
        with_view(tmp_path, TASK.name, VIEW), TASK, lambda _: 0.1, Evaluation(release="exact")
    )
    assert cohort.patients == len(cohort.labels) == 3
    made = np.asarray(cohort.features)
    assert made.shape == (3, MOST, SIDE, SIDE)
    seen = {int(of.any(axis=(1, 2)).sum()): of for of in made}
    assert set(seen) == {1, 2, 3}
    said = Preprocessing(SIDE, SIDE)
    for place, file in enumerate(files[:MOST]):
        np.testing.assert_array_equal(seen[3][place], picture(file.read_bytes(), said))
    assert not seen[1][0].any(), "what cannot be read leaves its place empty"
    np.testing.assert_array_equal(seen[1][1], picture(files[MOST + 2].read_bytes(), said))
    assert any(f"1 rows have more than {MOST} pictures" in note for note in cohort.notes)
    assert any("1 images have no picture" in note for note in cohort.notes)


@pytest.mark.parametrize("rounding", ["patient", "site"])
def test_a_patient_is_clipped_once_however_many_pictures_there_are(
    tmp_path: Path, rounding: SumRounding
) -> None:
    """Each alone, at weights that make the gradients of all pictures large; in clip norms."""
    pictures(tmp_path)
    cohort = build_cohort(
        with_view(tmp_path, TASK.name, VIEW), TASK, lambda _: 0.1, Evaluation(release="exact")
    )
    everyone = Patients(cohort).private_sample(1.0)
    learner = DPTrainer(TASK, 0)
    weights = 3 * np.ones(learner.model.layout.size, dtype=np.float32)
    clip_norm, scale = 1e-3, 1 << 16
    for patient in range(len(everyone)):
        one = everyone.between(patient, patient + 1)
        total = learner.clipped_sum(weights, one, clip_norm, scale, rounding) / scale
        assert 0.9 < float(np.linalg.norm(total)) <= 1.01


def test_a_patient_has_one_score_for_all_pictures(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path)
    model = bundle(TASK)
    config = with_view(tmp_path, TASK.name, VIEW, allowing(model, modalities=["DX"], explain=True))
    model.write(tmp_path / "model.safetensors")
    said = ("predict", "--model", tmp_path / "model.safetensors", "--json", "-c", tmp_path / "site")
    done = run(*said, "--for", "cohort", "--to", tmp_path / "all.csv")
    assert done.status == 0, done.err
    assert json.loads(done.out)["reasons"] == {}
    found = pd.read_csv(tmp_path / "all.csv")
    cohort = build_cohort(config, TASK, lambda _: 0.1, Evaluation(release="exact"))
    flat = FlatModel(TASK, model.study.optimisation.seed)
    flat.load(model.weights)
    with torch.no_grad():
        outputs = flat.module(torch.from_numpy(np.asarray(cohort.features)).float())
    expected = TASK.scores(outputs).numpy()
    np.testing.assert_allclose(sorted(found["score"]), sorted(expected), atol=1e-5)
    one = run(*said, "--for", "last", "--to", tmp_path / "one.csv")
    assert one.status == 0, one.err
    assert len(pd.read_csv(tmp_path / "one.csv")) == 1
    reports = run(*said, "--for", "cohort", "--to", tmp_path / "reports")
    assert reports.status == 0, reports.err
    assert len(list((tmp_path / "reports").glob("*.dcm"))) == 3
