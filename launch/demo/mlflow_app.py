"""MLflow's server application behind one password: `mlflow_app HOME PORT`, on loopback.

The password is asked for before MLflow sees a request, whatever its path, method or protocol.
MLflow's own basic-auth app decides route by route, and routes have been left out of it more than
once (proxied artifacts, presigned downloads, native routes beside Flask's); it has roles, which
this one has not: who knows the password may do everything.
"""

from __future__ import annotations

import base64
import hmac
import os
import sys
from pathlib import Path

import uvicorn
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from launch.demo.local_ports import LOOPBACK
from protocol.errors import Code
from protocol.secret_files import read_secret

USER, PASSWORD = "wardround", "password"
"""The one user, and the file in HOME that holds the password."""


def read_password(home: Path) -> str:
    """Raises WardroundError(TRACKING) where the file is missing or open to other users."""
    content = read_secret(
        home / PASSWORD,
        "password",
        Code.TRACKING,
        remedy="Remove it: the next start makes another one.",
        exposed="remove it, so that the next start makes another one",
    )
    return content.decode("ascii", errors="replace").strip()


_OPENING = """<!doctype html><title>MLflow</title><script>
for (const [key, value] of [
  ["mlflow.workflowType", "machine_learning"],
  ["mlflow.assistant.panelOpen", false],
  ["mlflow.assistant.fab.autoOpenedOnFirstLoad", true],
]) localStorage.getItem(key + "_v1") ?? localStorage.setItem(key + "_v1", JSON.stringify(value));
if (location.hash) location.replace("/?runs" + location.hash);
else {
const query = new URLSearchParams({max_results: 1, order_by: "last_update_time DESC"});
query.set("filter", "tags.`mlflow.experimentKind` = 'custom_model_development'");
fetch("/ajax-api/2.0/mlflow/experiments/search?" + query)
  .then((answer) => answer.json())
  .then(({experiments: [found]}) => `/${found.experiment_id}/runs?viewStateShareKey=wardround`)
  .catch(() => "")
  .then((page) => location.replace("/?runs#/experiments" + page));
}
</script>"""


class OpensOnRuns:
    """MLflow, whose first page is the list of runs with its columns of wardround
    (`server.tracking.mlflow_run`), not that of its chat assistant; a link to a run or a model
    leads there, and what somebody has chosen in their browser stays. MLflow has no setting."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/" and not scope["query_string"]:
            await HTMLResponse(_OPENING)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class BehindPassword:
    """An application whose every request needs the password (HTTP Basic, RFC 7617)."""

    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app = app
        self._expected = base64.b64encode(f"{USER}:{password}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._knows_password(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = {"www-authenticate": 'Basic realm="MLflow of wardround", charset="UTF-8"'}
            refusal = PlainTextResponse("The password is asked for.\n", 401, headers)
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _knows_password(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        return scheme.lower() == b"basic" and hmac.compare_digest(token.strip(), self._expected)


def main(home: Path, port: int) -> None:
    """Serves until it is ended. MLflow reads where its data lie when it is imported."""
    from mlflow.server import constants

    database = f"sqlite:///{home / 'mlflow.db'}"
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = database
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = str(home / "artifacts")
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(database, default_artifact_root="mlflow-artifacts:/")
    served = BehindPassword(OpensOnRuns(app), read_password(home))
    uvicorn.run(served, host=LOOPBACK, port=port)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
