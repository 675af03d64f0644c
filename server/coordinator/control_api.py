"""The control API: what data scientists ask of a coordinator, below /v1/wardround.

    GET    /federation               sites, declared patients, who is connected, tasks
    GET    /studies                  the studies that one sees, and how far they are
    POST   /studies                  {"document": ..., "configuration": {...}, "tracking": {...}}
    POST   /plans                    {"document": ...}: would the sites take part? Nothing starts
    GET    /studies/{digest}         one study, with its document and configuration
    GET    /studies/{digest}/events  ?after=N: JSON lines as they happen, until the study ends
    GET    /studies/{digest}/weights float32 little-endian, of a study that has finished
    DELETE /studies/{digest}         cancels one's own study
    POST   /studies/{digest}/pause   pauses one's own study
    POST   /studies/{digest}/resume  goes on with one that is paused, has failed or has expired
    GET    /decisions                every decision about a model, in signed entries
    POST   /decisions                a reviewer's signed decision (`Proposed`)

Without a valid token every path answers 401, before anything else is read. An account sees its own
studies, or everybody's where its role says so; another's study answers as one that is not there.
Reviewers submit none. Studies are accepted, never code. Work is done in threads, never in the event
loop that serves the hospitals.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from anyio.to_thread import run_sync
from pydantic import Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from protocol.document import Document, canonical
from protocol.errors import Code, WardroundError
from protocol.release import PROTOCOL, RELEASE_HEADER, Sender
from protocol.study.states import StudyState
from protocol.study.study import Study
from server.coordinator.journal import Journal
from server.coordinator.rate_limits import AT_ONCE, LimitedCall, Limits
from server.coordinator.study_events import error_to_json
from server.coordinator.study_log import StudyLog
from server.coordinator.study_run import StudyRun, unexpected
from server.coordinator.tracking_names import unfit_names
from server.enrolment.accounts import Accounts
from server.review.decisions import Decisions, Proposed
from server.tracking.study_tracking import TrackingRequest

BODY_LIMIT = 512 * 1024
"""Bytes of a submission."""
BEAT = 15.0
"""Seconds without an event after which a stream sends an empty line, as a sign of life."""
_BODY_SECONDS = 30.0

_STATUS = {
    Code.USAGE: 409,
    Code.CONFIGURATION: 422,
    Code.UNKNOWN_TASK: 422,
    Code.REFUSED_STUDY: 422,
    Code.TASK_CHANGED: 422,
    Code.RELEASE: 422,
    Code.TRACKING: 503,
    Code.STATE: 500,
    Code.INTERNAL: 500,
}


class _HttpError(Exception):
    """A refusal of a call, with its HTTP status."""

    def __init__(self, status: int, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error = WardroundError(Code.USAGE, message, remedy=remedy)


class Submitted(Document):
    """The body of POST /studies."""

    document: dict[str, Any]
    configuration: dict[str, Any] = Field(default={})
    tracking: TrackingRequest = TrackingRequest()


class Studies(Protocol):
    """The coordinator's methods that the control API calls; a refusal raises WardroundError."""

    def federation(self) -> dict[str, Any]: ...

    def studies(self) -> list[StudyRun]: ...

    def study(self, digest: str) -> StudyRun | None: ...

    def submit(
        self,
        account: str,
        study: Study,
        configuration: Mapping[str, Any],
        tracking: TrackingRequest,
    ) -> tuple[str, StudyState]: ...

    def resume(self, known: StudyRun) -> StudyState: ...

    def consult(self, study: Study) -> dict[str, Any]: ...

    @property
    def decisions(self) -> Decisions: ...


