"""A registered model is loaded as it was registered, signed by whom the caller trusts, or not at
all; and nothing that lies with it is run."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from launch.demo.mlflow_server import MlflowServer
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.bundle import Bundle
from protocol.models.record import (
    RECORD,
    SIGNATURE,
    SIGNER,
    ModelRecord,
    SignedRecord,
    digests_of,
)
from protocol.vectors import weights_digest
from server import released_model
from server.outcome import Outcome
from server.released_model import example
from server.released_program import program_of
from server.tracking import mlflow_run, registered_model
from server.tracking.model_export import export
from server.tracking.registered_model import CREDENTIALS
from server.tracking.tracker import MlflowTracker, TrackingReceipt
from tasks import registry
from tests.golden.opened import HERE, Golden
from tests.server.outcomes import CONFIGURATION, outcome, study
from tests.waiting import HUNG

pytestmark = pytest.mark.slow
KEY, OTHER = Identity.generate(), Identity.generate()
TRUSTED = KEY.public_key.hex()
SCORES = example(registry.load("breast_cancer").schema)
PICKLED = """
import sys, mlflow
class Model(mlflow.pyfunc.PythonModel):
    def __reduce__(self):
        from pathlib import Path
        return (Path.touch, (Path(sys.argv[2]),))
    def predict(self, model_input):
        return model_input
