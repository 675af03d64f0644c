"""A reviewer's whole way: a real coordinator, a real MLflow, and hospitals that hear of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.config import known_reviewers
from client.config.site_decisions import SiteDecisions
from client.enrolment.decision_feed import DecisionFeed
from client.prediction.fetched_models import FOLDER, FetchedModels, bundle_file
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from launch.cli.main import app
from launch.demo.mlflow_server import MlflowServer
from launch.federations.deployment import RemoteFederation
from protocol.errors import Code, WardroundError
from protocol.models.bundle import Bundle
from protocol.models.decision import Keys
from protocol.wire.flower_encoding import DECISIONS
from protocol.wire.offered_models import file_of
from server.coordinator import setup
from server.enrolment.account_terms import Role
from server.enrolment.accounts import Accounts, issue
from server.review.approval_watch import ApprovalWatch
from server.review.registry_follower import UNSIGNED, VERDICT
from server.rounds.listener import Listeners
from server.tracking.mlflow_run import client_of
from tests.client.prediction.ward import site
from tests.server.hospitals import Deployment, deployed, study_of
from tests.waiting import until

pytestmark = pytest.mark.slow
GATED = ("gates.metrics={auc: 0.5}",)
SHUT = ("gates.metrics={auc: 0.9999}", "rounds=1", "seed=1")


class Consortium:
    """A coordinator with MLflow; ada launched versions 1 and 2 of `cancer`, and the gates of
    version 2 are shut. rita and raoul are reviewers, and `folder` is their machine."""

    def __init__(self, here: Deployment, url: str, folder: Path) -> None:
        self.here, self.url, self.folder = here, url, folder
        self.people = {name: self._account(name, "reviewer") for name in ("rita", "raoul")}
        self.people["ada"] = self._account("ada", "own_studies")
        assert self.does("ada", "key", key=True).exit_code == 0
        for name in ("rita", "raoul"):
            key = json.loads(self.does(name, "key", "--json", key=True).stdout)["key"]
            words = ("coordinator", "account", "key", name, key, "--yes")
            done = CliRunner().invoke(app, [*words, "--config", str(here.config.folder)])
            assert done.exit_code == 0, done.output
        self.bundle = folder / "bundle.json"
        self.bundle.write_text(json.dumps(setup.bundle(here.config)))

    def _account(self, name: str, role: Role) -> Path:
        path, config = self.folder / f"{name}.json", self.here.config

        def deliver(token: str) -> None:
            there = {"coordinator": self.here.coordinator.address}
            issue(path, setup.credentials(config, name, token).model_copy(update=there))

        Accounts(config.accounts).add(name, role=role, deliver=deliver)
        return path

    def train(self, *overrides: str) -> None:
        study, configuration = study_of(self.here.hospitals.patients, *overrides)
        with RemoteFederation(self.people["ada"]) as ada:
            ada.run(study, configuration, {"experiment": "cancer", "model": "cancer"}, Listeners())
            assert ada.receipt.model

    def does(self, who: str, *words: str, key: bool = False, reason: str = "") -> Result:
        """What a person types after `wardround review`."""
        account = [] if key and words[0] == "key" else ["--credentials", str(self.people[who])]
        own = ["--key", str(self.folder / f"{who}.key")] if key else []
        why = ["--reason", reason] if reason else []
        return CliRunner().invoke(app, ["review", *words, *account, *own, *why])

    def decides(self, who: str, verdict: str, version: str = "1", reason: str = "sure") -> Result:
        return self.does(who, verdict, "cancer", version, key=True, reason=reason)

    def refuses(self, who: str, verdict: str, version: str = "1") -> WardroundError:
        error = self.decides(who, verdict, version).exception
        assert isinstance(error, WardroundError)
        return error

    def export(self, name: str, *more: str, who: str = "", version: str = "@approved") -> Bundle:
        """who: whose account asks the coordinator; "" for the public key alone."""
        file = self.folder / f"{name}.safetensors"
        key = str(self.people[who] if who else self.bundle)
        words = ("export", f"models:/cancer{version}", str(file), "--key", key, *more)
        done = CliRunner().invoke(app, words)
        if done.exception is not None:
            raise done.exception
        return Bundle.read(file, self.here.coordinator.signer.public_key)

    @property
    def client(self) -> Any:
        return client_of(self.url)

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.client.get_model_version("cancer", version).tags)

    def aliases(self) -> dict[str, str]:
        found = self.client.get_registered_model("cancer").aliases
        return {alias: str(version) for alias, version in found.items()}


@pytest.fixture(scope="module")
def all_of_it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    folder = tmp_path_factory.mktemp("review")
    with (
        pytest.MonkeyPatch.context() as patch,
        MlflowServer(folder / "mlflow") as server,
        deployed(folder / "there", server.url) as here,
    ):
        patch.setenv("MLFLOW_TRACKING_URI", server.url)
        here.connect()
        made = Consortium(here, server.url, folder)
        made.train(*GATED)
        made.train(*SHUT)
        coordinator = here.coordinator
        report = coordinator.unsigned_approvals
        decisions, offers = coordinator.decisions, coordinator.offers
        with ApprovalWatch(decisions, offers, server.url, report, pause=1.0):
            yield made


def test_a_reviewer_approves_and_a_hospital_is_told(all_of_it: Consortium, tmp_path: Path) -> None:
    made = all_of_it
    shown = made.does("rita", "show", "cancer", "1")
    assert shown.exit_code == 0, shown.output
    for word in ("launched  by ada", "gate      auc: passed", "decision  none yet", "source"):
        assert word in shown.stdout
    assert made.decides("rita", "approve", reason="well calibrated").exit_code == 0
    until(lambda: made.aliases().get("approved") == "1", "the alias follows")
    until(lambda: VERDICT in made.tags("1"), "the tags follow")
    assert "well calibrated" in made.tags("1")[VERDICT]

    bundle = made.export("approved")
    said = json.loads(made.bundle.read_text())["reviewers"]
    reviewers: Keys = {name: frozenset({key}) for name, key in said.items()}
    assert bundle.approval is not None
    assert bundle.approval.objection(bundle.digest, reviewers) == ""
    listed = made.does("ada", "list", "--json")
    assert [one["verdict"] for one in json.loads(listed.stdout)] == ["approved"]

    config = site(tmp_path, {"models": {bundle.digest: {}}})
    signer = made.here.coordinator.signer.public_key.hex()
    config.coordinator.root_certificate.with_name("coordinator-signing-key.pub").write_text(signer)
    known_reviewers.reviewers_file(config).write_bytes(known_reviewers.text(said))
    decisions = SiteDecisions(config)
    name = made.here.hospitals.names[0]
    fleet = FleetConfig(
        made.here.coordinator.address,
        made.here.config.pki.ca_certificate,
        made.here.config.folder.parent / "hospitals" / f"{name}.pem",
    )
    made.here.hospitals.disconnect()
    with FleetConnection(fleet, {DECISIONS: DecisionFeed(decisions)}) as connection:

        def number() -> int:
            connection.receive(wait=1)
            return decisions.now().number

        until(lambda: number() == 1, "the hospital hears of the approval")
        fetched = FetchedModels(config, fleet)

        def bundles() -> list[str]:
            fetched.look()
            return [path.name for path in (config.state / FOLDER).iterdir()]

        until(lambda: bundles() == [f"{bundle.digest}.safetensors"], "the model itself comes")
        come = bundle_file(config, "cancer@approved")
        assert Bundle.read(come, made.here.coordinator.signer.public_key).digest == bundle.digest
        assert made.refuses("raoul", "reject").code is Code.USAGE
        assert made.decides("raoul", "withdraw", reason="inputs changed").exit_code == 0
        until(lambda: number() == 2, "the hospital hears of the withdrawal")
        assert bundles() == [], "a withdrawn model goes"
        offered = file_of(made.here.config.state / FOLDER, bundle.digest)
        until(lambda: not offered.exists(), "the coordinator offers it no more")
    assert decisions.turned_down(bundle.digest) == "raoul has withdrawn it"
    until(lambda: "approved" not in made.aliases(), "the alias goes")
    with pytest.raises(WardroundError, match="none of cancer is approved"):
        made.export("withdrawn")
    _put_back(made, bundle)


def _put_back(made: Consortium, bundle: Bundle) -> None:
    """Whoever can write to MLflow puts the approval back that raoul has withdrawn since; whether
    the coordinator's watch has seen it or not, who asks is not misled."""
    assert bundle.approval is not None
    for tag, text in bundle.approval.signed.tags.items():
        made.client.set_model_version_tag("cancer", "1", tag, text)
    with pytest.raises(WardroundError, match="raoul has withdrawn it"):
        made.export("asked", who="ada", version="/1")
    away = ("--coordinator", "localhost:1")
    with pytest.raises(WardroundError, match="was withdrawn since cannot be asked") as refused:
        made.export("away", *away, who="ada", version="/1")
    assert refused.value.code is Code.UNREACHABLE
    assert not (made.folder / "asked.safetensors").exists()