class ControlApi:
    """An ASGI application; authenticates every call itself."""

    def __init__(
        self, coordinator: Studies, accounts: Accounts, journal: Journal, prefix: str
    ) -> None:
        self._coordinator, self._accounts, self._journal = coordinator, accounts, journal
        self._limits = Limits()
        self._router = Router(
            [
                Route(f"{prefix}/federation", self._federation, methods=["GET"]),
                Route(f"{prefix}/studies", self._studies, methods=["GET"]),
                Route(f"{prefix}/studies", self._submit, methods=["POST"]),
                Route(f"{prefix}/plans", self._plan, methods=["POST"]),
                Route(f"{prefix}/studies/{{digest}}", self._study, methods=["GET"]),
                Route(f"{prefix}/studies/{{digest}}", self._cancel, methods=["DELETE"]),
                Route(f"{prefix}/studies/{{digest}}/pause", self._pause, methods=["POST"]),
                Route(f"{prefix}/studies/{{digest}}/resume", self._resume, methods=["POST"]),
                Route(f"{prefix}/studies/{{digest}}/events", self._events, methods=["GET"]),
                Route(f"{prefix}/studies/{{digest}}/weights", self._weights, methods=["GET"]),
                Route(f"{prefix}/decisions", self._decisions, methods=["GET"]),
                Route(f"{prefix}/decisions", self._decide, methods=["POST"]),
            ],
            redirect_slashes=False,
            default=_no_such_path,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("Only HTTP is served here.")
        path = str(scope["path"])[:200]
        account = self._accounts.owner(_token(scope))
        if account is None:
            self._journal.refused(path[:120], "token", (scope.get("client") or ("",))[0])
            await _unauthorised(scope, receive, send)
            return
        sent = _Sent(send)
        try:
            if not self._limits.take(account):
                raise _HttpError(429, "Too many calls.", "Wait a second.")
            scope["account"] = account
            await self._router(scope, receive, sent)
        except _HttpError as problem:
            await sent.error(scope, receive, problem.status, problem.error)
        except WardroundError as error:
            await sent.error(scope, receive, _STATUS.get(error.code, 422), error)
        except (ClientDisconnect, ConnectionError):
            pass
        except Exception as error:
            self._journal.write("control-error", type=type(error).__name__)
            await sent.error(scope, receive, 500, unexpected(error))
        finally:
            self._journal.audit(account, scope["method"], path, sent.status)

    # --- routes ---
    async def _federation(self, request: Request) -> Response:
        return JSONResponse(await run_sync(self._coordinator.federation))

    async def _studies(self, request: Request) -> Response:
        account = request.scope["account"]
        seen = [study for study in self._coordinator.studies() if self._sees(account, study)]
        return JSONResponse({"studies": [study.row() for study in seen]})

    async def _submit(self, request: Request) -> Response:
        account = request.scope["account"]
        if not self._accounts.submits(account):
            raise _HttpError(
                403, "A reviewer submits no studies.", "Use a data scientist's account."
            )
        with self._limited(account, "submission"):
            submitted = _submitted(await _body(request))
            wish = submitted.tracking
            for fault, remedy in unfit_names(wish.experiment, wish.model):
                raise WardroundError(Code.CONFIGURATION, fault, remedy=remedy)
            study = await run_sync(_study_of, submitted, request)
            options = (submitted.configuration, wish)
            digest, state = await run_sync(self._coordinator.submit, account, study, *options)
        return JSONResponse({"study": digest, "state": state}, 202)

    async def _decisions(self, request: Request) -> Response:
        history = await run_sync(lambda: self._coordinator.decisions.history)
        return JSONResponse({"entries": [signed.model_dump() for signed in history.signed]})

    async def _decide(self, request: Request) -> Response:
        account = request.scope["account"]
        with self._limited(account, "submission"):
            try:
                proposed = Proposed.model_validate_json(await _body(request))
            except ValidationError:
                raise _HttpError(
                    422, "The body is not a decision.", "Use `wardround review`."
                ) from None
            taken = await run_sync(self._coordinator.decisions.add, account, proposed)
        said = taken.decision
        self._journal.write(
            "decision",
            model=said.model,
            version=said.version,
            verdict=said.verdict,
            reviewer=said.reviewer,
        )
        return JSONResponse({"entry": taken.signed.model_dump()})

    async def _plan(self, request: Request) -> Response:
        with self._limited(request.scope["account"], "submission"):
            study = await run_sync(_study_of, _submitted(await _body(request)), request)
            return JSONResponse(await run_sync(self._coordinator.consult, study))

    async def _study(self, request: Request) -> Response:
        study = self._find(request)
        configuration = study.folder / "configuration.json"
        return JSONResponse(
            study.row()
            | {
                "document": json.loads(study.study.document),
                "configuration": json.loads(await run_sync(configuration.read_bytes)),
            }
        )

    async def _cancel(self, request: Request) -> Response:
        study = self._own(request, "cancel")
        if not study.state.over:
            await run_sync(study.cancel)
        return JSONResponse({"study": study.digest, "state": study.state}, 202)

    async def _pause(self, request: Request) -> Response:
        study = self._own(request, "pause")
        if study.state.over:
            raise _HttpError(409, f"The study is {study.state}, for good.")
        if study.state.works:
            await run_sync(study.pause)
        return JSONResponse({"study": study.digest, "state": study.state}, 202)

    async def _resume(self, request: Request) -> Response:
        study = self._own(request, "resume")
        with self._limited(request.scope["account"], "submission"):
            state = await run_sync(self._coordinator.resume, study)
        return JSONResponse({"study": study.digest, "state": state}, 202)

    async def _weights(self, request: Request) -> Response:
        study = self._find(request)
        if not study.has_released:
            raise _HttpError(409, f"The study is {study.state}.", "Follow its events.")
        if not study.weights.exists():
            raise _HttpError(409, "The study's weights were pruned.", "MLflow has its model.")
        limited = self._limited(request.scope["account"], "download")

        class Download(FileResponse):
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                with limited:
                    await super().__call__(scope, receive, send)

        return Download(study.weights, media_type="application/octet-stream")

    async def _events(self, request: Request) -> Response:
        study, account = self._find(request), request.scope["account"]
        after = request.query_params.get("after", "0")
        if not after.isascii() or not after.isdigit() or len(after) > 9:
            raise _HttpError(422, "`after` is not a number.", "Give the last event's n.")
        limited, token = self._limited(account, "stream"), _token(request.scope)

        async def lines() -> AsyncIterator[bytes]:
            with limited:
                async for line in _lines(study.log, int(after)):
                    if self._accounts.owner(token) != account or not self._sees(account, study):
                        return
                    yield line

        return StreamingResponse(
            lines(), media_type="application/x-ndjson", headers={"cache-control": "no-store"}
        )

    def _limited(self, account: str, kind: LimitedCall) -> AbstractContextManager[None]:
        """The call while it is open. Raises _HttpError(429) where the account has too many."""
        if self._limits.full(account, kind):
            most = f"At most {AT_ONCE[kind]} {kind}s of an account may be open."
            raise _HttpError(429, most, "Wait for one to end, or close one.")
        return self._limits.open(account, kind)

    def _sees(self, account: str, study: StudyRun) -> bool:
        return study.submission.account == account or self._accounts.sees_all(account)

    def _own(self, request: Request, what: str) -> StudyRun:
        study = self._find(request)
        if study.submission.account != request.scope["account"]:
            raise _HttpError(
                403,
                f"Only who submitted a study can {what} it.",
                f"Ask {study.submission.account}, or the coordinator's operator.",
            )
        return study

    def _find(self, request: Request) -> StudyRun:
        study = self._coordinator.study(str(request.path_params["digest"]))
        if study is None or not self._sees(request.scope["account"], study):
            raise _HttpError(
                404, "There is no such study here.", "GET /studies names them by their digest."
            )
        return study


class _Sent:
    """The caller's `send`, remembering the status that was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def error(
        self, scope: Scope, receive: Receive, status: int, error: WardroundError
    ) -> None:
        """Answers with an error, unless an answer is on its way already."""
        if not self.status:
            headers = {"retry-after": "1"} if status == 429 else None
            await JSONResponse(error_to_json(error), status, headers)(scope, receive, self)


async def _lines(log: StudyLog, after: int) -> AsyncIterator[bytes]:
    """Events after number `after` as they happen, until the study or the coordinator ends."""
    while True:
        lines = await run_sync(log.lines, after)
        for line in lines:
            yield line
        after += len(lines)
        if not lines:
            if log.ended or log.closed:
                return
            await log.wait(after, BEAT)
            if len(log) <= after:
                yield b"\n"


async def _body(request: Request) -> bytes:
    """The body, BODY_LIMIT bytes at most, within _BODY_SECONDS."""
    too_long = _HttpError(413, "The body is too long.", f"At most {BODY_LIMIT // 1024} KiB.")
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced[:12]) > BODY_LIMIT:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > BODY_LIMIT:
                    raise too_long
    except TimeoutError:
        raise _HttpError(408, "The body did not come in time.") from None
    return bytes(body)


def _submitted(body: bytes) -> Submitted:
    try:
        submitted = Submitted.model_validate_json(body)
        canonical([submitted.document, submitted.configuration])
    except (ValidationError, ValueError, RecursionError):
        raise _HttpError(
            422,
            "The body is not a submission.",
            "Send document, configuration and tracking, as `wardround run` does.",
        ) from None
    return submitted


def _study_of(submitted: Submitted, request: Request) -> Study:
    """The submitted study. Raises WardroundError: REFUSED_STUDY; RELEASE where this release cannot
    read the sender's study; MESSAGE where the header that names the sender's release is malformed.
    """
    said = request.headers.get(RELEASE_HEADER)
    sender = None if said is None else Sender.parse(said, PROTOCOL)
    return Study.parse(canonical(submitted.document), sender)


def _token(scope: Scope) -> str:
    """The bearer token (RFC 6750, section 2.1); empty where there is none, or more than one."""
    values = [value for key, value in scope["headers"] if key == b"authorization"]
    if len(values) != 1 or len(values[0]) > 512:
        return ""
    kind, _, token = values[0].decode("latin-1").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def _unauthorised(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 401, alike for every path, method and bad token, without reading the body."""
    error = WardroundError(
        Code.CREDENTIALS,
        "The coordinator does not know this token.",
        remedy="Ask its operator for `wardround coordinator account add`.",
    )
    headers = {"www-authenticate": "Bearer", "connection": "close"}
    await JSONResponse(error_to_json(error), 401, headers)(scope, receive, send)


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise _HttpError(404, "There is no such path here.")
