"""Masks at a site: DICOM segmentations of its pictures, as labels and as what a model makes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from client.cohorts.image_columns import with_pictures
from client.cohorts.loading import build_cohort, read_table
from client.config.site_config import SiteConfig
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from protocol.study.study import Evaluation
from tasks import registry
from tests.client.cli.conftest import Run, run
from tests.client.data.dicom.conftest import dcmtk, dicom3tools
from tests.client.data.dicom.dicom_files import radiograph, written
from tests.client.prediction.ward import allowing
from tests.client.prediction.ward import site as scoring_site
from tests.protocol.models.bundles import bundle

__all__ = ["dcmtk", "dicom3tools", "run"]

TASK = registry.load("lung_fields")
VIEW = (
    "SELECT images.patient, images.image AS radiograph, masks.mask AS lungs "
    "FROM images LEFT JOIN masks ON masks.image = images.image"
)
Bits = npt.NDArray[np.bool_]


def halves(rows: int, columns: int) -> Bits:
    """(2, rows, columns): the top left quarter, and the bottom half."""
    shown = np.zeros((2, rows, columns), dtype=bool)
    shown[0, : rows // 2, : columns // 2] = shown[1, rows // 2 :] = True
    return shown


def segmented(picture: Path, shown: Bits, to: Path, kind: str = "BINARY") -> Path:
    """A segmentation of the picture in a file, one segment a layer."""
    image = dcmread(picture)
    for name in ("PatientSex", "ReferringPhysicianName"):
        setattr(image, name, "")
    described = [
        SegmentDescription(
            segment_number=number,
            segment_label=f"structure {number}",
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=CodedConcept(f"s{number}", "99TEST", f"structure {number}"),
            algorithm_type="SEMIAUTOMATIC",
            algorithm_identification=AlgorithmIdentificationSequence(
                name="by hand", version="1", family=codes.DCM.ArtificialIntelligence
            ),
        )
        for number in range(1, len(shown) + 1)
    ]
    made = Segmentation(
        source_images=[image],
        pixel_array=np.moveaxis(shown, 0, -1)[None].astype(
            np.float32 if kind == "FRACTIONAL" else bool
        ),
        segmentation_type=SegmentationTypeValues(kind),
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    made.save_as(to)
    return to


def site(folder: Path) -> SiteConfig:
    (folder / "records.csv").write_text("patient\n1\n")
    answers = SiteAnswers(site="alpha", data={TASK.name: folder / "records.csv"}, least_patients=1)
    new_site.init(folder / "site", answers)
    path = folder / "site" / new_site.SITE_YAML
    plain = yaml.safe_load(path.read_text())
    plain["data"] = {TASK.name: {"view": VIEW}}
    plain["imaging"] = {"folders": [str(folder / "pacs")], "detect_text": False, "workers": 1}
    path.write_text(yaml.safe_dump(plain))
    config = SiteConfig.load(path)
    with ImageIndex.open(config.state, plain_gate(config)) as index:
        bring_up_to_date(index, [folder / "pacs"], workers=1)
    return config


def plain_gate(config: SiteConfig) -> Any:
    assert config.imaging is not None
    return config.imaging.gate


def pictures(folder: Path, *said: dict[str, Any]) -> list[Path]:
    return [
        written(radiograph(2 * number, **one), folder / "pacs" / f"{number}.dcm")
        for number, one in enumerate(said)
    ]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_masks_lie_as_their_pictures_do(tmp_path: Path, kind: str) -> None:
    """One picture is stored upside down: its mask is turned with it."""
    files = pictures(tmp_path, {}, {"PatientOrientation": ["L", "H"]}, {})
    image = dcmread(files[0])
    shown = halves(image.Rows, image.Columns)
    segmented(files[0], shown, tmp_path / "pacs" / "m0.dcm", kind)
    segmented(files[1], shown[:, ::-1], tmp_path / "pacs" / "m1.dcm", kind)
    cohort = build_cohort(site(tmp_path), TASK, lambda _: 0.1, Evaluation(release="exact"))
    assert cohort.patients == 2
    assert any("1 rows without a label" in note for note in cohort.notes)
    first, second = np.asarray(cohort.labels)
    assert first.shape == (32, 32)
    assert np.array_equal(first, second)
    inside = np.flatnonzero(np.asarray(cohort.features)[0].any(axis=0))
    left, right = inside[0], inside[-1]
    assert (first[:16, left : (left + right) // 2] == 1).all()
    assert (first[17:, left:right] == 2).all()


def test_what_is_wrong_with_a_mask_is_named_and_costs_that_mask_alone(tmp_path: Path) -> None:
    files = pictures(tmp_path, *[{}] * 5)
    image = dcmread(files[0])
    shown = halves(image.Rows, image.Columns)
    small = written(radiograph(2, Rows=8, Columns=8, PixelData=bytes(2 * 64)), tmp_path / "s.dcm")
    pacs = tmp_path / "pacs"
    segmented(files[0], shown, pacs / "m0.dcm")
    segmented(small, halves(8, 8), pacs / "m1.dcm")
    segmented(files[2], np.concatenate([shown, ~shown.any(axis=0, keepdims=True)]), pacs / "m2.dcm")
    segmented(files[3], np.concatenate([shown[:1], shown[:1]]), pacs / "m3.dcm")
    config = site(tmp_path)
    notes: list[str] = []
    table, said = with_pictures(config, TASK, read_table(config, TASK.name, notes.append))
    masks = [note for note in said if "mask" in note]
    assert masks == [
        "1 masks were set aside: mask of another size than its picture: Rows or Columns.",
        "2 masks were set aside: segments overlap, or have numbers that the task has no class for.",
    ]
    assert int(table["lungs"].present.sum()) == 1  # type: ignore[union-attr]  # it is stored


def test_a_mask_of_another_picture_is_no_label(tmp_path: Path) -> None:
    files = pictures(tmp_path, {}, {})
    image = dcmread(files[0])
    segmented(files[0], halves(image.Rows, image.Columns), tmp_path / "pacs" / "m.dcm")
    config = site(tmp_path)
    table = dict(read_table(config, TASK.name))
    order = np.argsort(table["lungs"] == np.array(None))
    table = {name: column[order] for name, column in table.items()}
    table["radiograph"] = table["radiograph"][::-1]
    _, notes = with_pictures(config, TASK, table)
    assert "1 masks were set aside: a mask of another picture than that of its row." in notes


def test_an_index_of_before_reads_its_segmentations_again(tmp_path: Path) -> None:
    (file,) = pictures(tmp_path, {})
    image = dcmread(file)
    segmented(file, halves(image.Rows, image.Columns), tmp_path / "pacs" / "m.dcm")
    config = site(tmp_path)
    with ImageIndex.open(config.state, plain_gate(config)) as index:
        assert len(index.masks()) == 1
        index._db.execute("ALTER TABLE instance DROP COLUMN mask_of")
        index._db.execute("PRAGMA user_version = 2")
    with ImageIndex.open(config.state, plain_gate(config)) as index:
        assert index.masks() == []
        assert len(index.ready()) == 1
        bring_up_to_date(index, [tmp_path / "pacs"], workers=1)
        assert len(index.masks()) == 1


def test_a_model_gives_its_masks_back_as_segmentations(
    run: Run, tmp_path: Path, dicom3tools: Path, dcmtk: Path
) -> None:
    pictures(tmp_path, {}, {"PatientOrientation": ["R", "F"]})
    model = bundle(TASK)
    imaging = {"folders": [str(tmp_path / "pacs")], "detect_text": False}
    config = scoring_site(tmp_path, allowing(model, modalities=["DX"]), imaging=imaging)
    with ImageIndex.open(config.state, plain_gate(config)) as index:
        bring_up_to_date(index, [tmp_path / "pacs"], workers=1)
    model.write(tmp_path / "model.safetensors")
    said = ("predict", "--model", tmp_path / "model.safetensors", "--for", "cohort", "--json")
    done = run(*said, "--to", tmp_path / "reports", "-c", tmp_path / "site")
    assert done.status == 0, done.err
    assert json.loads(done.out)["reasons"] == {}
    objects = [(file, dcmread(file)) for file in sorted((tmp_path / "reports").glob("*.dcm"))]
    masks = [(file, one) for file, one in objects if one.Modality == "SEG"]
    assert (len(objects), len(masks)) == (4, 2)
    table = run(*said, "--to", tmp_path / "areas.csv", "-c", tmp_path / "site")
    assert table.status == 0, table.err
    for file, one in masks:
        checked = subprocess.run([dicom3tools, file], capture_output=True, text=True)
        assert "Error" not in checked.stderr, checked.stderr
        assert one.SegmentationType == "BINARY"
        assert [of.SegmentNumber for of in one.SegmentSequence] == [1, 2]
        assert not (one.pixel_array[0] & one.pixel_array[1]).any()
    assert any(one.pixel_array.any() for _, one in masks)
    header = (tmp_path / "areas.csv").read_text().splitlines()[0]
    assert "area_1,area_2" in header
