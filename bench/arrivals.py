"""From a radiograph's arrival to its report in the PACS: how long, and whether any is lost.

    python bench/arrivals.py [--alone 5] [--burst 200]

A real PACS (Orthanc) sends radiographs to `wardround-site receive` and takes the reports of
`wardround-site predict --follow`, both as processes.

arrival_to_report          the longest from one radiograph's sending to its report in the PACS, each
                           sent by itself
burst_reports_missing      of a burst, one push a study, through two kills of the scorer:
                           radiographs that have no report in the end
burst_reports_out_of_order of the same: reports that came after one of a later radiograph, by the
                           order in which the receiver had stored them
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import httpx
import yaml
from pydicom import dcmread

from support.figure import figure, load
from tests.client.data.dicom.receive.test_orthanc import pacs
from tests.client.data.dicom.running_receiver import Process
from tests.client.prediction.test_delivery import reported
from tests.client.prediction.test_service import Following, hospital
from tests.client.prediction.ward import with_radiographs

SECONDS, HUNG = 10.0, 1200.0


def waited(true: Callable[[], bool]) -> None:
    """Until it is true."""
    began = time.perf_counter()
    while not true():
        if time.perf_counter() - began > HUNG:
            raise TimeoutError
        time.sleep(0.05)


class Hospital:
    """A PACS, and a site beside it, in a folder."""

    def __init__(self, folder: Path, client: httpx.Client, receiver: Process) -> None:
        self.folder, self.client, self.receiver = folder, client, receiver
        self.sent = self._since = 0
        self._reports: list[str] = []
        told = json.loads((folder / "orthanc" / "orthanc.json").read_text())
        path = folder / "site" / "site.yaml"
        plain = yaml.safe_load(path.read_text())
        plain["policy"]["predict"]["destinations"]["PACS"] = f"127.0.0.1:{told['DicomPort']}"
        path.write_text(yaml.safe_dump(plain))
        self.following = Following(folder)

    def taken_in(self, number: int) -> list[str]:
        """New radiographs in the PACS, each a study: their identifiers there."""
        first, self.sent = self.sent, self.sent + number
        said = [
            {
                "SOPInstanceUID": f"1.2.3.{n}",
                "SeriesInstanceUID": f"1.2.4.{n}",
                "StudyInstanceUID": f"1.2.5.{n}",
            }
            for n in range(first, self.sent)
        ]
        found = []
        for file in with_radiographs(self.folder, *said):
            answer = self.client.post("/instances", content=file.read_bytes())
            found.append(str(answer.raise_for_status().json()["ParentStudy"]))
        return found

    def push(self, study: str) -> bool:
        """Whether the receiver took a study."""
        done = self.client.post("/modalities/site/store", json=[study])
        return done.is_success and done.json()["FailedInstancesCount"] == 0

    def reports(self) -> list[str]:
        """The images that reports in the PACS are about, in the order of their arrival."""
        done = False
        while not done:
            page = self.client.get(f"/changes?since={self._since}&limit=1000").json()
            for change in page["Changes"]:
                if change["ChangeType"] == "NewInstance":
                    content = self.client.get(f"/instances/{change['ID']}/file").content
                    if str(dcmread(BytesIO(content)).Modality) == "SR":
                        self._reports.append(reported(content))
            self._since, done = page["Last"], page["Done"]
        return self._reports

    def answered(self, study: str) -> float:
        """Seconds from a radiograph's sending to its report."""
        before, began = len(self.reports()), time.perf_counter()
        assert self.push(study)
        waited(lambda: len(self.reports()) > before)
        return time.perf_counter() - began


def burst(here: Hospital, number: int) -> tuple[int, int]:
    """Radiographs without a report, and reports out of order. The scorer is killed after a third of
    the pushes, and again after two thirds."""
    before = len(here.reports())
    for at, study in enumerate(here.taken_in(number)):
        if at in (number // 3, 2 * number // 3):
            assert here.following.end(signal.SIGKILL) == -signal.SIGKILL
            here.following = Following(here.folder)
        assert here.push(study)
    waited(lambda: len(set(here.reports())) >= before + number)
    found = here.reports()[before:]
    stored = sorted(here.receiver.stored(), key=lambda file: file.stat().st_mtime_ns)
    order = {
        str(dcmread(f, stop_before_pixels=True).SOPInstanceUID): n for n, f in enumerate(stored)
    }
    first = list(dict.fromkeys(found))
    places = [order[uid] for uid in first]
    late = sum(place < max(places[:at], default=-1) for at, place in enumerate(places))
    return number - len(set(found)), late


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--alone", type=int, default=5)
    parser.add_argument("--burst", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hospital(folder, 1)
        with (
            Process(folder / "site") as receiver,
            pacs(Path("/usr/sbin/Orthanc"), folder / "orthanc", receiver.port) as client,
        ):
            here = Hospital(folder, client, receiver)
            try:
                first, *studies = here.taken_in(1 + asked.alone)
                here.answered(first)  # the processes are up
                spent = [here.answered(study) for study in studies]
                held = [
                    figure(
                        "arrival_to_report", max(spent), "s", SECONDS, alone=asked.alone,
                        shortest=round(min(spent), 2), load=load(),
                    )
                ]  # fmt: skip
                began = time.perf_counter()
                lost, late = burst(here, asked.burst)
                took = {"of": asked.burst, "seconds": round(time.perf_counter() - began, 1)}
                held.append(figure("burst_reports_missing", lost, "reports", 0, kills=2, **took))
                held.append(figure("burst_reports_out_of_order", late, "reports", 0, **took))
            finally:
                here.following.end(signal.SIGTERM)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
