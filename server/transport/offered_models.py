"""Hands bundles of approved models to the sites of the roster, in parts, on the coordinator's port.

A caller is authenticated by its node key before anything is looked up, as for the Fleet API; it
says which bundle by its digest. What is in the folder, `server.review.offers` decides.
"""

from __future__ import annotations

import re
from pathlib import Path

from anyio.to_thread import run_sync

from protocol.wire.flower_encoding import PART
from protocol.wire.offered_models import LONGEST_PART, PREFIX, file_of
from server.transport.authentication import CallRefusedError, authenticate, check_version
from server.transport.event_log import EventLog
from server.transport.gateway import HttpCall, Receive, Scope, Send
from server.transport.link_state import FleetState

_DIGEST = re.compile(r"[0-9a-f]{64}")


class OfferedModels:
    """An ASGI application over a folder; authenticates every call itself."""

    def __init__(self, folder: Path, state: FleetState, events: EventLog) -> None:
        self._folder, self._state, self._events = folder, state, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        address = (scope.get("client") or ("", 0))[0]
        digest = scope["path"].removeprefix(f"{PREFIX}/")
        call = HttpCall("models", headers, address, receive, send)
        try:
            authenticate(call.headers, self._state)
            check_version(call.headers)
            part = call.part
            if scope["method"] != "POST" or part is None or not _DIGEST.fullmatch(digest):
                raise CallRefusedError(400, "form")
        except CallRefusedError as refusal:
            self._events.refused(call.route, refusal.reason, address)
            call.reply_headers["connection"] = "close"
            await call.reply_json(refusal.status, {"detail": "Refused"})
            return
        found = await run_sync(_read, file_of(self._folder, digest), *part)
        if found is None:
            await call.reply_json(404, {"detail": "Not offered"})
            return
        content, size = found
        call.reply_headers[PART] = str(size)
        await call.reply(200, "application/octet-stream", content)


def _read(path: Path, offset: int, length: int) -> tuple[bytes, int] | None:
    """A part of a file, and the size of all; None where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(offset)
            return file.read(min(length, LONGEST_PART)), size
    except OSError:
        return None
