"""Burned-in text, the contact sheet, the report, and the site's commands on all of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from typer.testing import CliRunner

from client.checks.base import tried
from client.checks.imaging import imaging_checks
from client.cli.main import app
from client.cohorts.image_columns import image_tables
from client.config.site_config import SiteConfig
from client.data import view_reader
from client.data.dicom.objects.gate import Reason, suspicions
from client.data.dicom.objects.header import read_header
from client.data.dicom.objects.pseudonym import Pseudonyms
from client.data.dicom.pixels.text_detector import shows_text
from client.data.sources.settings import Sources
from client.enrolment.new_site import init
from client.enrolment.site_template import SiteAnswers
from protocol.errors import WardroundError
from support.burned_in import background, burned_in
from tests.client.data.dicom.dicom_files import CANARIES, folder_of, radiograph, written


def with_text(number: int) -> Dataset:
    """A radiograph with a name across its corner."""
    from PIL import Image, ImageDraw, ImageFont

    plain = radiograph(number, side=256)
    pixels = np.frombuffer(plain.PixelData, "<u2").reshape(256, 256)
    drawn = Image.new("L", (256, 256))
    ImageDraw.Draw(drawn).text((8, 8), "SMITH JOHN 1960-01-31", 255, ImageFont.load_default(14))
    plain.PixelData = np.where(np.asarray(drawn) > 128, 4095, pixels).astype("<u2").tobytes()
    return plain


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "alpha"
    init(folder, SiteAnswers(site="alpha"))
    source = tmp_path / "source"
    folder_of(4, source, side=256)
    written(with_text(10), source / "named.dcm")
    written(radiograph(12, Modality="US"), source / "us.dcm")
    written(radiograph(14, PatientID=""), source / "nobody.dcm")
    with (folder / "site.yaml").open("a") as file:
        yaml.safe_dump({"imaging": {"folders": [str(source)]}}, file)
    return folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_the_detector_tells_text_from_anatomy() -> None:
    rng = np.random.default_rng(11)
    clean = [background(rng, sides=(256, 384, 512)) for _ in range(20)]
    drawn = [burned_in(rng, picture) for picture in clean]
    found, false = sum(map(shows_text, drawn)), sum(map(shows_text, clean))
    assert found >= 18
    assert false <= 1
    assert not shows_text(np.zeros((4, 4), np.uint8))


def test_index_report_sheet_and_release(site: Path, tmp_path: Path) -> None:
    tally = json.loads(run("index", "-c", str(site), "--json"))
    assert tally["ready"] == 4
    kept_out = {Reason.TEXT: 1, Reason.AT_RISK: 1, Reason.NO_PATIENT: 1}
    assert tally["kept_out"] == kept_out
    again = json.loads(run("index", "-c", str(site), "--json"))
    assert (again["read"], again["looked_at"], again["unchanged"]) == (0, 0, 7)

    page, sheet = tmp_path / "report.html", tmp_path / "sheet"
    output = run("images", "-c", str(site), "--html", str(page), "--sheet", str(sheet))
    assert "4 pictures of 2 patients" in output
    told = json.loads(run("images", "-c", str(site), "--json", "--files"))
    assert {line["why"]: line["files"] for line in told["kept_out"]} == kept_out
    assert {Path(f["file"]).name for f in told["files"]} == {"named.dcm", "us.dcm", "nobody.dcm"}
    for path in (page, *sheet.iterdir()):
        assert path.stat().st_mode & 0o077 == 0
        assert not any(canary in path.read_bytes() for canary in CANARIES)
    shown = (sheet / "page1.html").read_text()
    assert shown.count("<img") == 2
    assert not re.search(r"(src|href)=\"(http|//)", shown)

    key = next(f["image"] for f in told["files"] if f["file"].endswith("us.dcm"))
    assert key[:12] in shown
    assert json.loads(run("images", "release", key[:12], "-c", str(site), "--json")) == {
        "release": 1
    }
    assert json.loads(run("images", "-c", str(site), "--json"))["ready"] == 5
    assert "images release" in run("audit", "export", "-c", str(site))
    with pytest.raises(WardroundError, match="no key"):
        run("images", "release", "0" * 12, "-c", str(site))


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, {Reason.AT_RISK}),
        ({"ImageType": ["DERIVED", "PRIMARY", "OTHER", "SAVED"]}, {Reason.AT_RISK}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, set()),
        ({"SeriesDescription": "Screen_Save"}, {Reason.AT_RISK}),
        ({"SeriesDescription": "Saved images"}, {Reason.AT_RISK}),
        ({"SeriesDescription": "SCREENING chest"}, set()),
        ({"BurnedInAnnotation": "NO"}, set()),
        ({"BurnedInAnnotation": "Y"}, {Reason.BURNED_IN}),
        ({"BurnedInAnnotation": "yes, a name"}, {Reason.BURNED_IN}),
        ({"RecognizableVisualFeatures": "true"}, {Reason.FACE}),
    ],
)
def test_a_header_speaks_against_its_pixels(
    tmp_path: Path, said: dict[str, Any], reasons: set[Reason]
) -> None:
    """CTP 16, deid 63: the third value of Image Type, or the series' name, tells a copy of a
    screen. A term that is neither YES nor NO is no NO."""
    with disable_value_validation():
        path = written(radiograph(0, **said), tmp_path / "one")
    assert set(suspicions(read_header(path, Pseudonyms(b"x" * 32)))) == reasons


def test_check_says_what_is_ready_and_what_is_not(site: Path) -> None:
    config = SiteConfig.load(site / "site.yaml")
    before = {f.name: f for f in tried(imaging_checks(config))}
    assert before["pictures"].passed is None
    assert "nothing is indexed" in before["pictures"].found
    run("index", "-c", str(site))
    after = {f.name: f for f in tried(imaging_checks(config))}
    assert "4 ready, of 2 patients; 3 files kept out" in after["pictures"].found
    assert after["folder source"].passed


def test_a_view_joins_labels_to_images_by_pseudonym(site: Path, tmp_path: Path) -> None:
    run("index", "-c", str(site))
    labels = tmp_path / "labels.csv"
    labels.write_text("accession,label\nA0,1\nA1,0\nA5,1\nA6,1\nA9,0\n")
    view = (
        "SELECT i.patient, i.image, i.view_position, i.rows, i.frames, i.dlp, label"
        " FROM labels JOIN images i ON i.accession = pseudonym(labels.accession) ORDER BY i.image"
    )
    config = SiteConfig.load(site / "site.yaml")
    extras = image_tables(config)
    table = view_reader.read(Sources(files={"labels": labels}), view, extras=extras)
    assert sorted(table["label"]) == [0, 0, 1, 1]
    assert len(set(table["patient"])) == 2
    assert set(table["view_position"]) == {"PA"}
    assert table["frames"].tolist() == [1.0] * 4
    assert np.isnan(table["dlp"]).all()


def test_a_dose_report_gives_its_study_its_dose(site: Path, tmp_path: Path) -> None:
    report = dose_report(total=412.5, ctdivol=(7.25, 11.0))
    for copy in ("dose", "dose_sent_again"):
        written(report, tmp_path / f"source/{copy}.dcm")
    run("index", "-c", str(site))
    config = SiteConfig.load(site / "site.yaml")
    table = view_reader.read(
        Sources(files={"labels": _one_row(tmp_path)}),
        "SELECT accession, dlp, ctdivol_report, pseudonym('A0') AS a0 FROM images",
        extras=image_tables(config),
    )
    hers = table["accession"] == table["a0"]
    assert hers.sum() == 2
    assert table["dlp"][hers].tolist() == [412.5] * 2
    assert table["ctdivol_report"][hers].tolist() == [11.0] * 2
    assert np.isnan(table["dlp"][~hers]).all()


def dose_report(total: float, ctdivol: tuple[float, ...]) -> Dataset:
    """The numbers of TID 10011, nested as scanners nest them."""

    def number(code: str, value: float) -> Dataset:
        concept, measured, item = Dataset(), Dataset(), Dataset()
        concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = code, "DCM", "x"
        measured.NumericValue = str(value)
        item.ValueType = "NUM"
        item.ConceptNameCodeSequence, item.MeasuredValueSequence = [concept], [measured]
        return item

    def container(*items: Dataset) -> Dataset:
        item = Dataset()
        item.ValueType, item.ContentSequence = "CONTAINER", Sequence(items)
        return item

    report = radiograph(
        0,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67",
        Modality="SR",
        SOPInstanceUID="1.2.826.0.1.0.9.1",
        SeriesInstanceUID="1.2.826.0.1.0.9",
        PixelData=None,
    )
    events = [container(container(number("113830", value))) for value in ctdivol]
    report.ContentSequence = Sequence([container(number("113813", total)), *events])
    return report


def _one_row(folder: Path) -> Path:
    path = folder / "one.csv"
    path.write_text("a\n1\n")
    return path


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"receiver": {"calling": ["TOO LONG A TITLE FOR DICOM"]}}, "AE title"),
        ({"receiver": {"calling": ["BACK\\SLASH"]}}, "AE title"),
        ({"receiver": {"listen": "everywhere"}}, "listen"),
        ({"receiver": {"largest": "lots"}}, "largest"),
        ({"receiver": {"tls": {"certificate": "a.pem"}}}, "missing"),
        ({"accept_modalities": ["ultrasound"]}, "accept_modalities"),
        ({"words": ["Chest PA"]}, "words"),
        ({"folder": ["/srv"]}, "folders"),
    ],
)
def test_a_wrong_section_is_explained(
    tmp_path: Path, section: dict[str, object], says: str
) -> None:
    folder = tmp_path / "alpha"
    init(folder, SiteAnswers(site="alpha"))
    with (folder / "site.yaml").open("a") as file:
        yaml.safe_dump({"imaging": section}, file)
    with pytest.raises(WardroundError, match=says):
        SiteConfig.load(folder / "site.yaml")


def test_without_the_section_the_commands_say_what_to_add(tmp_path: Path) -> None:
    folder = tmp_path / "alpha"
    init(folder, SiteAnswers(site="alpha"))
    for command in ("receive", "index", "images"):
        with pytest.raises(WardroundError, match="imaging") as caught:
            run(command, "-c", str(folder))
        assert caught.value.remedy
    assert os.listdir(folder / "state").count("imaging.db") == 0
