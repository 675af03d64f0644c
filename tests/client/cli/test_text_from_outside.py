"""Titles, contacts and reasons that a coordinator sent are text in a hospital's terminal and log:
no markup, no escape sequence, no line of their own."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.checks.base import CheckResult
from client.cli import daemon, main
from client.cohorts.quality_page import grid
from client.config.site_config import SiteConfig
from client.config.site_roster import roster_text
from client.daemon import status
from client.data.quality import ColumnQuality, Quality
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.governance import SiteGovernance
from client.log_events import LOGGER, configure, event
from protocol.errors import Code
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.terminal import command_line
from tests.client.hospital import SITE, SITES
from tests.client.hospital import study as a_study
from tests.protocol.terminal.hostile_text import ALL_OF_IT, faults, obeyed


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "WARDROUND_SITE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "900")
    monkeypatch.setenv("FORCE_COLOR", "1")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """alpha, whose rules are enough for a private study of breast_cancer."""
    answers = SiteAnswers(
        site=SITE,
        data={"breast_cancer": tmp_path / "data.csv"},
        tasks=("breast_cancer",),
        purposes=("research",),
        modes=("local",),
        approval="rule",
        delta=1e-3,
        epsilon_per_study=1e3,
        epsilon_lifetime=9e3,
    )
    config = new_site.init(tmp_path / SITE, answers)
    keys = {name: Identity.generate().public_key.hex() for name in SITES}
    keys[SITE] = config.load_identity().public_key.hex()
    (tmp_path / SITE / new_site.ROSTER).write_bytes(roster_text(keys))
    return tmp_path / SITE


@pytest.fixture
def governance(site: Path) -> Iterator[SiteGovernance]:
    """The site's daemon as far as others can see it, at work on a study."""
    config = SiteConfig.load(site / new_site.SITE_YAML)
    study = a_study(title=ALL_OF_IT, contact=ALL_OF_IT)
    governance = SiteGovernance(config, config.load_identity(), daemon=True)
    governance.propose(study)
    now = status.Status(
        site=SITE,
        coordinator="127.0.0.1:1",
        version="1",
        pid=1,
        started=status.utc(),
        updated=status.utc(),
        study=study.digest,
        title=study.title,
        round=1,
        rounds=20,
        attempt=1,
        last_error=status.LastError(status.utc(), Code.MESSAGE.value, ALL_OF_IT),
    )
    status.write(config.state, now)
    yield governance
    governance.close_state()


def only(governance: SiteGovernance) -> Study:
    (row,) = governance.approvals.studies()
    return governance.approvals.find(row.digest)[0]


@pytest.mark.parametrize(
    "command", ["studies", "show STUDY", "ledger", "status", "revoke STUDY", "approve STUDY"]
)
def test_an_operator_reads_them_as_text(
    site: Path,
    governance: SiteGovernance,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = command.replace("STUDY", only(governance).digest).split()
    monkeypatch.setattr(sys, "argv", ["wardround-site", *words, "--config", str(site)])
    monkeypatch.setattr(command_line, "_someone_is_there", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    with pytest.raises(SystemExit):
        main.main()
    out, err = capsys.readouterr()
    cut = command in ("studies", "ledger")  # a title has 50 or 60 characters of a table there
    assert (faults(out + err) if not cut else obeyed(out + err)) == []
    assert "\\x1b]0;OWNED\\x07" in out + err


def test_a_finding_and_a_column_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    daemon._show_finding(CheckResult("TLS", False, ALL_OF_IT, ALL_OF_IT))
    assert faults(capsys.readouterr().out) == []
    column = ColumnQuality(ALL_OF_IT, ALL_OF_IT, 0, 0, None, (), (), (ALL_OF_IT,))
    command_line.console().print(grid(Quality("breast_cancer", 1, 1, 9, 0, 1, (column,))))
    assert faults(capsys.readouterr().out) == []


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a site's daemon writes to standard error."""
    logger = logging.getLogger(LOGGER)
    before = logger.handlers[:], logger.propagate, logger.level
    configure("text")
    (handler,) = logger.handlers
    text = io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text)
    yield text
    logger.handlers[:], logger.propagate, _ = before
    logger.setLevel(before[2])


def test_a_sites_log_has_them_as_text(log: io.StringIO) -> None:
    event("study", study="0" * 64, title=ALL_OF_IT, standing="waiting")
    logging.getLogger(LOGGER).warning("refused: %s", ALL_OF_IT)
    first, second = log.getvalue().splitlines()
    assert faults(second) == []
    assert obeyed(first) == []
