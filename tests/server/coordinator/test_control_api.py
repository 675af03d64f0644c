"""The control API seen from outside: who gets in, how much, and what is written down of it."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from protocol.errors import Code, WardroundError
from server.coordinator import rate_limits
from server.coordinator.control_api import BODY_LIMIT
from server.coordinator.rate_limits import AT_ONCE, BURST, RATE
from server.enrolment.accounts import Accounts
from tests.server.hospitals import Deployment, deployed, study_of
from tests.waiting import HUNG, until

STUDY = "0" * 64
ROUTES = [
    ("GET", "federation"),
    ("GET", "studies"),
    ("POST", "studies"),
    ("GET", f"studies/{STUDY}"),
    ("DELETE", f"studies/{STUDY}"),
    ("POST", f"studies/{STUDY}/pause"),
    ("POST", f"studies/{STUDY}/resume"),
    ("GET", f"studies/{STUDY}/events"),
    ("GET", f"studies/{STUDY}/weights"),
    ("GET", "decisions"),
    ("POST", "decisions"),
]
OF_A_STUDY = [(method, path) for method, path in ROUTES if STUDY in path]
NOT_THERE = [
    ("GET", ""),
    ("GET", "nothing"),
    ("PUT", "studies"),
    ("OPTIONS", "federation"),
    ("GET", "studies/../federation"),
    ("GET", "%2e%2e/fleet/x"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("control")) as deployment:
        yield deployment


def client(here: Deployment, token: str | None = None) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(here.config.pki.ca_certificate))
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    base = f"https://{here.coordinator.address}/v1/wardround/"
    return httpx.Client(
        base_url=base, verify=context, headers=headers, timeout=HUNG, trust_env=False
    )


@pytest.fixture
def account(here: Deployment, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A name and a token for one test."""
    accounts = Accounts(here.config.accounts)
    name = f"a{abs(hash(request.node.name)) % 10**9}"
    yield name, accounts.add(name)
    if name in accounts.all():
        accounts.remove(name)


def written(here: Deployment) -> list[dict[str, Any]]:
    return [json.loads(line) for line in here.config.event_log.read_text().splitlines()]


# --- who gets in ---
@pytest.mark.parametrize(("method", "path"), ROUTES + NOT_THERE)
def test_without_a_good_token_every_path_answers_401_and_nothing_else(
    here: Deployment, account: tuple[str, str], method: str, path: str
) -> None:
    _, token = account
    answers = set()
    for header in (
        None,
        "",
        "Bearer",
        f"Bearer {token[:-1]}",
        f"Bearer {token} x",
        f"Basic {token}",
        token,
        "Bearer wardround_" + "A" * 43,
        "Bearer " + "A" * 20_000,
    ):
        with client(here) as outsider:
            headers = {} if header is None else {"authorization": header}
            answer = outsider.request(method, path, headers=headers, params={"token": token})
            answers.add((answer.status_code, answer.content))
    assert len(answers) == 1, "what an outsider is told must not depend on what is there"
    status, content = answers.pop()
    assert status == 401
    assert json.loads(content)["code"] == "credentials"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_token_of_a_removed_account_is_worth_nothing(
    here: Deployment, account: tuple[str, str], method: str, path: str
) -> None:
    name, token = account
    with client(here, token) as before:
        assert before.request(method, path).status_code != 401
        Accounts(here.config.accounts).remove(name)
        assert before.request(method, path).status_code == 401


def test_two_tokens_in_one_call_are_none(here: Deployment, account: tuple[str, str]) -> None:
    bearer = ("authorization", f"Bearer {account[1]}")
    with client(here) as caller:
        assert caller.get("federation", headers=[bearer]).status_code == 200
        assert caller.get("federation", headers=[bearer, bearer]).status_code == 401


def test_what_an_outsider_sends_is_not_read(here: Deployment) -> None:
    host, port = here.coordinator.address.split(":")
    context = ssl.create_default_context(cafile=str(here.config.pki.ca_certificate))
    head = b"POST /v1/wardround/studies HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n\r\n"
    with (
        socket.create_connection((host, int(port))) as raw,
        context.wrap_socket(raw, server_hostname=host) as line,
    ):
        line.sendall(head)
        assert line.recv(64).startswith(b"HTTP/1.1 401")
        while line.recv(4096):
            pass  # hung up, with the body still to come


