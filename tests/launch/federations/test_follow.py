"""A deployment's study goes on at the coordinator while its data scientist is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch.config.compose import load
from launch.federations.deployment import RemoteFederation
from launch.studies import run as launched
from launch.studies.progress import StudyProgress
from launch.studies.resume import resume
from launch.studies.run import release_unfinished, run
from protocol.errors import Code, WardroundError
from server.outcome import Outcome, RoundReport
from server.rounds.listener import Listener
from tests.server.hospitals import Deployment, credentials, deployed
from tests.waiting import HUNG, until

WORDS = ("privacy=none", "rounds=3", "federation=deployment", "tracking=off")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("follow")) as found:
        found.connect()
        yield found


class Leaving(StudyProgress):
    """A person who presses Ctrl-C after the first round."""

    def round(self, report: RoundReport) -> None:
        super().round(report)
        raise KeyboardInterrupt


def left(
    deployment: Deployment, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[Path, str]:
    """Credentials, and the digest of a study that was left after its first round."""
    known = {row["study"] for row in deployment_rows(deployment)}
    path = credentials(deployment.config, deployment.coordinator.address, name)
    with monkeypatch.context() as patched:
        patched.setattr(launched, "StudyProgress", Leaving)
        with pytest.raises(KeyboardInterrupt):
            run(load([*WORDS, f"federation.credentials={path}", f"output={folder}", *words]))
    (digest,) = {row["study"] for row in deployment_rows(deployment)} - known
    return path, digest


def deployment_rows(deployment: Deployment) -> list[dict[str, Any]]:
    return [study.row() for study in deployment.coordinator.studies()]


def test_a_study_that_was_left_is_followed_to_its_end(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest = left(deployment, "ada", tmp_path, monkeypatch, "federation.on_interrupt=leave")
    folder = tmp_path / digest[:12]
    assert {file.name for file in folder.iterdir()} == {"study.json", "configuration.yaml"}
    finished = resume(str(folder), [])
    assert finished.outcome.status == "finished"
    assert [report.round for report in finished.outcome.rounds] == [1, 2, 3]
    assert json.loads((folder / "summary.json").read_text())["study"] == digest
    again = resume(
        digest[:10],
        ["federation=deployment", f"federation.credentials={path}", f"output={tmp_path / 'b'}"],
    )
    assert np.array_equal(again.outcome.weights, finished.outcome.weights)
    with pytest.raises(WardroundError, match="No studies at the coordinator begin"):
        resume("ffff", ["federation=deployment", f"federation.credentials={path}"])


def test_ctrl_c_cancels_for_good_unless_told_otherwise(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest = left(deployment, "bob", tmp_path, monkeypatch, "rounds=2000")
    study = deployment.coordinator.study(digest)
    assert study is not None
    until(lambda: study.state == "cancelled", "cancelled")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WardroundError, match="was cancelled") as refused:
        resume(digest[:12], ["federation=deployment", f"federation.credentials={path}"])
    assert refused.value.code is Code.USAGE
    assert "on_interrupt" in refused.value.remedy


def test_a_study_that_is_cancelled_leaves_its_last_model_as_unfinished(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest = left(
        deployment, "eve", tmp_path, monkeypatch, "rounds=2000", "federation.on_interrupt=leave"
    )
    with RemoteFederation(path) as remote:
        until(lambda: remote.study(digest)["round"] >= 1, "a round is done")
        remote.cancel(digest, wait=HUNG)
    study = deployment.coordinator.study(digest)
    assert study is not None
    until(lambda: study.state == "cancelled", "cancelled")
    with RemoteFederation(path) as remote, pytest.raises(KeyboardInterrupt):
        remote.follow(digest, study.study, kept := Kept())
    (outcome,) = kept.outcomes
    assert (outcome.status, outcome.released) == ("killed", "unfinished")
    assert outcome.weights.shape == (study.study.model.parameters,)
    assert 0 < len(outcome.rounds) < 2000
    assert release_unfinished(outcome, tmp_path, None)
    said = json.loads((tmp_path / "unfinished.json").read_text())
    assert (said["status"], said["model"]) == ("killed", "unfinished")
    assert said["epsilon"] == outcome.epsilon
    assert not (tmp_path / "summary.json").exists()


class Kept(Listener):
    """Keeps the outcome."""

    def __init__(self) -> None:
        self.outcomes = list[Outcome]()

    def finish(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
