"""What arrives at the receiver is scored and reported, whoever is killed on the way."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydicom import dcmread

from client.cli.options import governing
from client.config.site_config import SiteConfig
from client.prediction import service
from client.prediction.scoring_run import ScoringRun
from client.prediction.scoring_run import run as run_model
from client.prediction.service import PredictionService
from client.prediction.state import PredictionState
from launch.demo.child_process import script
from launch.demo.local_ports import free_port
from tests.client.cli.conftest import Run, run
from tests.client.data.dicom.conftest import orthanc
from tests.client.data.dicom.dicom_files import CANARIES
from tests.client.data.dicom.receive.test_orthanc import pacs
from tests.client.data.dicom.running_receiver import Process
from tests.client.prediction.test_delivery import XRAY, reported
from tests.client.prediction.ward import allowing, indexed, site, with_radiographs
from tests.forked import Python
from tests.waiting import HUNG, NEVER, until

__all__ = ["orthanc", "run"]


class Following:
    """`wardround-site predict --follow --log json` as a process that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "follow.log"
        words = ["predict", "--model", str(folder / "xray.safetensors"), "--for", "new"]
        words += ["--follow", "--log", "json", "-c", str(folder / "site")]
        command = [script("wardround-site"), *words]
        self.process = Python(command, folder, self.log, self.log)

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(HUNG)


def hospital(folder: Path, pacs_port: int, **rules: Any) -> None:
    """A site with a receiver, whose PACS listens on this port."""
    allowed = allowing(XRAY, modalities=["DX"], send_to=["PACS"], **rules)
    allowed["destinations"] = {"PACS": f"127.0.0.1:{pacs_port}"}
    receiver = {"listen": "127.0.0.1:0", "calling": ["ORTHANC"], "quiet": 1, "floor": "1 MiB"}
    site(folder, allowed, imaging={"receiver": receiver, "detect_text": False})
    XRAY.write(folder / "xray.safetensors")


def reports_in(client: httpx.Client) -> list[str]:
    """The images that reports in the PACS are about, in the order of their arrival."""
    changes = client.get("/changes?limit=1000").json()["Changes"]
    instances = [change["ID"] for change in changes if change["ChangeType"] == "NewInstance"]
    return [
        reported(client.get(f"/instances/{one}/file").content)
        for one in instances
        if client.get(f"/instances/{one}/simplified-tags").json()["Modality"] == "SR"
    ]


@pytest.mark.slow
def test_what_arrives_is_answered_through_two_kills(orthanc: Path, tmp_path: Path) -> None:
    port = free_port()
    hospital(tmp_path, port)
    with Process(tmp_path / "site") as receiver:
        with pacs(orthanc, tmp_path / "orthanc", receiver.port) as client:
            told = json.loads((tmp_path / "orthanc/orthanc.json").read_text())
            path = tmp_path / "site" / "site.yaml"
            plain = yaml.safe_load(path.read_text())
            plain["policy"]["predict"]["destinations"]["PACS"] = f"127.0.0.1:{told['DicomPort']}"
            path.write_text(yaml.safe_dump(plain))
            said = [{"SOPInstanceUID": f"1.2.3.{number}"} for number in range(12)]
            files = with_radiographs(tmp_path, *said)
            for file in files:
                client.post("/instances", content=file.read_bytes()).raise_for_status()
            following = Following(tmp_path)
            sent = 0
            for studies in batches(client.get("/studies").json(), 3):
                done = client.post("/modalities/site/store", json=studies)
                assert done.json()["FailedInstancesCount"] == 0
                sent += done.json()["InstancesCount"]
                if sent < 12:
                    until(lambda: len(reports_in(client)) > 0, "a report has come")
                    assert following.end(signal.SIGKILL) == -signal.SIGKILL
                    following = Following(tmp_path)
            until(lambda: len(set(reports_in(client))) == 12, "every picture has a report")
            assert sorted(reports_in(client)) == sorted(
                str(dcmread(file).SOPInstanceUID) for file in files
            )
            assert following.end(signal.SIGTERM) == 0
        assert receiver.stop() == 0
    log = following.log.read_bytes()
    assert b"1.2.3." not in log
    assert not any(canary in log for canary in CANARIES)


def batches(studies: list[str], number: int) -> list[list[str]]:
    return [studies[part::number] for part in range(number)]


@pytest.mark.slow
def test_a_model_that_is_not_allowed_scores_nobody_and_the_service_stays(tmp_path: Path) -> None:
    hospital(tmp_path, free_port())
    path = tmp_path / "site" / "site.yaml"
    plain = yaml.safe_load(path.read_text())
    plain["policy"]["predict"]["models"] = {}
    path.write_text(yaml.safe_dump(plain))
    following = Following(tmp_path)
    until(lambda: "not scored" in [e["event"] for e in following.events()], "it is refused")
    (refused,) = (e for e in following.events() if e["event"] == "not scored")
    assert refused["code"] == "refused_policy"
    assert following.end(signal.SIGTERM) == 0


def test_a_picture_is_scored_when_it_comes_and_nothing_is_read_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of the service, as many as in a second; what a run reads is counted, not replaced."""
    hospital(tmp_path, free_port())
    config = SiteConfig.load(tmp_path / "site" / "site.yaml")
    scored: list[int] = []

    def counted(*given: Any) -> ScoringRun:
        done = run_model(*given)
        scored.append(done.scored)
        return done

    monkeypatch.setattr(service, "run", counted)
    monkeypatch.setattr(service, "_ANYWAY", NEVER)
    steps = iter(range(30))

    def arriving() -> bool:
        step = next(steps, None)
        if step in (10, 20):
            with_radiographs(tmp_path, *({"SOPInstanceUID": f"1.2.3.{n}"} for n in range(step)))
            indexed(config, tmp_path)
        return step is None

    with (
        governing(tmp_path / "site", "predict") as governance,
        PredictionState.open(config.state) as state,
    ):
        following = PredictionService(
            tmp_path / "site" / "site.yaml", str(tmp_path / "xray.safetensors"), governance.audit
        )
        following.follow(state, arriving)
        assert scored == [0, 10, 10]
        assert len(state.scored(XRAY.digest)) == 20


def test_only_what_is_new_is_followed(run: Run, tmp_path: Path) -> None:
    words = ("--model", "xray.safetensors", "--follow", "-c", tmp_path)
    assert run("predict", "--for", "cohort", *words).status == 2
    assert run("predict", "--for", "new", "--to", "a.csv", *words).status == 2
