"""`wardround-site predict`: whom a released model scores, what comes out, and what never does."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.provenance import Provenance
from fhir.resources.R4B.riskassessment import RiskAssessment
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from client.config.site_config import SiteConfig
from client.config.site_roster import signing_key_file
from protocol.identity import Identity
from protocol.models.bundle import Bundle
from server import released_model
from tasks import registry
from tasks.flat_model import FlatModel
from tests.client.cli.conftest import Ran, Run, run
from tests.client.data.dicom.conftest import dcmtk, dicom3tools
from tests.client.data.dicom.dicom_files import CANARIES
from tests.client.prediction.ward import (
    NAMES,
    RECORDS,
    allowing,
    chest_xray,
    indexed,
    records,
    site,
    with_radiographs,
)
from tests.protocol.models.bundles import bundle

__all__ = ["dcmtk", "dicom3tools", "run"]

MODEL = bundle()
XRAY = chest_xray()
Predict = Callable[..., Ran]


@pytest.fixture
def predict(run: Run, tmp_path: Path) -> Predict:
    """The command at the site in tmp_path/site, with a bundle."""

    def command(model: Bundle, which: str, to: str = "scores.csv") -> Ran:
        file = tmp_path / f"{model.digest}.safetensors"
        if not file.exists():
            model.write(file)
        words = ("--model", file, "--for", which, "--to", tmp_path / to, "--json")
        return run("predict", *words, "-c", tmp_path / "site")

    return command


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, float_precision="round_trip")


def loaded(model: Bundle, folder: Path) -> released_model.ReleasedModel:
    released_model.write(folder / "released", model.study, model.weights)
    return released_model.load(folder / "released")


def entries(run: Run, tmp_path: Path) -> str:
    assert run("audit", "verify", "-c", tmp_path / "site").status == 0
    return run("audit", "export", "-c", tmp_path / "site").out


@pytest.mark.parametrize("to", ["scores.csv", "scores.parquet"])
def test_a_cohorts_scores_are_those_of_load_bit_for_bit(
    to: str, predict: Predict, tmp_path: Path
) -> None:
    site(tmp_path, allowing(MODEL))
    done = predict(MODEL, "cohort", to)
    assert done.status == 0, done.err
    frame = read(tmp_path / to) if to.endswith("csv") else pd.read_parquet(tmp_path / to)
    table = records()
    rows = pd.DataFrame({name: table[name] for name in table if name != "patient"})
    expected = loaded(MODEL, tmp_path).predict(rows)["score"]
    assert frame["score"].tolist() == expected.tolist()
    assert frame["patient"].tolist() == NAMES
    assert len(set(expected)) == RECORDS
    assert set(frame["digest"]) == {MODEL.digest}
    assert set(frame["use"]) == {"Not for diagnosis. For research only."}
    assert stat.S_IMODE((tmp_path / to).stat().st_mode) == 0o600
    assert json.loads(done.out)["scored"] == RECORDS


def test_the_log_notes_model_and_counts_and_never_a_patient(
    run: Run, predict: Predict, tmp_path: Path
) -> None:
    site(tmp_path, allowing(MODEL))
    assert predict(MODEL, "cohort").status == 0
    log = entries(run, tmp_path)
    noted = [json.loads(line) for line in log.splitlines() if "patients_scored" in line]
    assert [entry["fields"] for entry in noted] == [
        {"model": MODEL.digest, "version": "model/1", "scored": RECORDS, "left_out": 0}
    ]
    assert "MRN-" not in log
    state = b"".join(f.read_bytes() for f in (tmp_path / "site").rglob("*") if f.is_file())
    assert b"MRN-" not in state


def test_what_is_new_is_scored_once(predict: Predict, tmp_path: Path) -> None:
    config = site(tmp_path, allowing(MODEL))
    assert json.loads(predict(MODEL, "new", "first.csv").out)["scored"] == RECORDS
    again = json.loads(predict(MODEL, "new", "second.csv").out)
    assert (again["scored"], again["file"]) == (0, None)
    assert not (tmp_path / "second.csv").exists()
    data = tmp_path / "data.csv"
    lines = data.read_text().splitlines()
    named = lines[1].replace("MRN-0000", "MRN-9999")
    data.write_text("\n".join([*lines, named]))
    assert json.loads(predict(MODEL, "new", "third.csv").out)["scored"] == 1
    assert read(tmp_path / "third.csv")["patient"].tolist() == ["MRN-9999"]
    assert config.state.joinpath("predictions.db").stat().st_mode & 0o077 == 0


def test_who_objects_is_left_out(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("MRN-0003\n")
    site(tmp_path, allowing(MODEL), objections={"file": str(tmp_path / "list.txt")})
    assert json.loads(predict(MODEL, "cohort").out)["scored"] == RECORDS - 1
    assert "MRN-0003" not in read(tmp_path / "scores.csv")["patient"].tolist()


def outside_hours() -> dict[str, Any]:
    """A window that ended an hour ago, whatever the time is."""
    now = datetime.now().astimezone()
    times = [f"{now - timedelta(hours=h):%H:%M}" for h in (2, 1)]
    return {"hours": [{"from": times[0], "to": times[1]}]}


@pytest.mark.parametrize(
    ("rules", "code", "says"),
    [
        ({}, "refused_policy", "does not allow the model"),
        (allowing(XRAY), "refused_policy", "does not allow the model"),
        ({"models": {MODEL.digest: {}}}, "refused_policy", "is not approved"),
        (allowing(MODEL) | outside_hours(), "outside_hours", "at this time of day"),
    ],
)
def test_nobody_is_scored_unless_the_policy_allows_the_model_now(
    rules: dict[str, Any], code: str, says: str, predict: Predict, tmp_path: Path
) -> None:
    site(tmp_path, rules)
    refused = predict(MODEL, "cohort")
    assert refused.status == 5
    assert json.loads(refused.err)["error"]["code"] == code
    assert says in refused.err
    assert not (tmp_path / "scores.csv").exists()


def test_a_model_that_another_coordinator_signed_is_refused(
    predict: Predict, tmp_path: Path
) -> None:
    config = site(tmp_path, allowing(MODEL))
    key = signing_key_file(config)
    key.write_text(Identity.generate().public_key.hex())
    assert "not signed by the coordinator" in predict(MODEL, "cohort").err
    key.unlink()
    assert "no signing key" in predict(MODEL, "cohort").err


@pytest.mark.parametrize(
    "task",
    ["digits", "diabetes_progression", "readmission_levels", "length_of_stay", "trial_survival"],
)
def test_several_classes_and_numbers_are_predicted_bit_for_bit(
    task: str, predict: Predict, tmp_path: Path
) -> None:
    model = bundle(registry.load(task))
    site(tmp_path, allowing(model), task=task)
    for to in ("scores.csv", "scores.ndjson"):
        done = predict(model, "cohort", to)
        assert done.status == 0, done.err
    table = records(task)
    columns = {name: table[name] for name in table if name != "patient"}
    expected = loaded(model, tmp_path).predict(pd.DataFrame(columns))
    frame = read(tmp_path / "scores.csv")
    assert frame[list(expected)].to_numpy().tolist() == expected.to_numpy().tolist()
    lines = [json.loads(line) for line in (tmp_path / "scores.ndjson").read_text().splitlines()]
    assert len(lines) == 2 * RECORDS
    for said, origin, row in zip(lines[::2], lines[1::2], expected.to_numpy(), strict=True):
        Provenance.model_validate(origin)
        assert origin["target"] == [{"reference": f"{said['resourceType']}/{said['id']}"}]
        assert said["note"] == [{"text": "Not for diagnosis. For research only."}]
        if task in ("digits", "readmission_levels", "trial_survival"):
            RiskAssessment.model_validate(said)
            percent = [one["probabilityDecimal"] for one in said["prediction"]]
            chances = 1 - row if task == "trial_survival" else row
            assert percent == pytest.approx(100 * chances, 1e-12)
            place = {"digits": "3: ", "readmission_levels": "2: ", "trial_survival": "by "}[task]
            spoken = [one["outcome"]["text"] for one in said["prediction"]]
            assert any(text.startswith(place) for text in spoken)
        else:
            Observation.model_validate(said)
            assert said["status"] == "preliminary"
            assert said["valueQuantity"] == {"value": row[0]}
            assert said["code"]["text"].startswith("Predicted ")


def test_figures_in_the_health_record_have_no_exponent(predict: Predict, tmp_path: Path) -> None:
    """R4 allows one, and servers reject what has one."""
    layout = FlatModel(registry.load("breast_cancer"), 3).layout
    sure = bundle(weights=np.full(layout.size, -2.5, dtype=np.float32))
    site(tmp_path, allowing(sure))
    for to in ("scores.ndjson", "scores.csv"):
        assert predict(sure, "cohort", to).status == 0
    text = (tmp_path / "scores.ndjson").read_text()
    scores = read(tmp_path / "scores.csv")["score"]
    assert scores.min() < 1e-7
    said = [json.loads(line) for line in text.splitlines()][::2]
    percent = [one["prediction"][0]["probabilityDecimal"] for one in said]
    assert percent == pytest.approx([100 * score for score in scores], 1e-12)
    assert not re.search(r"Decimal.: [0-9.]+e", text)


def test_a_model_that_gives_no_number_gives_no_result(predict: Predict, tmp_path: Path) -> None:
    layout = FlatModel(registry.load("breast_cancer"), 3).layout
    broken = bundle(weights=np.full(layout.size, np.nan, dtype=np.float32))
    site(tmp_path, allowing(broken))
    done = predict(broken, "cohort")
    assert json.loads(done.out)["reasons"] == {"the model gives no number": RECORDS}
    assert not (tmp_path / "scores.csv").exists()


def test_a_column_that_the_model_needs_is_named(predict: Predict, tmp_path: Path) -> None:
    site(tmp_path, allowing(MODEL))
    first = registry.load("breast_cancer").schema.columns[0].name
    text = (tmp_path / "data.csv").read_text()
    (tmp_path / "data.csv").write_text(text.replace(first, "something_else", 1))
    refused = predict(MODEL, "cohort")
    assert refused.status == 3
    assert first in refused.err


def radiology(folder: Path, *said: dict[str, Any], rules: dict[str, Any]) -> SiteConfig:
    with_radiographs(folder, *said)
    imaging = {"folders": [str(folder / "pacs")], "detect_text": False}
    config = site(folder, allowing(XRAY, **rules), imaging=imaging)
    indexed(config, folder)
    return config


def test_radiographs_of_an_examination_find_their_way_back(
    run: Run, predict: Predict, tmp_path: Path
) -> None:
    config = radiology(tmp_path, {}, {}, {}, rules={"modalities": ["DX"]})
    assert predict(XRAY, "A1").status == 0
    frame = read(tmp_path / "scores.csv")
    assert frame["image_uid"].tolist() == ["1.2.826.0.1.1.1.3"]
    assert frame["patient_id"].tolist() == [77707771]
    done = predict(XRAY, "cohort", "all.csv")
    assert json.loads(done.out)["scored"] == 3
    everybody = read(tmp_path / "all.csv").set_index("image_uid")
    assert everybody["score"]["1.2.826.0.1.1.1.3"] == frame["score"][0]
    assert len(set(everybody["score"])) == 3
    log = entries(run, tmp_path).encode()
    assert not any(canary in log for canary in CANARIES)
    assert config.imaging is not None


def test_a_radiographs_score_is_that_of_load_bit_for_bit(predict: Predict, tmp_path: Path) -> None:
    config = radiology(tmp_path, {}, {}, rules={"modalities": ["DX"]})
    assert predict(XRAY, "cohort").status == 0
    from client.cohorts.image_columns import with_pictures
    from client.cohorts.loading import read_images

    task = registry.load("chest_xray")
    keys = read_images(config, task)["image"]
    table, _ = with_pictures(config, task, {"radiograph": keys})
    rows = pd.DataFrame(
        {"radiograph": [png(picture) for picture in np.asarray(table["radiograph"])]}
    )
    expected = loaded(XRAY, tmp_path).predict(rows)["score"]
    assert sorted(read(tmp_path / "scores.csv")["score"]) == sorted(expected)


def png(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def test_a_radiograph_becomes_a_report_that_readers_of_dicom_take(
    predict: Predict, dicom3tools: Path, dcmtk: dict[str, Path], tmp_path: Path
) -> None:
    bare: dict[str, Any] = dict.fromkeys(("StudyID", "PatientBirthDate", "ReferringPhysicianName"))
    radiology(tmp_path, {}, {}, bare, rules={"modalities": ["DX"], "views": ["PA"]})
    assert predict(XRAY, "cohort").status == 0
    done = predict(XRAY, "cohort", "reports")
    assert done.status == 0, done.err
    scores = read(tmp_path / "scores.csv").set_index("image_uid")["score"]
    files = sorted((tmp_path / "reports").iterdir())
    assert len(files) == 3
    for file in files:
        checked = subprocess.run([dicom3tools, file], capture_output=True, text=True, check=False)
        assert "Error" not in checked.stderr + checked.stdout
        text = subprocess.run(
            [dcmtk["dsrdump"], "+Pl", file], capture_output=True, text=True, check=True
        )
        assert "Not for diagnosis. For research only." in text.stdout
        assert XRAY.digest in text.stdout
        assert XRAY.study.digest in text.stdout
        assert "view PA" in text.stdout
        report = dcmread(file)
        (image,) = (
            report.CurrentRequestedProcedureEvidenceSequence[0]
            .ReferencedSeriesSequence[0]
            .ReferencedSOPSequence
        )
        numbers = [item for item in walked(report) if item.get("ValueType") == "NUM"]
        (value,) = (item.MeasuredValueSequence[0].FloatingPointValue for item in numbers)
        notice = "Not for diagnosis. For research only."
        assert report.SeriesDescription == notice
        assert notice in [item.get("TextValue") for item in walked(report)]
        assert value == scores[image.ReferencedSOPInstanceUID]
        assert str(report.PatientID).startswith("7770777")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = predict(XRAY, "cohort", "again")
    assert again.status == 0
    uids = [
        {dcmread(file).SOPInstanceUID for file in (tmp_path / folder).iterdir()}
        for folder in ("reports", "again")
    ]
    assert uids[0] == uids[1]
    assert len(uids[0]) == 3


def walked(item: Dataset) -> Iterator[Dataset]:
    for inner in item.get("ContentSequence", ()):
        yield inner
        yield from walked(inner)


def test_a_hospital_that_is_registered_says_so(predict: Predict, tmp_path: Path) -> None:
    site(tmp_path, allowing(MODEL) | {"regulatory_identifier": "CE 0123 AB"})
    assert predict(MODEL, "cohort").status == 0
    assert set(read(tmp_path / "scores.csv")["use"]) == {"Regulatory identifier: CE 0123 AB."}


def test_records_of_fhir_are_valid_and_say_whose_and_by_which_model(
    predict: Predict, tmp_path: Path
) -> None:
    site(tmp_path, allowing(MODEL))
    assert predict(MODEL, "cohort").status == 0
    done = predict(MODEL, "cohort", "scores.ndjson")
    assert done.status == 0, done.err
    scores = read(tmp_path / "scores.csv").set_index("patient")["score"]
    lines = [json.loads(line) for line in (tmp_path / "scores.ndjson").read_text().splitlines()]
    assessments, origins = lines[::2], lines[1::2]
    assert len(assessments) == len(origins) == RECORDS
    for assessment, origin in zip(assessments, origins, strict=True):
        RiskAssessment.model_validate(assessment)
        Provenance.model_validate(origin)
        patient = assessment["subject"]["identifier"]["value"]
        (prediction,) = assessment["prediction"]
        assert prediction["probabilityDecimal"] / 100 == pytest.approx(scores[patient], 1e-15)
        assert assessment["note"] == [{"text": "Not for diagnosis. For research only."}]
        assert origin["target"] == [{"reference": f"RiskAssessment/{assessment['id']}"}]
        named = {entity["what"]["identifier"]["value"] for entity in origin["entity"]}
        assert named == {MODEL.digest, MODEL.study.digest}
    assert predict(MODEL, "cohort", "reports").status == 2


def test_a_picture_in_the_health_record_names_its_study(predict: Predict, tmp_path: Path) -> None:
    radiology(tmp_path, {}, rules={"modalities": ["DX"]})
    assert predict(XRAY, "cohort", "scores.ndjson").status == 0
    first, _ = (tmp_path / "scores.ndjson").read_text().splitlines()
    assessment = json.loads(first)
    RiskAssessment.model_validate(assessment)
    assert assessment["subject"]["identifier"]["value"] == "77707770"
    assert assessment["basis"][0]["identifier"]["value"] == "urn:oid:1.2.826.0.1.0"


@pytest.mark.parametrize("task", ["breast_cancer", "digits", "diabetes_progression"])
def test_what_a_score_rests_on_is_said_where_the_policy_wants_it(
    task: str, predict: Predict, tmp_path: Path
) -> None:
    model = bundle(registry.load(task))
    site(tmp_path, allowing(model, explain=True), task=task)
    for to in ("scores.csv", "scores.ndjson"):
        assert predict(model, "cohort", to).status == 0
    frame = read(tmp_path / "scores.csv")
    names = [column.name for column in registry.load(task).schema.columns]
    assert [c for c in frame if c.startswith("contribution_")] == [
        f"contribution_{name}" for name in names
    ]
    first = frame.iloc[0][[f"contribution_{name}" for name in names]].astype(float)
    most = str(first.abs().idxmax()).removeprefix("contribution_")
    said = json.loads((tmp_path / "scores.ndjson").read_text().splitlines()[0])
    if task == "diabetes_progression":
        Observation.model_validate(said)
        assert said["note"][1]["text"].startswith(f"Contributions: {most} ")
    else:
        RiskAssessment.model_validate(said)
        (why,) = [one["rationale"] for one in said["prediction"] if "rationale" in one]
        assert why.startswith(f"Contributions to the log odds: {most} ")


def test_a_map_of_what_a_score_rests_on_is_a_segmentation(
    predict: Predict, tmp_path: Path, dicom3tools: Path, dcmtk: Path
) -> None:
    said: list[dict[str, Any]] = [{}, {"PatientOrientation": ["R", "F"]}]
    radiology(tmp_path, *said, rules={"modalities": ["DX"], "explain": True})
    assert predict(XRAY, "cohort", "reports").status == 0
    objects = [(file, dcmread(file)) for file in sorted((tmp_path / "reports").glob("*.dcm"))]
    maps = [(file, one) for file, one in objects if one.Modality == "SEG"]
    assert (len(objects), len(maps)) == (4, 2)
    sources = {
        image.SOPInstanceUID: image for image in map(dcmread, (tmp_path / "pacs").glob("*.dcm"))
    }
    for file, one in maps:
        checked = subprocess.run([dicom3tools, file], capture_output=True, text=True)
        assert "Error" not in checked.stderr, checked.stderr
        (series,) = one.ReferencedSeriesSequence
        source = sources[series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID]
        assert (one.Rows, one.Columns) == (source.Rows, source.Columns)
        assert one.StudyInstanceUID == source.StudyInstanceUID
        assert one.PatientID == source.PatientID
        assert "Not for diagnosis" in one.SeriesDescription
        assert one.pixel_array.max() == 255
        assert 0 < (one.pixel_array > 127).mean() < 0.9
    again = predict(XRAY, "cohort", "again")
    assert again.status == 0
    assert {f.name for f in (tmp_path / "again").iterdir()} == {f.name for f, _ in objects}


def test_a_picture_outside_the_intended_use_is_counted_and_not_scored(
    predict: Predict, tmp_path: Path
) -> None:
    rules = {"modalities": ["DX"], "body_parts": ["CHEST"], "views": ["PA"]}
    said: list[dict[str, Any]] = [
        {},
        {"Modality": "CR"},
        {"ViewPosition": "LL"},
        {"BodyPartExamined": None},
    ]
    radiology(tmp_path, *said, rules=rules)
    told = json.loads(predict(XRAY, "cohort").out)
    assert (told["scored"], told["left_out"]) == (1, 3)
    assert set(told["reasons"]) == {
        f"outside the intended use by its {what}"
        for what in ("modality", "body part", "view position")
    }


def test_which_pictures_must_be_said(predict: Predict, tmp_path: Path) -> None:
    radiology(tmp_path, {}, rules={})
    refused = predict(XRAY, "cohort")
    assert refused.status == 5
    assert "does not say which pictures" in refused.err


def test_who_objects_is_in_no_picture_that_is_scored(predict: Predict, tmp_path: Path) -> None:
    radiology(tmp_path, {}, {}, {}, rules={"modalities": ["DX"]})
    (tmp_path / "list.txt").write_text("77707770\n")
    path = tmp_path / "site" / "site.yaml"
    path.write_text(path.read_text() + f"objections: {{file: {tmp_path / 'list.txt'}}}\n")
    assert json.loads(predict(XRAY, "cohort").out)["scored"] == 1
    assert read(tmp_path / "scores.csv")["patient_id"].tolist() == [77707771]
    assert predict(XRAY, "A0", "other.csv").status == 3


def test_what_is_no_table_is_refused_before_anybody_is_scored(
    predict: Predict, tmp_path: Path
) -> None:
    site(tmp_path, allowing(MODEL))
    (tmp_path / "there.csv").touch()
    for file in ("scores.xlsx", "there.csv"):
        assert predict(MODEL, "new", file).status == 2
    assert json.loads(predict(MODEL, "new").out)["scored"] == RECORDS
    assert predict(MODEL, "an accession", "other.csv").status == 2
