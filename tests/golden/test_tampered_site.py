"""A hospital's folder that somebody has changed is refused, in the words of this project.

Every twin is a copy with one thing done to it: SQL that was run on the database, or another head.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from client.config.site_config import SiteConfig
from client.governance.governance import SiteGovernance
from protocol.errors import EXIT_STATUS, Code, WardroundError
from tests.golden.conftest import Run
from tests.golden.opened import HERE, Golden, everywhere

OURS = {EXIT_STATUS[code] for code in Code} - {EXIT_STATUS[Code.INTERNAL]}
"""What a command ends with that refuses for a reason it knows."""
STATES = everywhere("twins/state_bad_*.sql")


@pytest.mark.slow
@pytest.mark.parametrize(("release", "name"), STATES)
def test_a_changed_database_is_found(release: str, name: str, tmp_path: Path, run: Run) -> None:
    site = Golden(HERE / release).copy("site", tmp_path)
    with closing(sqlite3.connect(site / "state" / "state.sqlite")) as db:
        db.executescript((HERE / release / name).read_text())
    ran = run(site, "audit", "verify")
    assert ran.status in OURS, ran.err
    assert "error (" in ran.err
    assert "all intact" not in ran.out


@pytest.mark.parametrize(("release", "name"), everywhere("twins/head_bad_*.json"))
def test_a_changed_head_is_found_before_anything_is_answered(
    release: str, name: str, tmp_path: Path, run: Run
) -> None:
    site = Golden(HERE / release).copy("site", tmp_path)
    shutil.copyfile(HERE / release / name, site / "state" / "head.json")
    assert run(site, "audit", "verify").status in OURS
    config = SiteConfig.load(site / "site.yaml")
    with pytest.raises(WardroundError) as refused:
        SiteGovernance(config, config.load_identity(), daemon=True)
    assert refused.value.code is Code.LEDGER
