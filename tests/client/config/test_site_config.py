"""site.yaml: every error names the key and says what to do; nothing means something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.config.site_config import SiteConfig
from protocol.errors import Code, WardroundError
from protocol.identity import Identity

KEY = "ab" * 32
TEXT = f"""\
site: alpha
identity: keys/identity.pem
node_key: keys/node.pem
coordinator:
  address: coordinator.example.org:9092
  root_certificate: ca.pem
roster:
  alpha: {KEY}
  beta: {"cd" * 32}
state: state
data:
  breast_cancer:
    files: {{patients: tables/patients.csv}}
    view: views/cohort.sql
policy:
  tasks: [breast_cancer]
  purposes: [research]
  modes: [local]
  delta: 1e-5
  epsilon_per_study: 3
  epsilon_lifetime: 5.5
  hours:
    - {{days: [mon, tue], from: 19:00, to: 06:00}}
  memory: 2 GiB
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(TEXT)
    return tmp_path / "site.yaml"


def refused(path: Path, text: str) -> WardroundError:
    path.write_text(text)
    with pytest.raises(WardroundError) as caught:
        SiteConfig.load(path)
    assert caught.value.code == Code.CONFIGURATION
    assert str(path) in caught.value.message
    assert caught.value.remedy
    return caught.value


def test_paths_are_relative_to_the_file(path: Path) -> None:
    config = SiteConfig.load(path)
    here = path.parent
    assert config.identity == here / "keys/identity.pem"
    assert config.node_key == here / "keys/node.pem"
    assert config.state == here / "state"
    assert config.coordinator.root_certificate == here / "ca.pem"
    assert config.data["breast_cancer"].files == {"patients": here / "tables/patients.csv"}


def test_numbers_and_times_mean_what_they_look_like(path: Path) -> None:
    rules = SiteConfig.load(path).policy
    assert (rules.delta, rules.epsilon_per_study, rules.memory) == (1e-5, 3.0, 2 * 2**30)
    assert (rules.hours[0].start.hour, rules.hours[0].end.hour) == (19, 6)


def test_a_view_is_text_or_a_file(path: Path) -> None:
    (path.parent / "views").mkdir()
    (path.parent / "views/cohort.sql").write_text("SELECT 1")
    assert SiteConfig.load(path).data["breast_cancer"].sql == "SELECT 1"
    path.write_text(TEXT.replace("views/cohort.sql", "SELECT * FROM patients"))
    assert SiteConfig.load(path).data["breast_cancer"].sql == "SELECT * FROM patients"
    path.write_text(TEXT.replace("views/cohort.sql", "missing.sql"))
    with pytest.raises(WardroundError) as caught:
        _ = SiteConfig.load(path).data["breast_cancer"].sql
    assert "missing.sql" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ("site: alpha", "site: Alpha", "`site`", "lower case"),
        ("state: state\n", "", "`state` is missing", "folder"),
        ("state: state", "state: 7", "`state`", "path"),
        ("state: state", "stat: state", "`stat`", "Did you mean `state`?"),
        ("org:9092", "org", "`coordinator.address`", "host:port"),
        ("org:9092", "org:99999", "`coordinator.address`", "host:port"),
        ("  root_certificate: ca.pem\n", "", "`coordinator.root_certificate`", "PEM"),
        (KEY, "abc", "`roster.alpha`", "64 hex"),
        ("alpha: ab", "omega: ab", "alpha", "Add it"),
        ("cd" * 32, KEY, "same key", "fingerprints"),
        ("purposes:", "purposses:", "`policy.purposses`", "Did you mean `purposes`?"),
        ("tasks: [breast", "tasks: [heart", "heart_cancer", "data.heart_cancer"),
        ("modes: [local]", "modes: [locale]", "`policy.modes.0`", "distributed"),
        ("modes: [local]", "modes: local", "`policy.modes`", "list"),
        ("delta: 1e-5", "delta: 0.5", "`policy.delta`", "0.01"),
        ("delta: 1e-5", "delta: tiny", "`policy.delta`", "probability"),
        ("epsilon_lifetime: 5.5", "epsilon_lifetime: 1", "exceeds", "Lower"),
        ("epsilon_lifetime: 5.5\n", "epsilon_lifetime: -1\n", "`policy.epsilon_lifetime`", "above"),
        ("  epsilon_lifetime: 5.5\n", "", "caps", "Set"),
        ("memory: 2 GiB", "memory: 2", "`policy.memory`", "unit"),
        ("memory: 2 GiB", "memory: 2 GB", "`policy.memory`", "4 GiB"),
        ("from: 19:00", "from: 7pm", "`policy.hours.0.from`", "19:00"),
        ("from: 19:00", "form: 19:00", "`policy.hours.0.form`", "Did you mean `from`?"),
        ("mon, tue", "Monday", "`policy.hours.0.days.0`", "mon"),
        ("files: {", "file: {", "`data.breast_cancer.file`", "Did you mean `files`?"),
        ("view: views/cohort.sql", "view: ''", "`data.breast_cancer.view`", "SQL"),
        ("tables/patients.csv", "''", "`data.breast_cancer.files.patients`", "path"),
        ("site: alpha", "site: alpha\nsite: beta", "`site` appears twice", "Keep one"),
        ("site: alpha", "site: [alpha", "line", "Indent"),
        ("site: alpha", "site: !!python/object:os.system alpha", "line 1", ""),
    ],
)
def test_an_error_names_the_key_and_the_remedy(
    path: Path, old: str, new: str, key: str, remedy: str
) -> None:
    assert old in TEXT
    error = refused(path, TEXT.replace(old, new, 1))
    assert key in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize("text", ["", "just text", "- a\n- b", "[" * 5000, "a: &a [*a]"])
def test_what_is_no_mapping_is_refused(path: Path, text: str) -> None:
    refused(path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WardroundError) as caught:
        SiteConfig.load(tmp_path / "none.yaml")
    assert "none.yaml" in caught.value.message
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WardroundError) as caught:
        SiteConfig.load(tmp_path / "binary.yaml")
    assert "UTF-8" in caught.value.message


def test_the_identity_must_be_the_rosters_and_private(path: Path) -> None:
    identity = Identity.generate()
    (path.parent / "keys").mkdir()
    identity.save(path.parent / "keys/identity.pem")
    config = SiteConfig.load(path)
    with pytest.raises(WardroundError) as caught:
        config.load_identity()
    assert caught.value.code == Code.IDENTITY
    assert identity.public_key.hex() in caught.value.remedy
    path.write_text(TEXT.replace(KEY, identity.public_key.hex()))
    config = SiteConfig.load(path)
    assert config.load_identity().public_key == identity.public_key
    (path.parent / "keys/identity.pem").chmod(0o640)
    with pytest.raises(WardroundError) as caught:
        config.load_identity()
    assert caught.value.code == Code.IDENTITY