def test_paths_that_are_not_there(here: Deployment, account: tuple[str, str]) -> None:
    with client(here, account[1]) as caller:
        assert [caller.request(m, p).status_code for m, p in NOT_THERE[:2]] == [404, 404]
        assert caller.put("studies").status_code == 405
        for path in (path for method, path in OF_A_STUDY if method == "GET"):
            answer = caller.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "usage")


# --- what is taken ---
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"document": "text"}',
        b'{"document": {}, "more": 1}',
        b'{"document": {"x": NaN}}',
        b'{"document": {"x": 1e999}}',
        b'{"document": {}, "tracking": {"uri": "http://elsewhere"}}',
        b'{"document": {}, "tracking": {"experiment": 5}}',
        b'{"document": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b'{"document": {}}',
    ],
)
def test_what_is_no_submission_is_refused_with_a_remedy(
    here: Deployment, account: tuple[str, str], body: bytes
) -> None:
    with client(here, account[1]) as caller:
        answer = caller.post("studies", content=body)
    assert answer.status_code == 422
    assert answer.json()["code"] in {"usage", "refused_study"}
    assert answer.json()["message"]
    assert here.coordinator.studies() == []


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_long_is_refused(
    here: Deployment, account: tuple[str, str], announced: bool
) -> None:
    body = b" " * (BODY_LIMIT + 1)

    def parts() -> Iterator[bytes]:
        yield from (body[at : at + 65536] for at in range(0, len(body), 65536))

    with client(here, account[1]) as caller:
        answer = caller.post("studies", content=body if announced else parts())
    assert answer.status_code == 413


def test_a_name_that_mlflow_would_not_take_is_refused_before_the_study_starts(
    here: Deployment,
) -> None:
    with here.account("namer") as owner:
        study, configuration = study_of(owner.patients(), "rounds=3", "seed=12")
        with pytest.raises(WardroundError, match=r"tracking\.model cannot be") as refused:
            owner.submit(study, configuration, {"model": "models:/mine/1"})
        assert refused.value.code is Code.CONFIGURATION
        assert study.digest not in {row["study"] for row in owner.studies()}


