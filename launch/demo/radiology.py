"""The demo's hospitals whose data are pictures: a PACS sends, they receive, index, gate, decode.

Every radiograph is synthetic (synthetic_radiographs.py). The receivers are processes of their own,
and what comes out is read as a daemon reads it: through the index, the cache and the site's view.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table as Grid

from client.cohorts.loading import build_cohort
from client.config.site_config import SiteConfig
from client.data.cohort import Cohort
from client.data.dicom.index.index import ImageIndex
from client.enrolment import new_site
from launch.demo import dicom_sender, synthetic_radiographs
from launch.demo.child_process import GuardedProcess, script, stop_all
from launch.demo.hospitals import answers, part_of, write_csv
from launch.demo.local_ports import free_port
from launch.demo.synthetic_radiographs import SCANNER_MODELS, Radiograph
from launch.federations.inprocess import split_of
from protocol.errors import Code, WardroundError
from protocol.study.study import Evaluation
from tasks.base import Task
from tasks.schema import SPLIT

PREVALENCE = {"east": 0.55, "north": 0.3, "south": 0.45, "west": 0.2}
_PATIENTS, _SIDE, _SEED = 150, 144, 7
_INDEXING = 240.0
_VIEW = """\
SELECT images.patient, images.image AS radiograph, labels.pneumonia, labels.split
FROM images JOIN labels ON images.accession = pseudonym(labels.accession_number)
WHERE images.modality IN ('CR', 'DX') AND images.view_position IN ('PA', 'AP')"""


@dataclass(frozen=True)
class RadiologyHospitals:
    """Four hospitals, each with two makes of scanner, and a PACS that sends to them."""

    task: Task
    evaluation: Evaluation

    view: ClassVar[str] = _VIEW

    def columns(self, site: str, made: list[Radiograph]) -> dict[str, Any]:
        """What the hospital's own records say of these radiographs, as a table `labels`."""
        return {
            "accession_number": [one.accession for one in made],
            "pneumonia": [int(one.ill) for one in made],
            SPLIT: [part_of(site, one.patient) for one in made],
        }

    def make(self, folder: Path, console: Console) -> dict[str, Cohort]:
        """Raises WardroundError: UNREACHABLE where a receiver does not start, INTERNAL where
        what was sent is not indexed in time; and what `build_cohort` raises."""
        console.print("Every picture in this demo is synthetic: drawn, it shows nobody.")
        sites, files = {}, {}
        for number, site in enumerate(sorted(PREVALENCE)):
            with console.status(f"drawing radiographs for {site}"):
                scanners = (
                    SCANNER_MODELS[number % len(SCANNER_MODELS)],
                    SCANNER_MODELS[(number + 1) % len(SCANNER_MODELS)],
                )
                made = synthetic_radiographs.cohort(
                    site, _PATIENTS, PREVALENCE[site], scanners, _SEED + number
                )
                pacs = folder / "pacs" / site
                files[site] = synthetic_radiographs.write(made, _SIDE, _SEED + number, pacs)
                sites[site] = self._hospital(folder, site, made)
        receivers = {
            site: GuardedProcess(
                [
                    script("wardround-site"),
                    "receive",
                    "--config",
                    str(folder / site / new_site.SITE_YAML),
                ],
                folder / f"receiver-{site}.log",
                {"OMP_NUM_THREADS": "1"},
            )
            for site, config in sites.items()
        }
        try:
            for site, config in sites.items():
                with console.status(f"the PACS sends {len(files[site])} pictures to {site}"):
                    _send(config, files[site], folder / f"receiver-{site}.log")
            with console.status("indexing, and looking for burned-in names"):
                for site, config in sites.items():
                    _until_indexed(config, len(files[site]), folder / f"receiver-{site}.log")
        finally:
            stop_all(list(receivers.values()))
        console.print(_gated(sites, {site: len(sent) for site, sent in files.items()}))
        with console.status("decoding each picture once"):
            return {
                site: build_cohort(config, self.task, split_of(site), self.evaluation)
                for site, config in sites.items()
            }

    def examples(self) -> dict[str, bytes]:
        """A sheet of pictures drawn like those that were sent."""
        return {"synthetic_radiographs.png": synthetic_radiographs.sheet(_SIDE, _SEED)}

    def _hospital(self, folder: Path, site: str, made: list[Radiograph]) -> SiteConfig:
        labels = folder / "data" / f"{site}.csv"
        labels.parent.mkdir(exist_ok=True, mode=0o700)
        write_csv(self.columns(site, made), labels)
        new_site.init(folder / site, answers(site, self.task, labels))
        rules = folder / site / new_site.SITE_YAML
        receiver = {
            "ae_title": site.upper(),
            "listen": f"127.0.0.1:{free_port()}",
            "calling": [dicom_sender.AE_TITLE],
            "quiet": 2,
            "floor": "0 MiB",
        }
        text = rules.read_text().replace("{records:", "{labels:")
        view = f"view: {json.dumps(self.view)}"
        text = re.sub(r"(?m)^    view: .*", lambda _: f"    {view}", text, count=1)
        imaging = f"imaging:\n  receiver: {json.dumps(receiver)}\n\n# The rules."
        rules.write_text(text.replace("# The rules.", imaging, 1))
        return SiteConfig.load(rules)


def _send(config: SiteConfig, files: list[Path], log: Path) -> None:
    receiver = config.imaging.receiver if config.imaging is not None else None
    if receiver is None:
        raise WardroundError(Code.INTERNAL, "The demo's hospital has no receiver.")
    host, port = receiver.address
    kept = dicom_sender.send(files, host, port, receiver.ae_title)
    if kept != len(files):
        raise WardroundError(
            Code.INTERNAL,
            f"The receiver of {config.site} kept {kept} of {len(files)} pictures.",
            remedy=f"Its log is {log}.",
        )


def _until_indexed(config: SiteConfig, sent: int, log: Path) -> None:
    deadline = time.monotonic() + _INDEXING
    while time.monotonic() < deadline:
        with contextlib.suppress(WardroundError):
            counts = _counts(config)
            if sum(counts.values()) >= sent and not counts.get(_NOT_LOOKED):
                return
        time.sleep(0.5)
    raise WardroundError(
        Code.INTERNAL,
        f"What {config.site} received is not indexed.",
        remedy=f"Its log is {log}.",
    )


_NOT_LOOKED = "not yet looked at for burned-in text"


def _counts(config: SiteConfig) -> dict[str, int]:
    with ImageIndex.open(config.state, config.imaging.gate if config.imaging else None) as index:
        return index.counts()


def _gated(sites: dict[str, SiteConfig], sent: dict[str, int]) -> Grid:
    """What each hospital received, and why some is kept out."""
    grid = Grid("hospital", "sent", "ready", "kept out", box=None)
    for site, config in sites.items():
        counts = _counts(config)
        aside = ", ".join(f"{count} {why}" for why, count in sorted(counts.items()) if why)
        grid.add_row(site, str(sent[site]), str(counts.get("", 0)), aside)
    return grid
