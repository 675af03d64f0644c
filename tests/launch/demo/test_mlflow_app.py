"""The local MLflow asks for its password on every way in, and its own clients know it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from launch.demo.mlflow_app import OpensOnRuns
from launch.demo.mlflow_server import MlflowServer
from protocol.errors import Code, WardroundError
from server.tracking.mlflow_run import client_of
from server.tracking.tracker import MlflowTracker
from tests.server.outcomes import CONFIGURATION, outcome, study
from tests.waiting import HUNG

WAYS_IN = [
    "/",
    "/health",
    "/version",
    "/static-files/index.html",
    "/server-info",
    "/metrics",
    "/graphql",
    "/get-artifact?path=x&run_uuid=y",
    "/model-versions/get-artifact?path=x&name=y&version=1",
    "/api/2.0/mlflow/experiments/search",
    "/ajax-api/2.0/mlflow/experiments/search",
    "/api/3.0/mlflow/traces",
    *(
        # left out of basic-auth at times: mlflow issues 24567 and 25841, mlflow-oidc-auth issue 283
        f"/{prefix}/2.0/mlflow-artifacts/{kind}"
        for prefix in ("api", "ajax-api")
        for kind in ("artifacts/x", "artifacts?path=x", "mpu/create/x", "presigned/x")
    ),
    "/ajax-api/3.0/mlflow/assistant/config",
    "/ajax-api/3.0/jobs/x",
    "/gateway/x/mlflow/invocations",
    "/v1/traces",
    "/api/3.0/mlflow/mcp-servers",
    "//api/2.0/mlflow/experiments/search",
    "/api/2.0/mlflow-artifacts/artifacts/%2e%2e/mlflow.db",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("home") / "mlflow") as running:
        yield running


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_no_way_in_is_open(server: MlflowServer, method: str) -> None:
    with httpx.Client(base_url=server.page, trust_env=False) as client:
        statuses = {way: client.request(method, way).status_code for way in WAYS_IN}
    assert {way: status for way, status in statuses.items() if status != 401} == {}


@pytest.mark.slow
def test_the_password_opens_it_and_nothing_else_does(server: MlflowServer) -> None:
    password = server.password.read_text().strip()
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    right = basic("wardround", password)
    wrong: list[Any] = [
        {},
        basic("wardround", ""),
        basic("wardround", password + "x"),
        basic("admin", password),
        {"authorization": f"Bearer {password}"},
        {"authorization": "Basic"},
        {"authorization": b"Basic \xff"},
        [*right.items(), *right.items()],
    ]
    with httpx.Client(base_url=server.page, trust_env=False) as client:
        assert [client.get(search, headers=headers).status_code for headers in wrong] == [401] * 8
        assert client.get(search, headers=right).status_code == 200
        challenge = client.get("/").headers["www-authenticate"]
        page = client.get("/", headers=right)
    assert challenge.startswith("Basic realm=")
    assert page.status_code == 200
    assert "<title>MLflow</title>" in page.text


def test_its_first_page_leads_to_the_runs() -> None:
    """And nothing else of MLflow is changed."""

    async def mlflow(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("MLflow's own")(scope, receive, send)

    async def texts(*ways: str) -> list[str]:
        transport = httpx.ASGITransport(OpensOnRuns(mlflow))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return [(await client.get(way)).text for way in ways]

    opening, *others = asyncio.run(texts("/", "/?runs", "/health", "/ajax-api/2.0/x"))
    assert "viewStateShareKey=wardround" in opening
    assert 'if (location.hash) location.replace("/?runs" + location.hash)' in opening
    assert "<title>MLflow</title>" in opening
    assert others == ["MLflow's own"] * 3


@pytest.mark.slow
def test_a_study_is_tracked_and_the_password_is_nowhere_else(server: MlflowServer) -> None:
    done = outcome(study())
    tracker = MlflowTracker(server.url, "password")
    tracker.begin(done.study, CONFIGURATION, "1.2.3")
    tracker.finish(done)
    receipt = tracker.settle(HUNG)
    assert receipt.missing == ()
    password = server.password.read_text().strip()
    assert password not in repr(receipt)
    home = server.password.parent
    told = [p for p in home.rglob("*") if p.is_file() and password.encode() in p.read_bytes()]
    assert told == [server.password]


@pytest.mark.slow
def test_a_client_may_have_the_password_in_its_environment(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLflow documents it, and as mlflow issue 11074 asks for."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "wardround")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.password.read_text().strip())
    assert client_of(server.page).search_experiments()


@pytest.mark.slow
def test_a_wrong_password_is_said_and_not_shown(
    server: MlflowServer, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = server.url.replace(server.password.read_text().strip(), "hunter2")
    with pytest.raises(WardroundError) as caught:
        MlflowTracker(wrong, "password").begin(study(), CONFIGURATION, "1.2.3")
    assert caught.value.code == Code.TRACKING
    assert "password" in caught.value.remedy
    assert "hunter2" not in str(caught.value) + caplog.text


@pytest.mark.slow
def test_the_password_is_its_owners_alone_and_stays(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path)
    server.start()
    server.stop()
    first = server.password.read_text()
    assert server.password.stat().st_mode & 0o777 == 0o600
    assert len(first.strip()) >= 32
    server.start()
    server.stop()
    assert server.password.read_text() == first
    server.password.chmod(0o644)
    with pytest.raises(WardroundError) as caught:
        server.start()
    assert caught.value.code == Code.TRACKING
    assert first.strip() not in str(caught.value)
