"""A hospital with records and radiographs, and models that its coordinator signed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from client.config.site_config import SiteConfig
from client.config.site_roster import signing_key_file
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from protocol.models.bundle import Bundle
from tasks import registry
from tasks.flat_model import FlatModel
from tasks.schema import PATIENT, Table
from tests.client.data.dicom.dicom_files import radiograph, written
from tests.protocol.models.bundles import TRUSTED, bundle

RECORDS = 40
NAMES = [f"MRN-{number:04d}" for number in range(RECORDS)]


def records(task: str = "breast_cancer") -> Table:
    """Patients of a task whom nobody is."""
    made = dict(registry.load(task).schema.made_up(RECORDS, seed=5))
    return made | {PATIENT: np.array(NAMES, dtype=object)}


def site(
    folder: Path,
    predict: dict[str, Any] | None = None,
    task: str = "breast_cancer",
    **sections: Any,
) -> SiteConfig:
    """A site whose policy.predict is this, or empty; `sections` of site.yaml replace others."""
    data = folder / "data.csv"
    table = records(task)
    with data.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(table)
        rows.writerows(zip(*table.values(), strict=True))
    answers = SiteAnswers(site="alpha", data={task: data}, least_patients=1)
    new_site.init(folder / "site", answers)
    path = folder / "site" / new_site.SITE_YAML
    plain = yaml.safe_load(path.read_text())
    plain["policy"]["predict"] = predict or {}
    path.write_text(yaml.safe_dump(plain | sections))
    config = SiteConfig.load(path)
    signing_key_file(config).write_text(f"{TRUSTED.hex()}\n")
    return config


def allowing(of: Bundle, **rules: Any) -> dict[str, Any]:
    """A policy.predict that allows one model."""
    return {"models": {of.digest: {"unapproved": True, **rules}}}


def chest_xray() -> Bundle:
    """A model of radiographs that tells them apart."""
    task = registry.load("chest_xray")
    size = FlatModel(task, 0).layout.size
    return bundle(task, np.random.default_rng(1).normal(size=size).astype(np.float32))


def with_radiographs(folder: Path, *said: dict[str, Any]) -> list[Path]:
    """Radiographs in folder/pacs that say these things."""
    return [
        written(radiograph(number, **one), folder / "pacs" / f"{number}.dcm")
        for number, one in enumerate(said)
    ]


def indexed(config: SiteConfig, folder: Path) -> None:
    assert config.imaging is not None
    with ImageIndex.open(config.state, config.imaging.gate) as index:
        bring_up_to_date(index, [folder / "pacs"])


def with_view(
    folder: Path, task: str, view: str, predict: dict[str, Any] | None = None
) -> SiteConfig:
    """A site that reads a task's records from the pictures in folder/pacs, which are indexed."""
    config = site(
        folder,
        predict,
        imaging={"folders": [str(folder / "pacs")], "detect_text": False, "workers": 1},
        data={task: {"view": view}},
    )
    indexed(config, folder)
    return config