mlflow.pyfunc.save_model(sys.argv[1], python_model=Model(), pip_requirements=[])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(autouse=True)
def here(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.delenv(CREDENTIALS, raising=False)


def client_of(uri: str) -> Any:
    return mlflow_run.client_of(uri)


def track(server: MlflowServer, done: Outcome, model: str, signer: Identity | None) -> Any:
    tracker = MlflowTracker(server.url, "registered", model=model, signer=signer)
    tracker.begin(done.study, CONFIGURATION, "1.2.3")
    tracker.finish(done)
    receipt = tracker.settle(HUNG)
    assert receipt.missing == ()
    return receipt


@pytest.fixture(scope="module")
def signed(server: MlflowServer) -> tuple[Outcome, TrackingReceipt]:
    done = outcome(study())
    return done, track(server, done, "signed", KEY)


@pytest.fixture(scope="module")
def unsigned(server: MlflowServer) -> str:
    return str(track(server, outcome(study()), "unsigned", None).model)


def stored(server: MlflowServer, model: str) -> Path:
    """The folder of a model's first version in the artifact store."""
    source = client_of(server.url).get_model_version(model, "1").source.rpartition("/")[2]
    (found,) = (path.parent for path in server.artifacts.rglob("MLmodel") if source in str(path))
    return found


@pytest.fixture
def folder(
    server: MlflowServer, signed: tuple[Outcome, TrackingReceipt], tmp_path: Path
) -> Iterator[Path]:
    """The signed model's folder in the artifact store; what is done to it is undone."""
    found = stored(server, "signed")
    shutil.copytree(found, tmp_path / "as it was")
    yield found
    shutil.rmtree(found)
    shutil.copytree(tmp_path / "as it was", found)


@pytest.fixture
def tags(server: MlflowServer, signed: tuple[Outcome, TrackingReceipt]) -> Iterator[Any]:
    """Sets tags of the signed version, and puts them back afterwards."""
    client = client_of(server.url)
    before = dict(client.get_model_version("signed", "1").tags)

    def change(new: dict[str, str]) -> None:
        for name, value in new.items():
            client.set_model_version_tag("signed", "1", name, value)

    yield change
    change(before)


def refused(address: str, **options: Any) -> Code:
    with pytest.raises(WardroundError) as caught:
        registered_model.load(address, **options)
    return caught.value.code


def test_what_the_coordinator_signed_is_loaded_without_a_word(
    signed: tuple[Outcome, TrackingReceipt],
) -> None:
    done, receipt = signed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = registered_model.load(receipt.model, key=TRUSTED)
    assert model.predict(SCORES)["score"].between(0, 1).all()
    found = registered_model.verify(receipt.model, key=TRUSTED)
    assert found.is_signed
    assert found.record.record.study == done.study.digest
    assert found.record.record.weights == weights_digest(done.weights)
    assert found.record.signer_fingerprint == receipt.signer != ""


def test_run_and_version_state_weights_and_record(
    server: MlflowServer, signed: tuple[Outcome, TrackingReceipt]
) -> None:
    client = client_of(server.url)
    version = client.get_model_version("signed", "1")
    run = client.get_run(version.run_id)
    for stated in (version.tags, run.data.tags):
        assert stated["wardround.weights"] == weights_digest(signed[0].weights)
        record = SignedRecord.of_tags(stated)
        assert record is not None
        assert record.is_signed_by(KEY.public_key)
    assert "Signed by the coordinator" in version.description


def test_another_coordinators_model_is_refused(signed: tuple[Outcome, TrackingReceipt]) -> None:
    assert refused("models:/signed/1", key=OTHER.public_key.hex()) == Code.WEIGHTS


def test_an_unsigned_model_is_loaded_with_a_warning_and_never_where_there_is_a_key(
    unsigned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UserWarning, match="not verified"):
        registered_model.load(unsigned)
    assert refused(unsigned, key=TRUSTED) == Code.WEIGHTS
    (tmp_path / "bundle.json").write_text(f'{{"signing_key": "{TRUSTED}"}}')
    monkeypatch.setenv(CREDENTIALS, str(tmp_path / "bundle.json"))
    assert refused(unsigned) == Code.WEIGHTS
    with pytest.warns(UserWarning, match="not verified"):
        registered_model.load(unsigned, unsigned=True)


def test_verifying_without_a_key_is_no_success_unless_asked_for(unsigned: str) -> None:
    with pytest.raises(WardroundError) as caught:
        registered_model.verify(unsigned)
    assert caught.value.code == Code.CREDENTIALS
    assert not registered_model.verify(unsigned, unsigned=True).is_signed


def forged(tags: Callable[[dict[str, str]], None], record: ModelRecord, key: Identity) -> None:
    made = SignedRecord.make(record, key)
    tags(made.tags | {SIGNER: TRUSTED})


def test_weights_changed_together_with_their_digest_are_refused(
    signed: tuple[Outcome, TrackingReceipt], folder: Path
) -> None:
    """Whoever can write to the store makes files that agree with one another."""
    done, data = signed[0], folder / "data" / "data"
    shutil.rmtree(data)
    released_model.write(data, done.study, -done.weights)
    assert released_model.load(data)
    for options in ({}, {"key": TRUSTED}, {"unsigned": True}):
        assert refused("models:/signed/1", **options) == Code.WEIGHTS


def test_weights_and_record_changed_together_are_refused(
    server: MlflowServer, folder: Path, tags: Callable[[dict[str, str]], None]
) -> None:
    """Whoever can change both the store and MLflow's database still has no key."""
    reference = folder / "data" / "data" / "model.json"
    reference.write_text(reference.read_text().replace('"seed": 0', '"seed": 1'))
    old = SignedRecord.of_tags(client_of(server.url).get_model_version("signed", "1").tags)
    assert old is not None
    forged(tags, old.record.model_copy(update={"files": digests_of(folder)}), OTHER)
    assert refused("models:/signed/1", key=TRUSTED) == Code.WEIGHTS


def test_a_version_whose_tags_are_gone_is_refused(
    signed: tuple[Outcome, TrackingReceipt], tags: Callable[[dict[str, str]], None]
) -> None:
    tags({RECORD: "", SIGNATURE: ""})
    assert refused("models:/signed/1", key=TRUSTED) == Code.WEIGHTS
    assert refused("models:/signed/1") == Code.WEIGHTS


def test_a_record_is_good_for_its_own_version_alone(
    server: MlflowServer, signed: tuple[Outcome, TrackingReceipt]
) -> None:
    """An older model of the same coordinator, signed, in the place of the approved one."""
    client = client_of(server.url)
    first = client.get_model_version("signed", "1")
    model = first.source.rpartition("/")[2]
    again = client.create_model_version(
        "signed", first.source, first.run_id, tags=first.tags, model_id=model
    )
    try:
        assert refused(f"models:/signed/{again.version}", key=TRUSTED) == Code.WEIGHTS
    finally:
        client.delete_model_version("signed", again.version)


@pytest.mark.parametrize("name", ["code/strange.py", "data/data/extra.npz", "python_model.pkl"])
def test_a_file_too_many_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("import os")
    assert refused("models:/signed/1", key=TRUSTED) == Code.WEIGHTS


def test_a_file_that_is_missing_is_refused(folder: Path) -> None:
    (folder / "requirements.txt").unlink()
    assert refused("models:/signed/1", key=TRUSTED) == Code.WEIGHTS


def test_a_pickled_model_in_its_place_is_never_opened(folder: Path, tmp_path: Path) -> None:
    """As in GHSA-ghv6-9r9j-wh4j: MLflow unpickles, and with that runs, what a model brings."""
    strange, left = tmp_path / "strange", tmp_path / "the-code-ran"
    subprocess.run([sys.executable, "-c", PICKLED, strange, left], check=True, timeout=HUNG)
    shutil.rmtree(folder)
    shutil.copytree(strange, folder)
    for options in ({}, {"key": TRUSTED}, {"unsigned": True}):
        assert refused("models:/signed/1", **options) == Code.WEIGHTS
    assert not left.exists()


def test_a_model_of_0_1_0_is_loaded_where_that_is_asked_for(
    server: MlflowServer, tmp_path: Path
) -> None:
    """It has no record, and its files no digest."""
    copy = Golden(HERE / "0.1.0").copy("models/breast_cancer", tmp_path)
    client = client_of(server.url)
    client.create_registered_model("older")
    run = client.create_run(client.create_experiment("older"))
    client.log_artifacts(run.info.run_id, str(copy), "model")
    client.create_model_version("older", f"{run.info.artifact_uri}/model", run.info.run_id)
    assert refused("models:/older/1") == Code.WEIGHTS
    assert refused("models:/older/1", key=TRUSTED) == Code.WEIGHTS
    with pytest.raises(WardroundError):
        registered_model.verify("models:/older/1", unsigned=True)
    with pytest.warns(UserWarning, match="no record"):
        model = registered_model.load("models:/older/1", unsigned=True)
    assert model.predict(SCORES)["score"].between(0, 1).all()


@pytest.mark.parametrize("address", ["models:/signed@best", "models:/signed/latest", "signed/1"])
def test_only_a_version_can_be_named(address: str) -> None:
    assert refused(address) == Code.USAGE


def test_what_mlflow_does_not_have_is_said_without_its_password(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WardroundError) as caught:
        registered_model.load("models:/nothing/1")
    assert caught.value.code == Code.TRACKING
    with pytest.raises(WardroundError) as caught:
        registered_model.load("models:/signed/1", tracking_uri="http://me:hunter2@127.0.0.1:9")
    assert caught.value.code == Code.TRACKING
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert refused("models:/signed/1") == Code.CONFIGURATION


def test_a_restarted_coordinator_signs_only_what_it_uploaded_itself(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process ended between upload and record; in between, the store was changed."""
    done = outcome(study())
    with monkeypatch.context() as killed:
        killed.setattr(SignedRecord, "make", _raise)
        tracker = MlflowTracker(server.url, "registered", model="restarted", signer=KEY)
        tracker.begin(done.study, CONFIGURATION, "1.2.3")
        tracker.finish(done)
        assert tracker.settle(HUNG).missing == ("model version",)
    found = stored(server, "restarted")
    (found / "MLmodel").write_text("strange")
    assert refused("models:/restarted/1", key=TRUSTED) == Code.WEIGHTS
    track(server, done, "restarted", KEY)
    registered_model.load("models:/restarted/1", key=TRUSTED)
    assert (found / "MLmodel").read_text() != "strange"


def test_what_is_recorded_is_left_as_it_is(
    server: MlflowServer, signed: tuple[Outcome, TrackingReceipt], folder: Path
) -> None:
    """A study whose end is delivered twice: the record that was signed stands, and a store that was
    changed since stays refused."""
    done, receipt = signed
    before = client_of(server.url).get_model_version("signed", "1").tags[RECORD]
    (folder / "MLmodel").write_text("strange")
    assert track(server, done, "signed", KEY).model == receipt.model
    assert track(server, done, "signed", None).signer == receipt.signer
    assert client_of(server.url).get_model_version("signed", "1").tags[RECORD] == before
    assert refused(receipt.model, key=TRUSTED) == Code.WEIGHTS


def _raise(*_: object) -> None:
    raise ValueError("killed")


def test_a_signed_model_leaves_as_one_file_and_scores_the_same(
    signed: tuple[Outcome, TrackingReceipt], tmp_path: Path
) -> None:
    done, receipt = signed
    written = export(receipt.model, tmp_path / "model.safetensors", key=TRUSTED)
    read = Bundle.read(tmp_path / "model.safetensors", KEY.public_key)
    assert read.digest == written.digest
    assert (read.study.digest, read.name) == (done.study.digest, "signed/1")
    assert read.weights.tolist() == done.weights.tolist()
    assert read.card.startswith("#")
    served = mlflow.pyfunc.load_model(receipt.model).predict(SCORES)["score"].tolist()
    loaded = registered_model.load(receipt.model, key=TRUSTED)
    program = torch.export.load(io.BytesIO(program_of(read))).module()
    records = torch.from_numpy(loaded.features(SCORES))
    with torch.inference_mode():
        alone = [float(program(record[None].clone())) for record in records]
    assert served == loaded.predict(SCORES)["score"].tolist() == alone


def test_only_a_signed_model_leaves(unsigned: str, tmp_path: Path) -> None:
    for key, code in ((TRUSTED, Code.WEIGHTS), (None, Code.CREDENTIALS)):
        with pytest.raises(WardroundError) as caught:
            export(unsigned, tmp_path / "model.safetensors", key=key)
        assert caught.value.code == code
    assert not (tmp_path / "model.safetensors").exists()
