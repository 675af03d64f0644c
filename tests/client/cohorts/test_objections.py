"""Who objects is in no table of patients, however dirty the list is; a list in doubt is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from client.checks.base import CheckResult, tried
from client.checks.data import data_checks
from client.cohorts.loading import (
    build_query_contributor,
    count_objections,
    read_table,
    who_objects,
)
from client.config.site_config import Objections, SiteConfig
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.objects.gate import GatePolicy
from client.governance.patient_split import PatientSplit
from launch.queries.query_builder import build_query
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from tasks import registry
from tests.client.cohorts.test_dose import config as images
from tests.client.cohorts.test_patient_index import site
from tests.client.data.dicom.dicom_files import radiograph, written

__all__ = ["images"]


def listing(folder: Path, listed: str | bytes, index: str | None = None) -> SiteConfig:
    """A site of `test_patient_index` whose pictures are of 0042, A-7 and b, with a list."""
    config = site(folder, index)
    if index is None:
        (folder / "pictures.csv").write_text("patient\n0042\nA-7\nb\n")
    content = listed if isinstance(listed, bytes) else listed.encode()
    (folder / "list.txt").write_bytes(content)
    return config.model_copy(update={"objections": Objections(file=folder / "list.txt")})


@pytest.mark.parametrize(
    "listed",
    [
        "0042\nA-7\n",
        "patient_id\n0042\nA-7\nA-7\nnobody\n",
        "\ufeff0042\r\nA-7\r\n\r\n",
        "  0042\t\rA-7  ",
        '"0042"\n"A-7"\n"no, body"\n',
    ],
)
def test_who_objects_is_left_out(tmp_path: Path, listed: str) -> None:
    config = listing(tmp_path, listed)
    assert list(read_table(config, "chest_xray")["patient"]) == ["b"]


@pytest.mark.parametrize("listed", ["42", "a-7", "A - 7", "'A-7'", "0042.0", "A-7\u200b", "\uff22"])
def test_what_is_nearly_a_patient_is_refused(tmp_path: Path, listed: str) -> None:
    with pytest.raises(WardroundError, match="differs from a patient's only in") as refused:
        read_table(listing(tmp_path, listed), "chest_xray")
    assert refused.value.code is Code.MALFORMED_DATA
    assert refused.value.remedy
    assert "7" not in str(refused.value)
    assert "42" not in str(refused.value)


def test_numbers_are_compared_as_the_view_gives_them(tmp_path: Path) -> None:
    config = listing(tmp_path, "2\n")
    assert list(read_table(config, "readmission")["patient"]) == [1, 9]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, Code.NO_DATA),
        (b"", Code.NO_DATA),
        (b"\xef\xbb\xbf\n \n", Code.NO_DATA),
        ("0042\nA-7\n".encode("utf-16"), Code.MALFORMED_DATA),
        ("0042\nA-7\n".encode("utf-16-le"), Code.MALFORMED_DATA),
        (b"0042\xe9\n", Code.MALFORMED_DATA),
        (b"patient,since\n0042,2024-01-01\n", Code.MALFORMED_DATA),
        (b'"0042";"2024-01-01"\n', Code.MALFORMED_DATA),
    ],
)
def test_a_list_in_doubt_never_means_that_nobody_objects(
    tmp_path: Path, content: bytes | None, code: Code
) -> None:
    config = listing(tmp_path, content or b"")
    if content is None:
        (tmp_path / "list.txt").unlink()
    with pytest.raises(WardroundError, match=r"list\.txt") as refused:
        read_table(config, "chest_xray")
    assert refused.value.code is code
    assert refused.value.remedy
    assert "0042" not in str(refused.value)


def in_yaml(folder: Path, objections: str, index: str | None = None) -> SiteConfig:
    site(folder, index)
    text = (folder / "site.yaml").read_text() + f"objections:\n  {objections}\n"
    (folder / "site.yaml").write_text(text)
    return SiteConfig.load(folder / "site.yaml")


def test_a_query_of_identifiers(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "clinic.db") as db:
        db.execute("CREATE TABLE optout (person INTEGER, until TEXT)")
        db.execute("INSERT INTO optout VALUES (1, NULL), (9, '2020-01-01')")
    db.close()
    view = "SELECT person AS patient FROM clinic.optout WHERE until IS NULL"
    query = f"query: {{databases: {{clinic: {{sqlite: clinic.db}}}}, view: {view!r}}}"
    config = in_yaml(tmp_path, query)
    assert list(read_table(config, "readmission")["patient"]) == [2, 9]
    (tmp_path / "clinic.db").unlink()
    with pytest.raises(WardroundError, match="objections cannot be read, and every study"):
        read_table(config, "readmission")


@pytest.mark.parametrize("view", ["SELECT person FROM stays", "SELECT NULL AS patient FROM stays"])
def test_a_query_that_names_nobody_is_refused(tmp_path: Path, view: str) -> None:
    config = in_yaml(tmp_path, f"query: {{files: {{stays: stays.csv}}, view: {view}}}")
    with pytest.raises(WardroundError, match="gives no column patient, or a row without"):
        read_table(config, "readmission")


def test_the_patient_index_says_who_it_is_in_every_view(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("aa\nzz\n")
    index = "patient,omop,pacs\nMRN1,1,aa\nMRN2,2,\nMRN3,,cc\n"
    config = in_yaml(tmp_path, "{file: list.txt, names: pacs}", index)
    told: dict[str, Any] = {}
    assert list(read_table(config, "readmission", named=told.update)["patient"]) == ["MRN2"]
    assert told["readmission"] == {"2": "MRN2"}
    assert list(read_table(config, "chest_xray")["patient"]) == ["MRN3"]
    assert count_objections(config) == (2, 1)


@pytest.mark.parametrize(
    "wrong", ["{names: x}", "{file: a, query: {view: b}}", "{file: a, names: x}"]
)
def test_objections_that_say_nothing_or_two_things_are_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(WardroundError) as refused:
        in_yaml(tmp_path, wrong)
    assert refused.value.code is Code.CONFIGURATION


def findings(config: SiteConfig) -> dict[str, CheckResult]:
    split = PatientSplit(b"k" * 32)
    return {found.name: found for found in tried(data_checks(config, split))}


def test_check_counts_and_names_nobody(tmp_path: Path) -> None:
    found = findings(listing(tmp_path, "header\n0042\nnobody\n"))["objections"]
    assert found.passed
    assert found.found == "3 identifiers, of which 1 are patients here; no study sees them"
    nobody = findings(listing(tmp_path, "nobody\n"))["objections"]
    assert nobody.passed is None
    assert "kind" in nobody.remedy


def test_pictures_of_who_objects_are_in_no_view_and_in_no_query(
    images: SiteConfig, tmp_path: Path
) -> None:
    everybody = read_table(images, "dicom_dose")
    (tmp_path / "list.txt").write_text("77707771\n99\n")
    config = images.model_copy(update={"objections": Objections(file=tmp_path / "list.txt")})
    left = read_table(config, "dicom_dose")
    assert len(set(everybody["patient"])) == 4
    assert len(set(left["patient"])) == 3
    assert count_objections(config) == (2, 1)
    study = build_query(Question.about("dicom_dose").count(), {"alpha": 9, "b": 9, "c": 9})
    asked = build_query_contributor(config, registry.load("dicom_dose"), study)
    assert asked.records.patients == 3
    otherwise = images.data["dicom_dose"].model_copy(
        update={"view": "SELECT 'a' || row_number() OVER () AS patient, image FROM images"}
    )
    renamed = config.model_copy(update={"data": {"dicom_dose": otherwise}})
    assert len(read_table(renamed, "dicom_dose")["image"]) == len(left["patient"])


ISSUED = (("77", "NORTH"), ("77", "SOUTH"), ("77", ""), ("78", "NORTH"), ("79", ""))
"""Patient ID and issuer of the pictures at `issued`; the lists know IDs alone."""
LABELS = "SELECT pseudonym(id, issuer := who) AS patient, id, who FROM labels"


def issued(folder: Path, view: str, listed: str, index: str = "") -> SiteConfig:
    """A site with a picture of each of `ISSUED`, and `labels` of them and of a patient without."""
    site(folder, None)
    labels = "".join(f"{identifier},{who}\n" for identifier, who in (*ISSUED, ("77", "EAST")))
    (folder / "labels.csv").write_text(f"id,who\n{labels}")
    (folder / "list.txt").write_text(listed)
    text = (folder / "site.yaml").read_text()
    text = text[: text.index("data:")] + (
        f"data:\n  chest_xray:\n    files: {{labels: labels.csv}}\n    view: {view}\n"
        f"imaging: {{folders: [pacs], detect_text: false}}\nobjections:\n  file: list.txt\n{index}"
    )
    (folder / "site.yaml").write_text(text)
    for number, (identifier, who) in enumerate(ISSUED):
        picture = radiograph(2 * number, PatientID=identifier, IssuerOfPatientID=who)
        written(picture, folder / "pacs" / str(number))
    (folder / "state").mkdir(mode=0o700)
    with ImageIndex.open(folder / "state", GatePolicy(detect_text=False)) as opened:
        bring_up_to_date(opened, [folder / "pacs"], workers=1)
    return SiteConfig.load(folder / "site.yaml")


PICTURES = "SELECT patient, image FROM images"
EITHER = f"SELECT l.* FROM ({LABELS}) l LEFT JOIN images USING (patient)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "listed", "left", "found"),
    [
        (PICTURES, "nobody\n", 5, 0),
        (PICTURES, "77\n", 2, 1),
        (PICTURES, " 77 \n78\n", 1, 2),
        (PICTURES, "77^^^NORTH\n", 4, 1),
        (LABELS, "77\n", 2, 1),
        (LABELS, "77^^^EAST\n", 5, 1),
        (EITHER, "77\n79\n", 1, 2),
        ("SELECT id AS patient FROM labels", "77\n", 2, 1),
        ("SELECT row_number() OVER () AS patient, image FROM images", "77\n", 2, 1),
    ],
)
def test_an_objection_holds_whoever_issued_the_identifier(
    tmp_path: Path, view: str, listed: str, left: int, found: int
) -> None:
    config = issued(tmp_path, view, listed)
    assert len(read_table(config, "chest_xray")["patient"]) == left
    assert count_objections(config) == (len(listed.splitlines()), found)


@pytest.mark.parametrize("names", ["", "  names: pacs\n"])
def test_an_index_of_pseudonyms_knows_who_objects_under_every_issuer(
    tmp_path: Path, names: str
) -> None:
    """Also where no picture tells under which issuers an identifier goes."""
    who = "id AS patient" if not names else "concat(id, who) AS patient"
    index = (
        f"{names}patients:\n  files: {{labels: labels.csv}}\n  view: SELECT {who},"
        " pseudonym(id, issuer := who) AS pacs FROM labels\n"
    )
    view = f"{LABELS}\n    names: pacs"
    config = issued(tmp_path, view, "77\n", index)
    assert len(read_table(config, "chest_xray")["patient"]) == 2
    assert count_objections(config) == (1, 1)


def test_the_list_is_the_same_when_pictures_arrive(tmp_path: Path) -> None:
    config = issued(tmp_path, PICTURES, "80\n")
    before = who_objects(config)
    written(radiograph(20, PatientID="80", IssuerOfPatientID="X"), tmp_path / "pacs" / "new")
    with ImageIndex.open(tmp_path / "state", GatePolicy(detect_text=False)) as opened:
        bring_up_to_date(opened, [tmp_path / "pacs"], workers=1)
    assert who_objects(config) == before
    assert len(read_table(config, "chest_xray")["patient"]) == 5
    assert count_objections(config) == (1, 1)
