"""Radiation dose as queries see it: DICOM files, the site's index, counts of patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.checks.base import tried
from client.checks.data import data_checks
from client.cohorts.loading import build_query_contributor, read_table
from client.cohorts.query_counts import count_patients
from client.config.site_config import SiteConfig
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.patient_split import PatientSplit
from launch.queries import presets
from launch.queries.ask import ask
from launch.queries.query_builder import build_query
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.study.query import Query
from tasks import registry
from tests.client.data.dicom.dicom_files import radiograph, written

# patient -> images, each (date, what it says): the newest that says it counts
IMAGES: dict[int, list[tuple[str, dict[str, Any]]]] = {
    0: [
        ("20230101", {"Manufacturer": "SIEMENS", "BodyPartExamined": "HEAD", "CTDIvol": 55.0}),
        ("20240101", {"Manufacturer": "SIEMENS", "BodyPartExamined": "CHEST", "CTDIvol": 7.0}),
    ],
    1: [("20240101", {"Manufacturer": "GE MEDICAL SYSTEMS", "CTDIvol": 9.0})],
    2: [
        ("20240101", {"Manufacturer": "Acme", "BodyPartExamined": "ABDOMEN", "CTDIvol": 12.0}),
        ("20240301", {"Manufacturer": "Acme", "BodyPartExamined": "ABDOMEN", "CTDIvol": None}),
    ],
    3: [("20240101", {"Manufacturer": None, "Modality": "DX", "Exposure": 3, "CTDIvol": None})],
}


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    """A site with these images and nothing else."""
    number = 0
    for patient, images in IMAGES.items():
        for date, changes in images:
            said: dict[str, Any] = {"Modality": "CT", "PatientID": f"7770777{patient}"} | changes
            said |= {"StudyDate": date, "AccessionNumber": f"A{patient}{date}"}
            said |= {"ProtocolName": None, "StudyInstanceUID": f"1.2.826.0.1.{patient}.{date}"}
            said |= {"SOPInstanceUID": f"1.2.826.0.1.{patient}.{date}.1"}
            exposed = said.pop("CTDIvol")
            dataset = radiograph(number, **said)
            if exposed is not None:
                dataset.CTDIvol = exposed
            written(dataset, tmp_path / "pacs" / f"{number}.dcm")
            number += 1
    rules: dict[str, Any] = {
        "purposes": ("research",),
        "modes": (),
        "delta": 1e-5,
        "least_patients": 1,
    }
    new_site.init(tmp_path / "site", SiteAnswers(site="alpha", data={}, tasks=(), **rules))
    path = tmp_path / "site" / new_site.SITE_YAML
    text = path.read_text().split("\ndata:")
    path.write_text(
        f"{text[0]}\ndata:\n  dicom_dose:\n    view: template:dicom\n"
        f"imaging:\n  folders: [{tmp_path / 'pacs'}]\n  detect_text: false\n"
        + text[1][text[1].index("\n# The rules") :]
    )
    loaded = SiteConfig.load(path)
    assert loaded.imaging is not None
    with ImageIndex.open(loaded.state, loaded.imaging.gate) as index:
        bring_up_to_date(index, [tmp_path / "pacs"])
    return loaded


def counted(config: SiteConfig, question: Question) -> dict[str, list[int]]:
    study = build_query(question, dict.fromkeys(("alpha", "beta", "gamma"), 100))
    query = study.query
    assert isinstance(query, Query)
    respondent = build_query_contributor(config, registry.load("dicom_dose"), study)
    counts = count_patients(query, respondent.records, 1)
    return {
        statistic.name: counts[where].tolist()
        for statistic, where in zip(query.statistics, query.slices, strict=True)
    }


def test_a_patient_counts_once_by_the_newest_image_that_says_it(config: SiteConfig) -> None:
    question = Question.about("dicom_dose").count()
    question = question.histogram("region").histogram("vendor")
    question = question.histogram("ctdi_vol:0/8/10/100", where="not ctdi_vol is missing")
    found = counted(config, question)
    task = registry.load("dicom_dose")
    regions = [*next(c for c in task.schema.columns if c.name == "region").categories, "other"]
    vendors = [*next(c for c in task.schema.columns if c.name == "vendor").categories, "other"]
    assert found["patients"] == [4]
    by_region = dict(zip([*regions, "missing"], found["region"], strict=True))
    assert {name: n for name, n in by_region.items() if n} == {"chest": 3, "abdomen": 1}
    by_vendor = dict(zip([*vendors, "missing"], found["vendor"], strict=True))
    assert {name: n for name, n in by_vendor.items() if n} == {
        "Siemens": 1,
        "GE": 1,
        "other": 1,
        "missing": 1,
    }
    assert found["ctdi_vol"] == [1, 1, 1, 0]


def test_the_ready_made_question_reads_what_the_view_gives(config: SiteConfig) -> None:
    found = counted(config, presets.dose())
    assert sum(found["patients by region and vendor"]) == 4
    assert sum(found["exposure by region"]) == 1
    assert sum(found["dlp by region"]) == 0


def test_the_view_holds_pseudonyms_and_no_text_of_the_header(config: SiteConfig) -> None:
    table = read_table(config, "dicom_dose")
    assert set(table) == {"patient", *(c.name for c in registry.load("dicom_dose").schema.columns)}
    assert all(len(patient) == 64 for patient in table["patient"])


def test_it_is_for_queries_alone() -> None:
    task = registry.load("dicom_dose")
    with pytest.raises(WardroundError) as caught:
        task.model()
    assert caught.value.code is Code.CONFIGURATION
    with pytest.raises(WardroundError) as caught:
        ask(presets.dose())
    assert caught.value.code is Code.NO_DATA


def test_check_reads_its_records_and_tries_no_training(config: SiteConfig) -> None:
    findings = list(tried(data_checks(config, PatientSplit(b"0" * 32))))
    (about,) = [finding for finding in findings if finding.name.endswith("dicom_dose")]
    assert (about.passed, about.found) == (True, "4 patients, for queries")
