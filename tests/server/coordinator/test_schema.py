"""A coordinator's folder of an older release is migrated, one of a newer refused by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from protocol.release import RELEASE
from server.coordinator import schema
from server.coordinator.config import CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.coordinator.setup import create


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return create(tmp_path / "coordinator", ["127.0.0.1"], 0, None, "Test").folder


def started(folder: Path) -> None:
    config = CoordinatorConfig.load(folder)
    with Coordinator(config, Journal(config.event_log, console=None)):
        pass


def noted(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "state" / schema.FILE).read_bytes())
    return found


def test_a_new_folder_says_its_schema_and_is_not_migrated(folder: Path) -> None:
    assert noted(folder) == {"schema": schema.SCHEMA, "release": RELEASE}
    started(folder)
    assert not list(folder.glob("backup*"))


def test_one_of_the_first_release_is_migrated_when_it_starts_and_a_copy_stays(folder: Path) -> None:
    """0.1.0 wrote no schema. Commands that only read leave the folder as it is."""
    (folder / "state" / schema.FILE).unlink()
    study = folder / "state" / "studies" / "gone"
    study.mkdir(parents=True)
    (study / "study.json").write_text("{}")
    (study / "weights.f32").write_bytes(b"\0" * 100)
    CoordinatorConfig.load(folder)
    assert not (folder / "state" / schema.FILE).exists()
    started(folder)
    assert noted(folder)["schema"] == schema.SCHEMA
    backup = folder / "backup.schema-1"
    assert backup.stat().st_mode & 0o077 == 0
    copied = {str(file.relative_to(backup)) for file in backup.rglob("*") if file.is_file()}
    assert copied == {
        "coordinator.yaml", "roster.json", "accounts.json", "state/studies/gone/study.json"
    }  # fmt: skip
    assert (backup / "roster.json").read_bytes() == (folder / "roster.json").read_bytes()
    assert "migrated" in (folder / "state" / "events.log").read_text()


def test_a_migration_that_was_cut_short_is_finished_by_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(folder: Path) -> None:
        if (folder / "roster.json").exists():
            (folder / "roster.json").rename(folder / "sites.json")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(schema, "STEPS", schema.STEPS | {schema.SCHEMA: rename})
    monkeypatch.setattr(schema, "SCHEMA", schema.SCHEMA + 1)
    before = (folder / "roster.json").read_bytes()
    with pytest.raises(WardroundError, match="No space left") as caught:
        schema.migrate(folder)
    assert caught.value.code is Code.STATE
    assert noted(folder)["schema"] == schema.SCHEMA - 1
    assert schema.migrate(folder)
    assert noted(folder)["schema"] == schema.SCHEMA
    assert (folder / f"backup.schema-{schema.SCHEMA - 1}" / "roster.json").read_bytes() == before
    assert not schema.migrate(folder)


def test_one_of_a_newer_release_is_refused_by_its_name(folder: Path) -> None:
    plain = {"schema": schema.SCHEMA + 1, "release": "6.0.0"}
    (folder / "state" / schema.FILE).write_text(json.dumps(plain))
    with pytest.raises(WardroundError, match=r"of wardround 6\.0\.0") as caught:
        CoordinatorConfig.load(folder)
    assert caught.value.code is Code.RELEASE


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"schema": "x", "release": "1"}', b"\xff"]
)
def test_a_damaged_schema_is_named(folder: Path, content: bytes) -> None:
    (folder / "state" / schema.FILE).write_bytes(content)
    with pytest.raises(WardroundError, match=r"schema\.json") as caught:
        CoordinatorConfig.load(folder)
    assert caught.value.code is Code.STATE
