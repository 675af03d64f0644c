"""A PACS that pushes: Orthanc takes objects in by REST and sends them to the receiver."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from pydicom import dcmread
from pydicom.uid import UID

from launch.demo.local_ports import free_port
from tests.client.data.dicom.dicom_files import CANARIES, folder_of
from tests.client.data.dicom.running_receiver import Process, site
from tests.waiting import HUNG, until

CASES = Path(__file__).parents[4] / "cases/imaging"


@contextmanager
def pacs(server: Path, folder: Path, receiver: int, **more: Any) -> Iterator[httpx.Client]:
    """more: of Orthanc's configuration."""
    folder.mkdir()
    http = free_port()
    configuration = {
        "Name": "pacs",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http,
        "DicomPort": free_port(),
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": {"site": ["WARDROUND", "127.0.0.1", receiver]},
        "Plugins": [],
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [str(server), str(folder / "orthanc.json")], stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=HUNG) as client:

            def answers() -> bool:
                assert process.poll() is None, (folder / "orthanc.log").read_text()
                with suppress(httpx.HTTPError):
                    return client.get("/system").is_success
                return False

            until(answers, "the PACS answers")
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(HUNG)
        except subprocess.TimeoutExpired:  # how a PACS ends is its own affair
            process.kill()
            process.wait()


def test_orthanc_pushes_studies_that_become_ready(orthanc: Path, tmp_path: Path) -> None:
    files = folder_of(12, tmp_path / "source")
    with Process(site(tmp_path / "alpha")) as process:
        with pacs(orthanc, tmp_path / "pacs", process.port) as client:
            for file in files:
                client.post("/instances", content=file.read_bytes()).raise_for_status()
            studies = client.get("/studies").json()
            assert len(studies) == 6
            assert client.post("/modalities/site/echo", json={}).status_code == 200
            done = client.post("/modalities/site/store", json=studies)
            assert done.status_code == 200, done.text
            assert (done.json()["InstancesCount"], done.json()["FailedInstancesCount"]) == (12, 0)
        sent = {d.SOPInstanceUID: d.PixelData for d in map(dcmread, files)}
        assert {d.SOPInstanceUID: d.PixelData for d in map(dcmread, process.stored())} == sent
        until(
            lambda: any(e["event"] == "indexed" and e["ready"] == 12 for e in process.events()),
            "all pictures are indexed",
        )
        assert process.stop() == 0
        log = process.log.read_bytes()
        assert not any(canary in log for canary in CANARIES)


def test_orthanc_pushes_a_study_with_reports_in_it(orthanc: Path, tmp_path: Path) -> None:
    """One report that is refused ends Orthanc's job: the images after it would never arrive. So
    does an object of a private class."""
    cases = [CASES / f"study_{name}.dcm" for name in ("ct0", "sr", "pr", "ct1")]
    private = dcmread(cases[1])
    private.SOPClassUID = private.file_meta.MediaStorageSOPClassUID = UID("1.3.12.2.1107.5.9.1")
    private.SOPInstanceUID = private.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4.5.6")
    private.save_as(tmp_path / "private.dcm")
    cases.insert(1, tmp_path / "private.dcm")
    with Process(site(tmp_path / "alpha")) as process:
        with pacs(orthanc, tmp_path / "pacs", process.port) as client:
            for file in cases:
                client.post("/instances", content=file.read_bytes()).raise_for_status()
            studies = client.get("/studies").json()
            done = client.post("/modalities/site/store", json=studies)
            assert done.status_code == 200, done.text
            assert (done.json()["InstancesCount"], done.json()["FailedInstancesCount"]) == (5, 0)
        assert len(process.stored()) == 2
        assert process.stop() == 0
        assert process.event("stopped")["not_needed"] == 3
