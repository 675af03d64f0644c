"""site.yaml's data: where rows are; every error names the key, and no password stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.config.site_config import SiteConfig
from client.data import templates
from protocol.errors import Code, WardroundError

HEAD = f"""\
site: alpha
identity: identity.pem
node_key: node.pem
coordinator: {{address: "coordinator.example.org:9092", root_certificate: ca.pem}}
roster: {{alpha: {"ab" * 32}}}
state: state
data:
"""
ALL = """\
  icu_mortality:
    files: {stays: stays.parquet, labs: labs-*.csv}
    headerless: {labs: [patient, value]}
    databases:
      clinic: {sqlite: clinic.db}
      ward:
        postgres:
          host: db.example.org
          database: ward
          user: wardround
          schema: cdm
          password_file: ward.password
          tls: verify-full
          root_certificate: db-ca.pem
    omop: {database: ward}
    value_sets: [codes.csv]
    minutes: 5
    view: template:omop
"""


def load(folder: Path, data: str) -> SiteConfig:
    (folder / "site.yaml").write_text(HEAD + data)
    return SiteConfig.load(folder / "site.yaml")


def test_every_path_is_relative_to_the_file(tmp_path: Path) -> None:
    source = load(tmp_path, ALL).data["icu_mortality"]
    ward = source.databases["ward"].postgres
    assert ward is not None
    assert (ward.password_file, ward.root_certificate) == (
        tmp_path / "ward.password",
        tmp_path / "db-ca.pem",
    )
    assert (ward.host, ward.port, ward.table_schema) == ("db.example.org", 5432, "cdm")
    assert source.databases["clinic"].sqlite == tmp_path / "clinic.db"
    assert source.files["labs"] == tmp_path / "labs-*.csv"
    assert source.headerless == {"labs": ("patient", "value")}
    assert source.value_sets == (tmp_path / "codes.csv",)
    assert source.minutes == 5
    assert source.sql == templates.view("template:omop", "icu_mortality")


def test_a_fhir_template_brings_its_own_definitions(tmp_path: Path) -> None:
    data = "  readmission:\n    fhir: {folder: export}\n    view: template:fhir\n"
    source = load(tmp_path, data).data["readmission"]
    assert source.fhir is not None
    assert source.fhir.folder == tmp_path / "export"
    assert source.fhir.views == templates.definitions("readmission")
    own = load(tmp_path, data.replace("export}", "export, views: [mine]}")).data["readmission"]
    assert own.fhir is not None
    assert own.fhir.views == (tmp_path / "mine",)


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ("user: wardround", "user: w\n          password: CANARY", "ward.postgres.password",
         "password_file"),
        ("host: db.example.org\n", "\n", "host` is missing", "host name"),
        ("tls: verify-full", "tls: maybe", "postgres.tls", "sslmode"),
        ("{sqlite: clinic.db}", "{}", "neither sqlite nor postgres nor mariadb", "Give one"),
        ("{sqlite: clinic.db}", "{sqlit: clinic.db}", "clinic.sqlit", "Did you mean `sqlite`?"),
        ("clinic: {", "memory: {", "memory", "Rename"),
        ("clinic: {", "cli-nic: {", "cli-nic", ""),
        ("{database: ward}", "{database: wards}", "wards", "Add it"),
        ("{database: ward}", "{}", "neither folder nor database", "Give one"),
        ("omop: {database: ward}\n", "\n", "without omop", "Add omop"),
        ("template:omop", "template:fhir", "without fhir", "Add fhir"),
        ("minutes: 5", "minutes: 0", "minutes", "minutes"),
        ("stays: stays", '"a b": stays', "a b", "path"),
    ],
)  # fmt: skip
def test_an_error_names_the_key(tmp_path: Path, old: str, new: str, key: str, remedy: str) -> None:
    assert old in ALL
    with pytest.raises(WardroundError) as caught:
        load(tmp_path, ALL.replace(old, new, 1))
    assert caught.value.code is Code.CONFIGURATION
    assert key in caught.value.message
    assert remedy in caught.value.remedy
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("view", ["template:omop", "template:hl7"])
def test_a_task_without_a_template_says_so(tmp_path: Path, view: str) -> None:
    data = f"  breast_cancer:\n    omop: {{folder: cdm}}\n    view: {view}\n"
    with pytest.raises(WardroundError, match=view):
        load(tmp_path, data)
