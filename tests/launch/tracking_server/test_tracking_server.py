"""A federation's MLflow: TLS, a password and a part for each person, on SQLite and PostgreSQL."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from launch.tracking_server.coordinator_login import log_in
from protocol.errors import Code, WardroundError
from server.enrolment.accounts import Accounts
from server.tracking.mlflow_run import client_of
from server.tracking.tracker import MlflowTracker
from tests.client.data.sources.databases.postgres_server import PASSWORD, USER, Server
from tests.launch.demo.test_mlflow_app import WAYS_IN
from tests.launch.tracking_server.federation import FederationMlflow
from tests.server.outcomes import CONFIGURATION, outcome, study
from tests.waiting import HUNG

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def mlflow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FederationMlflow]:
    made = FederationMlflow(tmp_path_factory.mktemp("federation"))
    if request.param == "sqlite":
        made.set_up()
        with made:
            yield made
        return
    database = Server()
    try:
        made.set_up("--store", f"postgresql://{USER}@/postgres?host={database.folder}")
        settings = made.home / "mlflow.yaml"
        text = settings.read_text().replace(f"//{USER}@", f"//{USER}:{PASSWORD}@")
        settings.write_text(text)
        with made:
            yield made
        assert "runs" in database.sql("SELECT tablename FROM pg_tables WHERE tablename = 'runs'")
        assert not (made.home / "mlflow.db").exists()
        assert PASSWORD not in (made.folder / "server.log").read_text()
    finally:
        database.remove()


@pytest.fixture
def as_(mlflow: FederationMlflow, monkeypatch: pytest.MonkeyPatch) -> FederationMlflow:
    """MLflow's client trusts the federation's CA."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(mlflow.config.pki.ca_certificate))
    return mlflow


def refused(client: MlflowClient, what: str, *arguments: object) -> str:
    """What was said of a request that must be refused."""
    with pytest.raises(MlflowException) as shown:
        getattr(client, what)(*arguments)
    assert "403" in str(shown.value)
    return str(shown.value)


def test_each_writes_what_is_theirs(as_: FederationMlflow) -> None:
    ada, alan, rita = (client_of(as_.uri(name)) for name in ("ada", "alan", "rita"))
    experiment = ada.create_experiment("ada's")
    run = ada.create_run(experiment)
    ada.log_metric(run.info.run_id, "auc", 0.8)
    ada.log_text(run.info.run_id, "text", "card.md")
    assert alan.get_run(run.info.run_id).data.metrics == {"auc": 0.8}
    assert "card.md" in [file.path for file in rita.list_artifacts(run.info.run_id)]
    assert refused(alan, "log_metric", run.info.run_id, "auc", 0.9)
    assert refused(alan, "delete_run", run.info.run_id)
    for what, *arguments in (
        ("create_experiment", "rita's"),
        ("log_metric", run.info.run_id, "auc", 0.9),
        ("set_tag", run.info.run_id, "x", "y"),
        ("delete_run", run.info.run_id),
        ("create_registered_model", "theirs"),
    ):
        assert "A reviewer may not" in refused(rita, what, *arguments)


def test_the_coordinator_tracks_and_a_reviewer_decides(
    as_: FederationMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USERNAME", "PASSWORD", "SERVER_CERT_PATH"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    log_in(as_.config)
    done = outcome(study())
    tracker = MlflowTracker(as_.url, "federation", model="cancer")
    tracker.begin(done.study, CONFIGURATION, "1.2.3")
    tracker.finish(done)
    assert tracker.settle(HUNG).missing == ()
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    ada, rita = client_of(as_.uri("ada")), client_of(as_.uri("rita"))
    assert rita.get_model_version_by_alias("cancer", "candidate").version == "1"
    rita.set_registered_model_alias("cancer", "approved", "1")
    assert ada.get_model_version_by_alias("cancer", "approved").version == "1"
    assert refused(ada, "set_registered_model_alias", "cancer", "approved", "1")
    assert refused(rita, "set_model_version_tag", "cancer", "1", "wardround.verdict", "approved")
    assert refused(rita, "delete_model_version", "cancer", "1")
    rita.delete_registered_model_alias("cancer", "approved")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_no_way_in_is_open_to_strangers(mlflow: FederationMlflow, method: str) -> None:
    with mlflow.client() as nobody, mlflow.client() as wrong:
        wrong.auth = httpx.BasicAuth("rita", mlflow.password("ada"))
        for way in WAYS_IN:
            assert nobody.request(method, way).status_code == 401, way
        assert wrong.get("/").status_code == 401
        wrong.auth = httpx.BasicAuth("wardround-operator", "")
        assert wrong.get("/").status_code == 401


def test_it_speaks_tls_1_3_alone_under_the_federations_ca(mlflow: FederationMlflow) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(mlflow.url, trust_env=False)
    old = ssl.create_default_context(cafile=str(mlflow.config.pki.ca_certificate))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError):
        httpx.get(mlflow.url, verify=old, trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(mlflow.url.replace("https", "http"), trust_env=False)


def test_who_has_no_account_any_more_is_put_out_while_it_runs(tmp_path: Path) -> None:
    made = FederationMlflow(tmp_path)
    made.set_up()
    with made:
        with made.client("alan") as alan, made.client("ada") as ada:
            assert alan.get("/version").status_code == ada.get("/version").status_code == 200
            accounts = Accounts(made.config.accounts)
            accounts.remove("alan")
            accounts.add("raoul", role="reviewer")
            assert list(made.set_up()) == ["raoul"]
            assert alan.get("/version").status_code == 401
            assert ada.get("/version").status_code == 200
        with made.client("raoul") as raoul:
            assert raoul.get("/ajax-api/2.0/mlflow/users/current").json()["user"]["username"]


def test_what_is_made_is_its_owners_alone_and_holds_no_password(tmp_path: Path) -> None:
    made = FederationMlflow(tmp_path)
    files = made.set_up()
    assert sorted(files) == ["ada", "alan", "coordinator", "rita"]
    for file in map(Path, files.values()):
        assert file.stat().st_mode & 0o777 == 0o600
    before = (made.home / "people.json").read_bytes()
    assert made.set_up() == {}
    assert (made.home / "people.json").read_bytes() == before
    for file in made.home.rglob("*"):
        if file.name != "server.crt":
            assert file.stat().st_mode & 0o077 == 0, file
        if file.is_file():
            for name in files:
                assert made.password(name).encode() not in file.read_bytes()


def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    made = FederationMlflow(tmp_path)
    with pytest.raises(WardroundError) as shown:
        made.set_up("--store", "postgresql://me:hunter2@db/mlflow")
    assert shown.value.code == Code.USAGE
    assert "hunter2" not in str(shown.value)
    yaml = made.config.folder / "coordinator.yaml"
    yaml.write_text(yaml.read_text().replace(made.url, "http://127.0.0.1:5000"))
    with pytest.raises(WardroundError, match=r"tracking\.uri"):
        made.set_up()
    assert not made.home.exists()
