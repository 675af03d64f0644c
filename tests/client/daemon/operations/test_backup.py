"""Spend, back up, spend, restore: epsilon never falls, and no count is answered twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.config.site_config import SiteConfig
from client.config.site_roster import signing_key_file
from client.daemon.operations.backup import backup, restore
from client.data.dicom.index import image_decisions
from client.data.dicom.index.index import ImageIndex
from client.governance.budget import budget
from client.governance.database import SiteState
from client.governance.governance import SiteGovernance
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire.history import History, PastStudy
from tests.client.hospital import SITE, SITES, numbered

EXACT = 4
"""Sums without noise that one study of `exact` releases."""


def exact(number: int) -> Study:
    return numbered(
        number,
        privacy={"mode": "none"},
        optimisation={"rounds": 2},
        aggregation={"attempts": 3},
        evaluation={"release": "exact"},
    )


class Site:
    """A site in a folder of its own, its coordinator's key, and what was accepted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.coordinator = folder, Identity.generate()
        folder.mkdir(mode=0o700)
        identity = Identity.generate()
        identity.save(folder / "identity.pem")
        (folder / "node.pem").write_text("a key")
        roster = {name: os.urandom(32).hex() for name in SITES}
        roster[SITE] = identity.public_key.hex()
        rules: dict[str, Any] = {
            "tasks": ["breast_cancer"],
            "purposes": ["research"],
            "modes": ["none", "local"],
            "approval": "rule",
            "epsilon_per_study": 3.0,
            "epsilon_lifetime": 50.0,
            "exact_evaluation": True,
            "exact_releases": EXACT,
        }
        plain = {
            "site": SITE,
            "identity": "identity.pem",
            "node_key": "node.pem",
            "coordinator": {"address": "localhost:9092", "root_certificate": "ca.pem"},
            "roster": roster,
            "state": "state",
            "data": {"breast_cancer": {"files": {"t": "t.csv"}, "view": "SELECT * FROM t"}},
            "policy": rules,
        }
        (folder / "site.yaml").write_text(yaml.safe_dump(plain))
        SiteState.create(folder / "state", SITE, identity.public_key.hex()).close()
        self.config = SiteConfig.load(folder / "site.yaml")
        signing_key_file(self.config).write_text(self.coordinator.public_key.hex())
        self.site = self.opened(self.config)

    @staticmethod
    def opened(config: SiteConfig, *, daemon: bool = False) -> SiteGovernance:
        return SiteGovernance(config, config.load_identity(), daemon=daemon)

    def accept(self, study: Study) -> Study:
        assert self.site.propose(study) == ("accepted", None)
        return study

    def attempt(self, study: Study, number: int) -> None:
        train = number <= study.optimisation.rounds
        evaluate = study.evaluates(number)
        self.site.debit(study, number, number, Sections(study, train=train, evaluate=evaluate))

    def spent(self) -> float:
        return budget(self.site.state, self.site.policy).spent

    def history(self, path: Path, *studies: tuple[Study, datetime | None]) -> Path:
        past = tuple(
            PastStudy(
                document=study.document.decode(),
                ended=None if ended is None else ended.isoformat(),
            )
            for study, ended in studies
        )
        made = History(site=SITE, made="2026-11-27T00:00:00+00:00", studies=past)
        path.write_bytes(made.signed(self.coordinator))
        return path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "site")
    yield made
    made.site.close_state()


def answered(site: Site, study: Study) -> None:
    """Proposes a study and asks for an attempt, as a coordinator does."""
    site.site.propose(study)
    site.attempt(study, 2)


def lost_and_restored(site: Site, tmp_path: Path) -> SiteConfig:
    """The site after its machine was lost, from what was written before."""
    site.site.close_state()
    (site.folder).rename(tmp_path / "lost")
    return restore(tmp_path / "backup.tar.gz", site.folder)


def test_what_was_released_by_hand_is_in_it(site: Site, tmp_path: Path) -> None:
    with ImageIndex.open(site.config.state) as index:
        image_decisions.write(index._db, "image", "content", "withhold")
        backup(site.folder, site.config, site.site.state, tmp_path / "backup.tar.gz")
    config = restore(tmp_path / "backup.tar.gz", tmp_path / "new")
    with ImageIndex.open(config.state) as index:
        rows = index._db.execute("SELECT image, content, decision FROM decided.review").fetchall()
    assert [tuple(row) for row in rows] == [("image", "content", "withhold")]


