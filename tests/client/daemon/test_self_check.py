"""A study whose epsilon could not hold on this machine is refused before it is accepted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from client.config.site_config import SiteConfig
from client.config.site_roster import roster_text
from client.daemon import trial
from client.daemon.site import Site
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.governance import SiteGovernance
from client.log_events import LOGGER
from client.training.devices.choice import Device
from launch.config.compose import load
from launch.studies.study_builder import build_study
from protocol.errors import Code
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.wire import messages
from tasks import registry
from tasks.shipped.breast_cancer import BreastCancer

SITES = ("alpha", "beta", "gamma")
NOISED_SCORES = ("privacy=none", "evaluation=noised", "privacy.epsilon=2")


class Plain(BreastCancer):
    name = "plain"


class Dropping(BreastCancer):
    """Drops so rarely that no result would ever show it, and only while it trains."""

    name = "dropping"

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Dropout(1e-12), nn.Linear(self.schema.width, 1))


class Shaken(BreastCancer):
    """Draws whenever it is asked."""

    name = "shaken"

    def model(self) -> nn.Module:
        return nn.Sequential(_Shake(), nn.Linear(self.schema.width, 1))


class _Shake(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 1e-12)


class Centred(BreastCancer):
    """Its features are those of the whole cohort."""

    name = "centred"

    def features(self, table: Mapping[str, Any]) -> np.ndarray:
        features = super().features(table)
        features -= np.float32(1e-6) * features.mean(axis=0, dtype=np.float32)
        return features


class Averaged(BreastCancer):
    """One loss for all patients."""

    name = "averaged"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().losses(outputs, labels).mean()


TASKS = (Plain, Dropping, Shaken, Centred, Averaged)


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(t.name, f"{__name__}:{t.__name__}", "wardround.tasks") for t in TASKS]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


class Ward:
    """One hospital whose patients are never loaded."""

    def __init__(self, folder: Path) -> None:
        nobody = folder.parent / "nobody.csv"
        nobody.touch()
        answers = SiteAnswers(
            site="alpha",
            data={t.name: nobody for t in TASKS},
            tasks=tuple(t.name for t in TASKS),
            purposes=("research",),
            modes=("local", "distributed", "none"),
            approval="rule",
            exact_releases=100,
            epsilon_per_study=3.0,
            epsilon_lifetime=100.0,
            epsilon_broken=100.0,
            threads=1,
        )
        config = new_site.init(folder, answers)
        roster = {name: Identity.generate().public_key.hex() for name in SITES[1:]}
        roster["alpha"] = config.load_identity().public_key.hex()
        (folder / new_site.ROSTER).write_bytes(roster_text(roster))
        config = SiteConfig.load(folder / new_site.SITE_YAML)
        self.governance = SiteGovernance(config, config.load_identity(), daemon=True)
        self.site = Site(
            "alpha", config.load_identity(), self.governance.roster, self.governance, _nobody
        )

    def propose(self, study: Study, *, dry: bool = False) -> messages.Standing:
        propose = messages.Propose(document=study.document.decode(), dry=dry)
        answer = messages.parse(self.site.answer(messages.frame(propose)))
        assert isinstance(answer, messages.Standing)
        return answer


def _nobody(*_: object) -> Any:
    raise AssertionError("patients were loaded")


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward(tmp_path / "alpha")
    yield ward
    ward.governance.close_state()


def study(task: str, *overrides: str) -> Study:
    private = overrides or ("privacy=distributed", "privacy.epsilon=2")
    composed = load(
        ["task=breast_cancer", "rounds=3", "federation=deployment", "tracking=off", *private]
    )
    return build_study(composed, registry.load(task), dict.fromkeys(SITES, 100))


@pytest.mark.parametrize("task", ["dropping", "shaken", "centred"])
@pytest.mark.parametrize("mode", ["distributed", "local"])
def test_no_privacy_is_spent_on_a_claim_that_would_not_hold(
    ward: Ward, task: str, mode: str
) -> None:
    wanted = study(task, f"privacy={mode}", "privacy.epsilon=2")
    for dry in (True, False):
        answer = ward.propose(wanted, dry=dry)
        assert (answer.state, answer.code) == ("refused", Code.CONFIGURATION)
    assert ward.governance.approvals.studies() == ()
    ward.site.reopen(wanted)  # as after a restart, on a machine that has changed
    assert not ward.site._accepted


def test_scores_with_noise_alone_are_checked_alone(ward: Ward) -> None:
    """What drops in training only does not while it is scored."""
    assert ward.propose(study("shaken", *NOISED_SCORES)).code is Code.CONFIGURATION
    assert ward.propose(study("centred", *NOISED_SCORES)).code is Code.CONFIGURATION
    assert ward.propose(study("dropping", *NOISED_SCORES)).code is not Code.CONFIGURATION


def test_others_are_accepted_and_what_claims_nothing_is_not_looked_at(ward: Ward) -> None:
    assert ward.propose(study("plain")).state == "accepted"
    claimless = study("shaken", "privacy=none", "evaluation=exact")
    assert ward.propose(claimless).code is not Code.CONFIGURATION


@pytest.mark.parametrize("claim", [(), ("privacy=none", "evaluation=off")])
def test_a_task_that_breaks_its_contract_is_refused_without_an_epsilon_too(
    ward: Ward, claim: tuple[str, ...]
) -> None:
    """By a hospital, whoever sends it: the data scientist's own check is not the hospital's."""
    wanted = study("plain", *claim)
    task = registry.reference_to(registry.load("averaged"))
    wanted = Study.parse(wanted.model_copy(update={"task": task}).document)
    assert ward.propose(wanted).code is Code.CONFIGURATION
    assert ward.governance.approvals.studies() == ()


def test_what_the_policy_forbids_costs_no_check(ward: Ward) -> None:
    refused = ward.propose(study("dropping", "privacy=distributed", "privacy.epsilon=9"))
    assert refused.code is Code.REFUSED_BUDGET


def test_a_daemon_says_at_its_start_what_it_will_refuse(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    for task in ("plain", "dropping"):
        trial.check(registry.load(task), (Device(memory=1 << 28),)).log()
    assert [record.getMessage() for record in caplog.records] == [
        "self-check passed",
        "self-check failed",
    ]
    assert "0 (Dropout) draws at random" in vars(caplog.records[1])["why"]
