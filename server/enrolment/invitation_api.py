"""Where invited hospitals hand in their cards, on the coordinator's own port.

    POST /v1/enrolment/card    {card}: {"missing": [...], "bundle": {...} or null}

The caller's bearer token is its invitation's; without one every path answers 401 before the body is
read. Nobody enters the roster here: the operator does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from anyio.to_thread import run_sync
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from protocol.errors import WardroundError
from protocol.wire.enrolment import CARD_PATH, EnrolmentAnswer, EnrolmentCard
from server.enrolment.invitations import Invitations
from server.enrolment.roster import Roster

_BODY_LIMIT = 16 * 1024
_BODY_SECONDS = 30.0


class InvitationApi:
    """An ASGI application; authenticates every call itself. `bundle`: what every site needs."""

    def __init__(
        self, invitations: Invitations, roster: Roster, bundle: Callable[[], dict[str, Any]]
    ) -> None:
        self._invitations, self._roster, self._bundle = invitations, roster, bundle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        site = None
        if kind.lower() == "bearer" and len(token) <= 256:
            site = await run_sync(self._invitations.site_of, token.strip())
        if site is None:
            status, answer = 401, {"code": "credentials", "message": "No such invitation."}
        elif scope["path"] != CARD_PATH or scope["method"] != "POST":
            status, answer = 404, {"code": "usage", "message": "There is no such path here."}
        else:
            status, answer = await self._card(site, request)
        headers = {"connection": "close"} if status != 200 else None
        await JSONResponse(answer, status, headers)(scope, receive, send)

    async def _card(self, site: str, request: Request) -> tuple[int, dict[str, Any]]:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = bytearray()
                async for part in request.stream():
                    body += part
                    if len(body) > _BODY_LIMIT:
                        raise ValueError
            card = EnrolmentCard.model_validate_json(bytes(body))
        except (ValidationError, ValueError, TimeoutError):
            return 422, {"code": "message", "message": "This is no enrolment card."}
        try:
            card.check_node_key("the card", "Make it with `wardround-site join` again.")
            return 200, (await run_sync(self._taken, site, card)).model_dump()
        except WardroundError as error:
            return 409, {"code": error.code.value, "message": error.message, "do": error.remedy}

    def _taken(self, site: str, card: EnrolmentCard) -> EnrolmentAnswer:
        self._invitations.hand_in(site, card)
        enrolled = self._roster.identities()
        missing = sorted(set(self._invitations.all()) - set(enrolled))
        return EnrolmentAnswer(missing=tuple(missing), bundle=None if missing else self._bundle())