def test_epsilon_never_falls_and_no_count_is_answered_twice(site: Site, tmp_path: Path) -> None:
    before = site.accept(numbered(1))
    site.attempt(before, 1)
    backup(site.folder, site.config, site.site.state, tmp_path / "backup.tar.gz")
    site.attempt(before, 2)
    after, counted = site.accept(numbered(2)), site.accept(exact(3))
    for number in (1, 2, 3):
        site.attempt(after, number)
    site.attempt(counted, 1)
    spent, ended = site.spent(), datetime.now(UTC)

    config = lost_and_restored(site, tmp_path)
    with pytest.raises(WardroundError) as refused:
        Site.opened(config, daemon=True)
    assert refused.value.code is Code.LEDGER
    site.site = Site.opened(config)
    for study in (before, numbered(4), exact(5)):  # in any mode, known or new
        with pytest.raises(WardroundError) as refused:
            answered(site, study)
        assert refused.value.code is Code.LEDGER
    since = site.site.ledger.older_copy()
    assert since is not None
    key = bytes.fromhex(signing_key_file(config).read_text())
    path = site.history(tmp_path / "history.json", (before, None), (after, ended), (counted, ended))
    told = History.load(path, SITE, key).since(since)
    assert {study.digest for study in told} == {s.digest for s in (before, after, counted)}
    site.site.ledger.acknowledge(told)
    assert site.site.ledger.older_copy() is None
    assert site.spent() >= spent
    for study in (before, after, counted):
        for number in (1, 2, 3, study.aggregation.attempts):
            with pytest.raises(WardroundError) as refused:
                site.site.debit(study, 1, number, Sections(study, train=True, evaluate=False))
            assert refused.value.code is Code.REVOKED
    assert site.site.propose(exact(6)) == ("refused", Code.REFUSED_BUDGET), "used up"
    site.site.close_state()
    site.site = Site.opened(config, daemon=True)
    assert site.site.audit.verify() > 0
    assert site.site.propose(numbered(7)) == ("accepted", None), "the site goes on"


def test_the_history_adds_studies_and_never_removes_one(site: Site, tmp_path: Path) -> None:
    opened = site.accept(numbered(1))
    site.attempt(opened, 1)
    backup(site.folder, site.config, site.site.state, tmp_path / "backup.tar.gz")
    planned = budget(site.site.state, site.site.policy).reserved
    config = lost_and_restored(site, tmp_path)
    site.site = Site.opened(config)
    path = site.history(tmp_path / "history.json")
    told = History.load(path, SITE, site.coordinator.public_key)
    site.site.ledger.acknowledge(told.since(datetime.min.replace(tzinfo=UTC)))
    assert site.spent() == pytest.approx(planned), "an open study is charged in full all the same"
    with pytest.raises(WardroundError):
        site.attempt(opened, 2)


def test_a_history_is_believed_by_its_signature_alone(site: Site, tmp_path: Path) -> None:
    path = site.history(tmp_path / "history.json", (numbered(1), None))
    with pytest.raises(WardroundError) as forged:
        History.load(path, SITE, Identity.generate().public_key)
    assert forged.value.code is Code.IDENTITY
    changed = path.read_text().replace("Study 1", "Study 2")
    path.write_text(changed)
    with pytest.raises(WardroundError) as altered:
        History.load(path, SITE, site.coordinator.public_key)
    assert altered.value.code is Code.IDENTITY
    path = site.history(tmp_path / "other.json")
    with pytest.raises(WardroundError, match="not of beta"):
        History.load(path, "beta", site.coordinator.public_key)


def test_what_ended_before_the_backup_is_charged_no_more(site: Site, tmp_path: Path) -> None:
    backup_time = datetime.now(UTC)
    path = site.history(
        tmp_path / "history.json",
        (numbered(1), backup_time - timedelta(days=2)),
        (numbered(2), backup_time),
        (numbered(3), None),
    )
    told = History.load(path, SITE, site.coordinator.public_key).since(backup_time)
    assert [study.title for study in told] == ["Study 2", "Study 3"]


def test_a_backup_is_whole_private_and_of_the_right_kind(site: Site, tmp_path: Path) -> None:
    from protocol.operations import backup_archive

    target = tmp_path / "backup.tar.gz"
    backup(site.folder, site.config, site.site.state, target)
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(WardroundError, match="exists already"):
        backup(site.folder, site.config, site.site.state, target)
    with pytest.raises(WardroundError, match="backup of a site"):
        backup_archive.restore(target, "coordinator", tmp_path / "new")
    with pytest.raises(WardroundError, match="not empty"):
        restore(target, site.folder)
    data = target.read_bytes()
    for name, damaged in {
        "cut": data[: len(data) // 2],
        "flipped": data[:200] + bytes([data[200] ^ 1]) + data[201:],
        "empty": b"",
        "text": b"hello",
    }.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(WardroundError) as refused:
            restore(tmp_path / name, tmp_path / "new")
        assert refused.value.code is Code.USAGE, name
    assert not (tmp_path / "new").exists()
    config = restore(target, tmp_path / "new")
    for secret in (config.identity, config.node_key, config.state / "split.key"):
        assert secret.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
