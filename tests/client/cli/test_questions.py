"""`wardround-site init` at a real terminal: it asks for what no option says."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from client.cohorts.loading import read_table
from client.config.site_config import SiteConfig
from launch.demo import synthetic_radiographs
from launch.demo.child_process import script
from launch.demo.synthetic_radiographs import SCANNER_MODELS, Radiograph
from tests.client.cli.conftest import Run
from tests.waiting import HUNG

PATIENTS = 4


def asked(folder: Path, options: list[str], answers: list[str]) -> tuple[int, str]:
    """The status of `init site OPTIONS`, and the screen. The answers are typed ahead."""
    terminal, its_end = pty.openpty()
    try:
        os.write(terminal, "".join(f"{answer}\n" for answer in answers).encode())
        process = subprocess.Popen(
            [script("wardround-site"), "init", "site", *options],
            cwd=folder,
            stdin=its_end,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        shown, _ = process.communicate(timeout=HUNG)
    finally:
        os.close(terminal)
        os.close(its_end)
    return process.returncode, shown


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A folder with labels.csv, and with radiographs in pacs/."""
    drawn = [Radiograph(f"P{k}", f"A{k}", k % 2 == 0, SCANNER_MODELS[0]) for k in range(PATIENTS)]
    synthetic_radiographs.write(drawn, 64, 3, tmp_path / "pacs")
    rows = [f"{one.accession},{int(one.ill)}" for one in drawn]
    (tmp_path / "labels.csv").write_text("\n".join(["accession_number,pneumonia", *rows]) + "\n")
    return tmp_path


def test_a_site_for_pictures_of_a_folder_reads_them(hospital: Path, run: Run) -> None:
    answers = ["labels.csv", "", "pacs"]
    status, shown = asked(hospital, ["--site", "north", "--task", "chest_xray"], answers)
    assert status == 0, shown
    config = SiteConfig.load(hospital / "site/site.yaml")
    assert config.policy.tasks == ("chest_xray",)
    assert run("index", "-c", hospital / "site").status == 0
    assert len(read_table(config, "chest_xray")["patient"]) == PATIENTS


def test_what_cannot_be_is_asked_again(hospital: Path) -> None:
    answers = [
        *("St Mary", "st-mary"),
        *("X-rays", "chest_xray"),
        *("nowhere.csv", "labels.csv"),
        *("A TITLE OF MORE THAN SIXTEEN", "PACS"),
        *("port 11112", "0.0.0.0:11112"),
        *("coordinator", ""),
    ]
    status, shown = asked(hospital, [], answers)
    assert status == 0, shown
    assert shown.count("Error: ") == len(answers) // 2
    config = SiteConfig.load(hospital / "site/site.yaml")
    assert config.site == "st-mary"
    assert config.policy.tasks == ()
    assert list(config.data) == ["chest_xray"]
    assert config.imaging is not None
    assert config.imaging.receiver is not None
    assert config.imaging.receiver.calling == ("PACS",)
    assert config.imaging.receiver.listen == "0.0.0.0:11112"


def test_doses_need_no_file_of_their_own(hospital: Path, run: Run) -> None:
    made = run("init", hospital / "site", "--site", "north", "--task", "dicom_dose", "--pacs", "A")
    assert made.status == 0, made.err
    config = SiteConfig.load(hospital / "site/site.yaml")
    assert len(read_table(config, "dicom_dose")["patient"]) == 0
    assert run("index", hospital / "pacs", "-c", hospital / "site").status == 0
    assert len(read_table(config, "dicom_dose")["patient"]) == PATIENTS


def test_where_nobody_is_asked_the_missing_option_is_named(hospital: Path, run: Run) -> None:
    made = run("init", hospital / "site", "--site", "north", "--task", "chest_xray")
    assert made.status == 2
    assert "--pacs" in made.err
    assert not (hospital / "site").exists()
