"""Synthetic radiographs: every make is read back as it was drawn, and every flaw is caught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.pixels.preprocessing import Preprocessing, picture
from launch.demo.synthetic_radiographs import (
    COMMENT,
    SCANNER_MODELS,
    Radiograph,
    ScannerModel,
    cohort,
    draw,
    write,
)


def test_each_says_that_it_is_synthetic_and_two_runs_are_the_same(tmp_path: Path) -> None:
    made = cohort("north", 6, 0.5, SCANNER_MODELS, 3)
    first, again = (write(made, 64, 3, tmp_path / run) for run in ("a", "b"))
    for one, other in zip(first, again, strict=True):
        dataset = dcmread(one)
        assert dataset.ImageComments == COMMENT
        assert "SYNTHETIC" in dataset.InstitutionName
        assert dataset.ImageComments == "SYNTHETIC: drawn by wardround, shows no patient"
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("scanner", SCANNER_MODELS, ids=lambda scanner: scanner.manufacturer[-1])
def test_every_makes_picture_is_what_was_drawn(scanner: ScannerModel, tmp_path: Path) -> None:
    path = write([Radiograph("P", "A", True, scanner)], 96, 4, tmp_path)[0]
    light = draw(np.random.default_rng(4), 96, ill=True)
    shown = picture(path.read_bytes(), Preprocessing(96, 96 + 2 * scanner.border))
    inside = shown[:, scanner.border : 96 + scanner.border]
    curved = scanner.window == "SIGMOID"
    expected = 255 / (1 + np.exp(-4 * (light - 0.5))) if curved else 255 * light
    assert np.abs(inside - expected).mean() < 4
    assert not shown[:, : scanner.border].any()


def test_a_gate_keeps_out_what_names_somebody_and_what_cannot_be_read(tmp_path: Path) -> None:
    made = cohort("west", 4, 0.5, SCANNER_MODELS, 5)
    write(made, 144, 5, tmp_path / "pacs")
    (tmp_path / "state").mkdir(mode=0o700)
    with ImageIndex.open(tmp_path / "state") as index:
        bring_up_to_date(index, [tmp_path / "pacs"], workers=1)
        verdicts = {
            one.flaw: aside.verdict
            for aside in index.kept_out()
            for one in made
            if aside.path.stem == one.accession
        }
        assert set(verdicts) == {"name", "says so", "no pixels", "cut"}
        assert verdicts["name"] == "text found in the picture"
        assert verdicts["says so"] == "says that identifiers are burned in"
        assert len(index.ready()) == len(made) - 4
