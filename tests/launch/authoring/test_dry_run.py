"""The dry run names the mode, the layer and the remedy."""

from __future__ import annotations

import json

import pytest
from torch import nn
from typer.testing import CliRunner

from launch.authoring.dry_run import check_task, results
from launch.cli.main import app
from protocol.errors import Code, WardroundError
from tasks import registry
from tasks.shipped.breast_cancer import BreastCancer

MODES = ["none", "none, evaluation=noised", "local", "distributed"]


class Dropping(BreastCancer):
    name = "dropping"

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(self.schema.width, 1))


def test_a_sound_task_passes_in_every_mode() -> None:
    assert [result.mode for result in results(BreastCancer())] == MODES
    check_task(BreastCancer())


def test_a_layer_that_no_claim_allows_is_named_with_its_modes() -> None:
    refused = {result.mode: result for result in results(Dropping()) if result.problem}
    assert list(refused) == ["local", "distributed"]
    assert "0 (Dropout) draws at random" in refused["local"].problem
    assert refused["local"].remedy
    with pytest.raises(WardroundError, match="privacy=local") as caught:
        check_task(Dropping())
    assert caught.value.code is Code.CONFIGURATION


def test_the_command_lists_every_mode_and_fails_where_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_registered", {"dropping": Dropping})
    passed = CliRunner().invoke(app, ["task", "check", "breast_cancer", "--json"])
    assert [mode["mode"] for mode in json.loads(passed.stdout)["modes"]] == MODES
    refused = CliRunner().invoke(app, ["task", "check", "dropping"])
    assert isinstance(refused.exception, WardroundError)
    assert "privacy=local" in refused.stdout