def test_what_is_refused_is_said(all_of_it: Consortium) -> None:
    made = all_of_it
    shut = made.refuses("rita", "approve", "2")
    assert shut.code is Code.REFUSED_POLICY
    assert "gates: auc: " in shut.message
    assert made.tags("2")["wardround.gate.auc"].startswith("FAILED")
    assert made.refuses("rita", "approve", "99").code is Code.TRACKING
    assert "is no reviewer" in made.refuses("ada", "approve").message
    study, configuration = study_of(made.here.hospitals.patients, "seed=2")
    with (
        RemoteFederation(made.people["rita"]) as rita,
        pytest.raises(WardroundError, match="submits no studies"),
    ):
        rita.submit(study, configuration)


def test_an_alias_set_by_hand_is_flagged_and_then_confirmed(all_of_it: Consortium) -> None:
    made = all_of_it
    made.client.set_registered_model_alias("cancer", "approved", "2")
    until(lambda: UNSIGNED in made.tags("2"), "it is flagged")
    until(lambda: made.here.coordinator.attention(), "the coordinator's status names it")
    until(lambda: setup.status(made.here.config)["attention"], "status names it")
    with pytest.raises(WardroundError, match="nobody has decided"):
        made.export("by hand")
    made.client.set_registered_model_alias("cancer", "approved", "1")
    confirmed = made.does("rita", "confirm", "cancer", key=True, reason="looked at again")
    assert confirmed.exit_code == 0, confirmed.output
    until(lambda: not made.here.coordinator.attention(), "nothing is flagged any more")
    assert made.export("confirmed").approval is not None
