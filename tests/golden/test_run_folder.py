"""What a study on a data scientist's machine left behind: its result, or enough to go on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from launch.studies.resume import resume
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from server.tracking import backlog
from tests.golden.opened import HERE, Golden, code_of, everywhere

CLOSE = 1e-3
"""Another machine's arithmetic may differ in the last bits, and training carries that on."""


def folder_of(outputs: Path, *, finished: bool) -> Path:
    (found,) = (p for p in outputs.iterdir() if (p / "summary.json").exists() == finished)
    return found


@pytest.fixture
def outputs(golden: Golden, tmp_path: Path) -> Path:
    return golden.copy("outputs", tmp_path)


def test_an_interrupted_study_goes_on_to_the_end_that_it_would_have_had(
    golden: Golden, outputs: Path
) -> None:
    folder = folder_of(outputs, finished=False)
    before = [json.loads(line) for line in (folder / "rounds.jsonl").open()]
    finished = resume(str(folder), [])
    assert finished.folder == folder
    assert [report.round for report in finished.outcome.rounds] == list(range(1, 9))
    told = finished.outcome.rounds[: len(before)]
    assert [report.seconds for report in told] == [report["seconds"] for report in before]
    wanted = np.load(golden / "weights_uninterrupted.npy")
    np.testing.assert_allclose(finished.outcome.weights, wanted, rtol=0, atol=CLOSE)
    metrics = {name: of.value for name, of in finished.outcome.metrics.items()}
    then = golden.json("metrics_uninterrupted.json")
    assert set(then) - set(metrics) <= {"calibration_error"}, "slope and intercept replaced it"
    for name in then.keys() & metrics.keys():
        assert metrics[name] == pytest.approx(then[name], abs=0.02), name
    assert (folder / "summary.json").exists()
    assert not (folder / "checkpoint.pt").exists()


def test_a_finished_study_is_not_run_again(golden: Golden, outputs: Path) -> None:
    folder = folder_of(outputs, finished=True)
    with pytest.raises(WardroundError, match="has finished") as refused:
        resume(str(folder), [])
    assert refused.value.code is Code.USAGE
    summary = json.loads((folder / "summary.json").read_text())
    study = Study.parse((folder / "study.json").read_bytes())
    assert summary["study"] == study.digest
    assert folder.name == study.digest[:12]
    assert np.array_equal(
        np.load(folder / "weights.npy"), np.load(golden / "weights_uninterrupted.npy")
    )


@pytest.mark.parametrize(("release", "name"), everywhere("twins/checkpoint_bad_*.pt"))
def test_a_damaged_checkpoint_is_not_gone_on_from(release: str, name: str, tmp_path: Path) -> None:
    folder = folder_of(Golden(HERE / release).copy("outputs", tmp_path), finished=False)
    shutil.copyfile(HERE / release / name, folder / "checkpoint.pt")
    with pytest.raises(WardroundError) as refused:
        resume(str(folder), [])
    assert refused.value.code is code_of(name, Code.STATE)
    assert refused.value.remedy


@pytest.mark.parametrize("twin", ["spaces", "unknown_field", "not_utf8", "half"])
def test_a_damaged_study_is_not_gone_on_with(golden: Golden, outputs: Path, twin: str) -> None:
    folder = folder_of(outputs, finished=False)
    shutil.copyfile(golden / f"studies/study_bad_{twin}.json", folder / "study.json")
    with pytest.raises(WardroundError) as refused:
        resume(str(folder), [])
    assert refused.value.code is code_of(twin, Code.REFUSED_STUDY)


def test_what_mlflow_did_not_take_can_still_be_delivered(golden: Golden, outputs: Path) -> None:
    (folder,) = (golden / "undelivered").iterdir()
    outcome, configuration, release = backlog.read(folder)
    finished = folder_of(outputs, finished=True)
    summary = json.loads((finished / "summary.json").read_text())
    assert outcome.study.digest == summary["study"]
    assert outcome.status == "finished"
    assert np.array_equal(outcome.weights, np.load(finished / "weights.npy"))
    assert [report.round for report in outcome.rounds] == list(range(1, 9))
    assert {name: of.value for name, of in outcome.metrics.items()} == {
        name: of["value"] for name, of in summary["metrics"].items()
    }
    assert configuration["task"]["name"] == "recovery"
    assert release == golden.folder.name
