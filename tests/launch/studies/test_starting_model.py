"""A study from a released model: read, verified, trained on, and said in every report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from launch.config import compose
from launch.config.schema import Config
from launch.demo.mlflow_server import MlflowServer
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.baselines import compare
from launch.studies.plans.plan import plan
from launch.studies.run import FinishedStudy, declared_patients, run_inprocess, split_plan
from launch.studies.starting_model import starting_model, starting_weights
from launch.studies.study_builder import build_study
from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.bundle import CARD, Bundle
from protocol.models.record import ModelRecord, SignedRecord
from protocol.vectors import Vector, weights_digest
from server.outcome import Outcome
from server.report.model_card import card
from server.rounds.listener import Listeners
from server.tracking.mlflow_run import client_of
from server.tracking.registered_model import CREDENTIALS
from server.tracking.tags_and_metrics import claims
from tasks import registry
from tasks.flat_model import FlatModel
from tasks.shipped.breast_cancer import BreastCancer
from tests.server.outcomes import outcome, study
from tests.waiting import HUNG

TASK = BreastCancer()
TABLES = TASK.public_sites(None)
KEY = Identity.generate()
TRUSTED = KEY.public_key.hex()
PRIVATE = ("privacy=local", "privacy.epsilon=3", "rounds=2", "tracking=off")
FOLLOWING = ("privacy=local", "privacy.epsilon=2", "rounds=1", "tracking=off")
CARD_TEXT = "# For research"


@dataclass(frozen=True)
class Parent:
    """A finished study of this process, and its model as a coordinator would have signed it."""

    finished: FinishedStudy
    bundle: Bundle
    file: Path

    @property
    def weights(self) -> Vector:
        return self.bundle.weights

    def start(self, *overrides: str) -> Config:
        return compose.load(
            [f"start.model={self.file}", f"start.key={TRUSTED}", *FOLLOWING, *overrides]
        )


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CREDENTIALS, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def signed(of: Outcome, key: Identity = KEY) -> Bundle:
    record = ModelRecord(
        study=of.study.digest,
        model="cancer",
        version="7",
        weights=weights_digest(of.weights),
        files={CARD: digest(CARD_TEXT.encode())},
    )
    model = FlatModel(TASK, of.study.optimisation.seed)
    made = SignedRecord.make(record, key)
    return Bundle(made, of.study, CARD_TEXT, model.layout, of.weights, model.frozen)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Parent:
    folder = tmp_path_factory.mktemp("parent")
    finished = run_inprocess(compose.load([*PRIVATE, f"output={folder}"]), TASK, TABLES)
    bundle = signed(finished.outcome)
    bundle.write(folder / "cancer-7.safetensors")
    return Parent(finished, bundle, folder / "cancer-7.safetensors")


def refusal(config: Config) -> WardroundError:
    with pytest.raises(WardroundError) as refused:
        build_study(config, TASK, dict.fromkeys("abc", 100))
    assert refused.value.remedy
    return refused.value


def test_training_goes_on_from_the_released_weights(parent: Parent, tmp_path: Path) -> None:
    still = ("local_lr=1e-9", "evaluation=off", f"output={tmp_path}")
    done = run_inprocess(parent.start(*still), TASK, TABLES).outcome
    assert np.abs(done.weights - parent.weights).max() < 1e-3, "it began elsewhere"
    drawn = FlatModel(TASK, 0).weights()
    assert np.abs(drawn - parent.weights).max() > 1e-2
    start = done.study.start
    assert start is not None
    assert (start.model, start.record) == ("cancer/7", parent.bundle.digest)
    assert (start.study, start.weights) == (
        parent.finished.outcome.study.digest,
        weights_digest(parent.weights),
    )


def test_its_epsilon_is_in_every_report(parent: Parent, tmp_path: Path) -> None:
    done = run_inprocess(parent.start(f"output={tmp_path}"), TASK, TABLES).outcome
    assert done.epsilon is not None
    assert done.epsilon <= 2, "what this study itself spent"
    assert "lost up to epsilon 3" in done.uncovered
    text = card(done.study, done)
    assert "in all" in text
    assert "composition with the model it starts from" in text
    assert parent.bundle.digest in text
    tags = claims(done)
    assert float(tags["wardround.carried_epsilon"]) >= 5
    assert float(tags["wardround.carried_delta"]) >= 2e-5
    assert tags["wardround.start"] == "cancer/7"
    assert tags["wardround.start_study"] == parent.finished.outcome.study.digest
    assert not {tag for tag in claims(parent.finished.outcome) if "start" in tag}


def test_a_plan_says_it_before_anything_runs(parent: Parent) -> None:
    assert "lost up to epsilon 3" in plan(parent.start("task=breast_cancer")).as_json()["uncovered"]


def test_an_interrupted_study_goes_on(parent: Parent, tmp_path: Path) -> None:
    """The weights are read again from where the configuration says."""
    config = parent.start("rounds=2", "evaluation=off", f"output={tmp_path}")
    cohorts = cohorts_of(TASK, TABLES, split_plan(config))
    of = build_study(config, TASK, declared_patients(cohorts))

    class Stops(Listeners):
        def round(self, report: object) -> None:
            raise KeyboardInterrupt

    federation, checkpoint = InProcessFederation(cohorts), tmp_path / "checkpoint.pt"
    weights = starting_weights(config)
    with pytest.raises(KeyboardInterrupt):
        federation.run(of, TASK, Stops(), checkpoint=checkpoint, start=weights)
    done = federation.run(of, TASK, Listeners(), checkpoint=checkpoint, start=weights)
    assert (done.status, done.rounds[-1].round) == ("finished", 2)


def test_a_round_loop_without_the_weights_begins_nothing(parent: Parent) -> None:
    config = parent.start()
    cohorts = cohorts_of(TASK, TABLES, split_plan(config))
    of = build_study(config, TASK, declared_patients(cohorts))
    for wrong in (None, parent.weights + np.float32(1e-3)):
        with pytest.raises(WardroundError) as refused:
            InProcessFederation(cohorts).run(of, TASK, Listeners(), start=wrong)
        assert refused.value.code is Code.WEIGHTS


def test_baselines_start_there_too(parent: Parent) -> None:
    config = parent.start("privacy.epsilon=0.001", "evaluation=off")
    cohorts = cohorts_of(TASK, TABLES, split_plan(config))
    declared = declared_patients(cohorts)
    federated, pooled = compare(config, TASK, cohorts, declared, parent.weights, ("pooled",))
    assert pooled.figures["auc"] == pytest.approx(federated.figures["auc"], abs=0.2)
    drawn = replace(config, start=compose.load([]).start)
    (scratch,) = compare(drawn, TASK, cohorts, declared, FlatModel(TASK, 0).weights(), ())
    assert pooled.figures["auc"] > scratch.figures["auc"]


@pytest.mark.parametrize("place", [100, -5])
def test_a_changed_file_is_refused(parent: Parent, tmp_path: Path, place: int) -> None:
    data = bytearray(parent.file.read_bytes())
    data[place] ^= 1
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(data)
    assert refusal(parent.start(f"start.model={changed}")).code is Code.WEIGHTS


def test_somebody_elses_signature_is_refused(parent: Parent) -> None:
    other = Identity.generate().public_key.hex()
    assert refusal(parent.start(f"start.key={other}")).code is Code.WEIGHTS


def test_a_file_without_a_key_is_refused(parent: Parent) -> None:
    for pinned in ("", parent.bundle.digest):
        error = refusal(parent.start("start.key=''", f"start.digest='{pinned}'"))
        assert error.code is Code.CONFIGURATION
        assert "start.key" in error.remedy


def test_credentials_in_use_are_the_key(parent: Parent, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parent.file.with_name("bundle.json")
    file.write_text(TRUSTED)
    monkeypatch.setenv(CREDENTIALS, str(file))
    assert starting_model(parent.start("start.key=''")) is not None


def test_another_version_than_the_one_meant_is_refused(parent: Parent) -> None:
    assert starting_model(parent.start(f"start.digest='{parent.bundle.digest}'")) is not None
    error = refusal(parent.start(f"start.digest='{'0' * 64}'"))
    assert error.code is Code.WEIGHTS
    assert "start.digest" in error.message


def test_a_file_that_is_not_there_is_named(parent: Parent) -> None:
    assert refusal(parent.start("start.model=nowhere.safetensors")).code is Code.NO_DATA


def test_another_task_is_refused(parent: Parent) -> None:
    other = registry.load("heart_disease")
    config = parent.start("task=heart_disease")
    with pytest.raises(WardroundError) as refused:
        build_study(config, other, dict.fromkeys("abc", 100))
    assert refused.value.code is Code.REFUSED_STUDY
    assert "another task" in refused.value.message


# --- as MLflow has it ---
@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


def registered(server: MlflowServer, model: str, signer: Identity | None) -> Outcome:
    from server.tracking.tracker import MlflowTracker

    done = outcome(study())
    tracker = MlflowTracker(server.url, "starts", model=model, signer=signer)
    tracker.begin(done.study, {}, "1.2.3")
    tracker.finish(done)
    assert tracker.settle(HUNG).missing == ()
    return done


@pytest.mark.slow
def test_a_registered_version_is_taken_by_signature_or_by_digest(server: MlflowServer) -> None:
    done, found = (
        registered(server, "signed", KEY),
        ["tracking=mlflow", "tracking.uri=" + server.url],
    )
    words = ["start.model=models:/signed/1", *FOLLOWING, *found]
    by_key = starting_model(compose.load([*words, f"start.key={TRUSTED}"]))
    assert by_key is not None
    assert by_key.study.digest == done.study.digest
    np.testing.assert_array_equal(by_key.weights, done.weights)
    tags = client_of(server.url).get_model_version("signed", "1").tags
    pinned = digest(tags["wardround.record"].encode())
    by_digest = starting_model(compose.load([*words, f"start.digest='{pinned}'"]))
    assert by_digest is not None
    assert by_digest.start == by_key.start
    for wrong, code in (
        ("start.key=''", Code.CONFIGURATION),
        (f"start.key={Identity.generate().public_key.hex()}", Code.WEIGHTS),
        (f"start.digest='{'0' * 64}'", Code.WEIGHTS),
        (f"start.model=models:/signed/9 start.key={TRUSTED}", Code.TRACKING),
    ):
        with pytest.raises(WardroundError) as refused:
            starting_model(compose.load([*words, *wrong.split()]))
        assert refused.value.code is code, wrong


@pytest.mark.slow
def test_what_nobody_signed_is_taken_by_digest_alone(server: MlflowServer) -> None:
    registered(server, "unsigned", None)
    words = ["start.model=models:/unsigned/1", *FOLLOWING, "tracking=mlflow"]
    words.append("tracking.uri=" + server.url)
    with pytest.raises(WardroundError) as refused:
        starting_model(compose.load([*words, f"start.key={TRUSTED}"]))
    assert refused.value.code is Code.WEIGHTS
    tags = client_of(server.url).get_model_version("unsigned", "1").tags
    pinned = digest(tags["wardround.record"].encode())
    assert starting_model(compose.load([*words, f"start.digest='{pinned}'"])) is not None
