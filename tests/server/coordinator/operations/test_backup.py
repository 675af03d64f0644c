"""A coordinator from its backup, and the history that it signs for a site."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.wire.history import History
from server.coordinator.config import CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.operations.backup import backup, restore
from server.coordinator.operations.history import history
from server.coordinator.service import Coordinator
from server.coordinator.setup import bundle
from server.enrolment.accounts import Accounts, Credentials
from server.enrolment.signing_key import signing_key
from tests.server.hospitals import credentials, new_coordinator

OLDER = Path(__file__).parents[3] / "golden" / "0.1.0" / "coordinator"


def test_a_coordinator_is_again_what_it_was(tmp_path: Path) -> None:
    config = new_coordinator(tmp_path / "coordinator")
    token = Credentials.load(credentials(config, config.address, "ada")).token
    before = bundle(config)
    with Coordinator(config, Journal(config.event_log, console=None)):
        backup(config, tmp_path / "backup.tar.gz")
    (tmp_path / "coordinator").rename(tmp_path / "lost")
    restored = restore(tmp_path / "backup.tar.gz", tmp_path / "elsewhere" / "coordinator")
    assert bundle(restored) == before
    assert Accounts(restored.accounts).owner(token) == "ada"
    for secret in (restored.pki.ca_key, restored.folder / "signing.key", restored.accounts):
        assert secret.stat().st_mode & 0o777 == 0o600
    with Coordinator(restored, Journal(restored.event_log, console=None)) as again:
        assert again.address


def test_the_history_names_every_study_of_a_site(tmp_path: Path) -> None:
    shutil.copytree(OLDER, tmp_path / "coordinator")
    config = CoordinatorConfig.load(tmp_path / "coordinator")
    signer = signing_key(config.folder)
    (tmp_path / "history").write_bytes(history(config, "north"))
    told = History.load(tmp_path / "history", "north", signer.public_key)
    folders = sorted((config.state / "studies").iterdir())
    studies = [Study.parse((folder / "study.json").read_bytes()) for folder in folders]
    named = {study.digest for study in studies if "north" in study.sites}
    assert named
    everything = told.since(datetime.fromtimestamp(0, UTC))
    assert {study.digest for study in everything} == named
    open_ones = {study.digest for study in told.since(datetime.now(UTC))}
    for folder in folders:
        last = (folder / "events.jsonl").read_text().splitlines()[-1]
        over = '"finished"' in last or '"cancelled"' in last
        assert (folder.name in open_ones) == (folder.name in named and not over)


def test_a_history_leaves_no_study_out(tmp_path: Path) -> None:
    shutil.copytree(OLDER, tmp_path / "coordinator")
    config = CoordinatorConfig.load(tmp_path / "coordinator")
    damaged = sorted((config.state / "studies").iterdir())[0]
    (damaged / "study.json").write_bytes(b"{")
    with pytest.raises(WardroundError) as refused:
        history(config, "north")
    assert refused.value.code is Code.STATE
