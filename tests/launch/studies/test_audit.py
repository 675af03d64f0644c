"""`wardround audit` on public data, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli.main import app
from launch.config import compose
from launch.studies.audit import audit
from protocol.errors import Code, WardroundError

SMALL = ("task=breast_cancer", "rounds=1", "privacy.epsilon=3", "tracking=off")


def test_an_audit_reports_every_attack_and_a_membership_attack(tmp_path: Path) -> None:
    words = ["audit", "--runs", "100", "--canaries", "64", "--json", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*words, *SMALL])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "summary.json").read_text())
    assert {one["audit"] for one in report["findings"]} == {"many runs", "one run"}
    assert {one["part"] for one in report["findings"]} == {"training", "evaluation"}
    assert 0 < report["membership"]["auc"] < 1
    assert "Which audit sees which fault" in (tmp_path / "audit.md").read_text()


def test_hospitals_own_data_are_not_audited_from_afar() -> None:
    config = compose.load([*SMALL, "federation=deployment"])
    with pytest.raises(WardroundError, match="public or synthetic data only") as raised:
        audit(config, 100, 64, lambda stage, done, of: None)
    assert raised.value.code is Code.CONFIGURATION
    assert "wardround-site audit privacy" in raised.value.remedy


def test_a_task_without_public_data_is_not_audited_from_afar() -> None:
    config = compose.load([*SMALL[1:], "task.name=dicom_dose"])
    with pytest.raises(WardroundError, match="public"):
        audit(config, 100, 64, lambda stage, done, of: None)
