"""Two tasks over two sources that name the same patients differently, with and without an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from client.cohorts.loading import read_table
from client.config.site_config import SiteConfig
from protocol.errors import Code, WardroundError

INDEX = "patient,omop,pacs\nMRN1,1,aa\nMRN2,2,\nMRN3,,cc\n"
PATIENTS = "patients:\n  files: {mpi: mpi.csv}\n  view: SELECT * FROM mpi\n"
TEXT = f"""\
site: alpha
identity: identity.pem
node_key: node.pem
coordinator: {{address: "coordinator.example.org:9092", root_certificate: ca.pem}}
roster: {{alpha: {"ab" * 32}}}
state: state
data:
  readmission:
    files: {{stays: stays.csv}}
    view: SELECT person AS patient, age FROM stays
    NAMES
  chest_xray:
    files: {{pictures: pictures.csv}}
    view: SELECT patient FROM pictures
"""


def site(folder: Path, index: str | None = INDEX) -> SiteConfig:
    (folder / "stays.csv").write_text("person,age\n1,50\n2,60\n9,70\n")
    (folder / "pictures.csv").write_text("patient\naa\ncc\n")
    text = TEXT.replace("NAMES", "names: omop" if index else "minutes: 5")
    if index:
        (folder / "mpi.csv").write_text(index)
        text += "    names: pacs\n" + PATIENTS
    (folder / "site.yaml").write_text(text)
    return SiteConfig.load(folder / "site.yaml")


def test_both_views_name_a_patient_by_the_index(tmp_path: Path) -> None:
    config, notes, told = site(tmp_path), list[str](), dict[str, Mapping[str, str]]()
    stays = read_table(config, "readmission", notes.append, told.update)
    assert list(stays["patient"]) == ["MRN1", "MRN2"]
    assert list(stays["age"]) == [50, 60]
    assert list(read_table(config, "chest_xray")["patient"]) == ["MRN1", "MRN3"]
    assert notes == ["1 rows of patients whom the patient index does not know were set aside."]
    of_pictures = {"aa": "MRN1", "cc": "MRN3"}
    assert told == {"readmission": {"1": "MRN1", "2": "MRN2"}, "chest_xray": of_pictures}
    assert config.names_of("readmission") == config.names_of("chest_xray") != ""


def test_without_an_index_two_views_have_names_of_their_own(tmp_path: Path) -> None:
    config = site(tmp_path, None)
    assert list(read_table(config, "readmission")["patient"]) == [1, 2, 9]
    before = config.names_of("readmission")
    assert before != config.names_of("chest_xray")
    assert config.names_of("fusion") == ""
    text = (tmp_path / "site.yaml").read_text().replace("person AS patient", "age AS patient")
    (tmp_path / "site.yaml").write_text(text)
    assert SiteConfig.load(tmp_path / "site.yaml").names_of("readmission") not in ("", before)


@pytest.mark.parametrize(
    ("index", "code"),
    [
        ("patient,omop,pacs\nMRN1,1,aa\nMRN2,1,\n", Code.MALFORMED_DATA),
        ("patient,omop,pacs\nMRN1,1,aa\n,2,\n", Code.MALFORMED_DATA),
        ("patient,pacs\nMRN1,aa\n", Code.MALFORMED_DATA),
        ("patient,omop,pacs\nMRN1,77,aa\n", Code.NO_DATA),
    ],
)
def test_views_that_disagree_with_the_index_are_refused(
    tmp_path: Path, index: str, code: Code
) -> None:
    with pytest.raises(WardroundError) as refused:
        read_table(site(tmp_path, index), "readmission")
    assert refused.value.code is code
    assert refused.value.remedy
    assert "MRN" not in str(refused.value)


def test_a_view_whose_patients_have_two_names_is_refused(tmp_path: Path) -> None:
    config = site(tmp_path, None)
    (tmp_path / "pictures.csv").write_text("patient\nA-42\n00a-42\n")
    with pytest.raises(WardroundError, match="differ only in") as refused:
        read_table(config, "chest_xray")
    assert refused.value.code is Code.MALFORMED_DATA


def test_a_column_without_an_index_is_refused(tmp_path: Path) -> None:
    site(tmp_path)
    text = (tmp_path / "site.yaml").read_text().replace(PATIENTS, "")
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(WardroundError, match="names is set without a patient index"):
        SiteConfig.load(tmp_path / "site.yaml")