def test_too_many_calls_of_one_account_leave_the_others_alone(
    here: Deployment, account: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that stands still, or goes on by what the caller has to wait."""
    now = [0.0]
    monkeypatch.setattr(rate_limits, "time", SimpleNamespace(monotonic=lambda: now[0]))
    accounts = Accounts(here.config.accounts)
    other = accounts.add("patient")
    try:
        with client(here, account[1]) as caller, client(here, other) as patient:
            answers = [caller.get("studies").status_code for _ in range(int(BURST) + 2)]
            assert answers == [200] * int(BURST) + [429] * 2
            assert patient.get("studies").status_code == 200
            now[0] += 1.5 / RATE
            assert [caller.get("studies").status_code for _ in range(2)] == [200, 429]
    finally:
        accounts.remove("patient")


@pytest.fixture
def others(here: Deployment) -> Iterator[dict[str, str]]:
    """Tokens of an account that sees its own studies, and of one that sees everybody's."""
    accounts = Accounts(here.config.accounts)
    yield {
        "stranger": accounts.add("stranger"),
        "overseer": accounts.add("overseer", role="all_studies"),
    }
    for name in ("stranger", "overseer"):
        accounts.remove(name)


def test_an_account_sees_its_own_studies_or_all_with_a_role_that_says_so(
    here: Deployment, others: dict[str, str]
) -> None:
    with here.account("owner") as owner:
        study, configuration = study_of(owner.patients(), "rounds=3")
        uri = {"tracking": {"uri": "https://me:hunter2@mlflow.example.org"}}
        digest = owner.submit(study, configuration | uri)
        assert digest in {row["study"] for row in owner.studies()}
        assert "hunter2" not in json.dumps(owner.study(digest)), "others may see it"
        with client(here, others["stranger"]) as caller:
            for method, path in OF_A_STUDY:
                nowhere = caller.request(method, path)
                answer = caller.request(method, path.replace(STUDY, digest))
                assert (answer.status_code, answer.content) == (404, nowhere.content)
            assert caller.get("studies").json()["studies"] == []
            body = {"document": json.loads(study.document)}
            assert caller.post("studies", json=body).status_code == 409, "nor by sending it again"
        with client(here, others["overseer"]) as caller:
            assert digest in {row["study"] for row in caller.get("studies").json()["studies"]}
            assert caller.get(f"studies/{digest}").json()["state"] in ("proposed", "waiting")
            assert caller.delete(f"studies/{digest}").status_code == 403, "seeing is not cancelling"
        owner.cancel(digest)
        assert [e["type"] for e in owner.events(digest)][-1] == "cancelled"


def test_a_stream_ends_for_an_account_that_may_no_longer_read_it(
    here: Deployment, others: dict[str, str]
) -> None:
    with here.account("streaming") as owner:
        study, configuration = study_of(owner.patients(), "rounds=3", "seed=11")
        digest = owner.submit(study, configuration)
        with (
            client(here, others["overseer"]) as caller,
            caller.stream("GET", f"studies/{digest}/events") as response,
        ):
            lines = response.iter_lines()
            next(lines)
            Accounts(here.config.accounts).rotate("overseer", role="own_studies")
            owner.cancel(digest)
            assert "cancelled" not in "".join(lines)
        assert [e["type"] for e in owner.events(digest)][-1] == "cancelled"


def test_streams_are_held_counted_and_let_go(here: Deployment, account: tuple[str, str]) -> None:
    with here.account("streamer") as owner:
        study, configuration = study_of(owner.patients(), "rounds=3")
        digest = owner.submit(study, configuration)
        path = f"studies/{digest}/events"
        Accounts(here.config.accounts).remove(account[0])
        token = Accounts(here.config.accounts).add(account[0], role="all_studies")
        with client(here, token) as caller:
            open_, reading = [], []
            for _ in range(AT_ONCE["stream"]):
                request = caller.build_request("GET", path)
                response = caller.send(request, stream=True)
                assert response.status_code == 200
                lines = response.iter_lines()
                next(lines)
                open_.append(response)
                reading.append(lines)
            assert caller.get(path).status_code == 429
            assert caller.get("federation").status_code == 200, "with all of them still held"
            open_.pop().close()

            def free() -> bool:
                with caller.stream("GET", path) as response:
                    return response.status_code == 200

            until(free, "a stream is let go")
            for response in open_:
                response.close()
        assert [caller_bad(here, token, f"{path}?after={bad}") for bad in ("-1", "x", "²")] == [
            422
        ] * 3
        owner.cancel(digest)
        assert [e["type"] for e in owner.events(digest)][-1] == "cancelled"


def caller_bad(here: Deployment, token: str, path: str) -> int:
    with client(here, token) as caller:
        return caller.get(path).status_code


# --- what is written down ---
def test_every_call_is_written_down_and_no_token_or_body(
    here: Deployment, account: tuple[str, str]
) -> None:
    name, token = account
    canary = "canary-4711"
    with client(here, token) as caller:
        caller.get("federation")
        caller.delete(f"studies/{STUDY}")
        caller.post("studies", json={"document": {"title": canary}})
    with client(here) as outsider:
        outsider.get("federation", headers={"authorization": f"Bearer {canary}"})
    calls = [e for e in written(here) if e["event"] == "control" and e["account"] == name]
    assert [(e["method"], e["path"], e["status"]) for e in calls] == [
        ("GET", "/v1/wardround/federation", 200),
        ("DELETE", f"/v1/wardround/studies/{STUDY}", 404),
        ("POST", "/v1/wardround/studies", 422),
    ]
    assert any(e["event"] == "refused" and e["reason"] == "token" for e in written(here))
    log = here.config.event_log.read_text()
    assert token not in log
    assert canary not in log


def test_nothing_of_a_token_is_left_in_the_folder(
    here: Deployment, account: tuple[str, str]
) -> None:
    secret = account[1].removeprefix("wardround_").encode()
    files = [path for path in Path(here.config.folder).rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if secret in path.read_bytes()]


# --- decisions about models
def test_a_reviewer_submits_nothing_and_a_data_scientist_decides_nothing(
    here: Deployment, account: tuple[str, str]
) -> None:
    with client(here, account[1]) as caller:
        assert caller.get("decisions").json() == {"entries": []}
        for body in (b"", b"{}", b'{"decision": {"decision": "{}"}}', b"[" * 9000):
            answer = caller.post("decisions", content=body)
            assert (answer.status_code, answer.json()["message"]) == (
                422,
                "The body is not a decision.",
            )
    accounts = Accounts(here.config.accounts)
    token = accounts.add("rita", role="reviewer")
    try:
        with client(here, token) as caller:
            refused = caller.post("studies", json={"document": {}})
            assert refused.status_code == 403
            assert caller.get("studies").status_code == 200
    finally:
        accounts.remove("rita")
