"""Who may do what in a federation's MLflow, by method and path; everything else is refused.

MLflow's basic-auth app stands behind this and decides about each experiment and model: everybody
reads, whoever made something writes to it. It decides route by route, and routes have been left out
of it more than once (mlflow issues 24567 and 25841), so here every request needs a person, and a
person only gets what their part needs: no gateway, no jobs, no assistant, no webhooks, no users.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import assert_never

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from launch.tracking_server.people import Part, People
from launch.tracking_server.users import Users

_API = r"/(?:ajax-)?api/[23]\.0/mlflow/"
_READS = re.compile(
    rf"{_API}(?:experiments/search|runs/search|logged-models/search|experiments/search-datasets"
    r"|traces/search|metrics/get-history-bulk)|/graphql"
)
"""What MLflow asks with POST and changes nothing."""
_DECIDES = re.compile(rf"{_API}registered-models/alias")
_WRITES = re.compile(
    rf"{_API}(?:experiments|runs|registered-models|model-versions|logged-models)(?:/[^/]+)*"
    r"|/(?:ajax-)?api/2\.0/mlflow-artifacts/(?:artifacts|mpu/[a-z]+)(?:/[^/]+)+"
)
_CHANGES = {"POST", "PUT", "PATCH", "DELETE"}


def may(part: Part, method: str, path: str) -> bool:
    """Whether somebody's part in the federation allows a request, as far as its path says it.

    path: decoded. A reviewer reads, and sets or removes the alias of a version; that an alias
    `approved` counts for nothing without their signature is `server/review/approval_watch.py`.
    """
    if {"", ".", ".."} & set(path.split("/")[1:-1]) or path.endswith(("/..", "/.")):
        return False
    reads = method in {"GET", "HEAD"} or (method == "POST" and _READS.fullmatch(path) is not None)
    match part:
        case "coordinator" | "data_scientist":
            return reads or (method in _CHANGES and _WRITES.fullmatch(path) is not None)
        case "reviewer":
            return reads or (method in {"POST", "DELETE"} and _DECIDES.fullmatch(path) is not None)
    assert_never(part)


class ByRole:
    """MLflow's basic-auth app for people with a password (HTTP Basic, RFC 7617) and by their part.
    What reaches it carries a password of its own, which this process alone knows (`users`)."""

    def __init__(self, app: ASGIApp, people: People, users: Users) -> None:
        self._app, self._people, self._users = app, people, users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif (known := _credentials(scope)) is None or not (part := self._people.part(*known)):
            headers = {"www-authenticate": 'Basic realm="MLflow of wardround", charset="UTF-8"'}
            refusal = PlainTextResponse("Name and password are asked for.\n", 401, headers)
            await refusal(scope, receive, send)
        elif not may(part, scope["method"], scope["path"]):
            what = Request(scope).url.path
            said = f"A {part.replace('_', ' ')} may not do this here ({scope['method']} {what}).\n"
            await PlainTextResponse(said, 403)(scope, receive, send)
        else:
            name, _ = known
            others = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
            inside = (b"authorization", self._users.authorization(name, part))
            await self._app({**scope, "headers": [*others, inside]}, receive, send)


def _credentials(scope: Scope) -> tuple[str, str] | None:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, token = given[0].partition(b" ")
    try:
        text = base64.b64decode(token.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if scheme.lower() == b"basic" and colon else None
