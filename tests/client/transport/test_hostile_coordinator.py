"""Whatever a coordinator answers, a site's connection lives: it names a code, and goes on.

Kinds of fault, all reported of other projects too: a parser's exception that nobody expected ends
the daemon; an answer without an end fills the memory or is read for ever.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Metadata
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, message_pb2

from client.transport import http_connection
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection, IncomingMessage
from client.transport.node_key import create_node_key
from client.transport.route import Route
from protocol.errors import Code, WardroundError
from protocol.wire.flower_encoding import (
    MESSAGE_TYPE,
    OBJECTS_LIMIT,
    WireBody,
    pack,
    read_message,
    tree_ids,
)
from protocol.wire.messages import Frame
from server.enrolment.certificates import Pki
from tests.client.transport.hostile_coordinator import HostileCoordinator, http
from tests.narrowing import present
from tests.waiting import HUNG


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.create("Test", ["localhost", "127.0.0.1"])
    return made


@pytest.fixture
def key(tmp_path: Path) -> Path:
    create_node_key(tmp_path / "node.key")
    return tmp_path / "node.key"


GOOD = Frame(b'{"good": 1}')


def question(
    header: bytes = b"{}", body: tuple[bytes, ...] = (), ttl: float = 60.0
) -> fleet_pb2.PullMessagesResponse:
    metadata = Metadata(
        run_id=1, message_id="", src_node_id=1, dst_node_id=7, reply_to_message_id="",
        group_id="", created_at=0.0, ttl=ttl, message_type=MESSAGE_TYPE,
    )  # fmt: skip
    parcel = pack(metadata, header, WireBody.cut(body))
    return fleet_pb2.PullMessagesResponse(
        messages_list=[message_to_proto(parcel.message)], message_object_trees=[parcel.tree]
    )


def changed(change: Callable[[fleet_pb2.PullMessagesResponse], object]) -> bytes:
    asked = question()
    change(asked)
    return http(asked.SerializeToString())


def crowded() -> bytes:
    """A tree of many nodes, two bytes each on the wire."""
    return changed(
        lambda asked: (
            asked.messages_list[0].content.Clear(),
            [asked.message_object_trees[0].children.add() for _ in range(OBJECTS_LIMIT + 1)],
        )
    )


def number_for_header(asked: fleet_pb2.PullMessagesResponse) -> None:
    record = asked.messages_list[0].content.items[0].config_record
    next(item for item in record.items if item.key == "header").value.sint64 = 7


ANSWERS = {
    "no Protocol Buffers": http(b"\xff" * 40),
    "a message cut in two": http(question().SerializeToString()[:-9]),
    "no HTTP": b"\x00" * 200 + b"\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
    "a length of petabytes": b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999\r\n\r\n",
    "chunks of no length": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "an error nested in itself": http(b"[" * 100_000, status="500 Oh"),
    "an error with a huge number": http(b'{"code": 1e999}', status="500 Oh"),
    "a date before all dates": http(
        b"", "date: Mon, 01 Jan 0001 00:00:00 +2359", status="401 No"
    ),
    "busy, of a pull": http(b"", "wardround-refused: busy", status="503 Busy"),
    "no tree": changed(lambda asked: asked.ClearField("message_object_trees")),
    "no identity": changed(
        lambda asked: setattr(asked.message_object_trees[0], "object_id", "0\r\nhost: x")
    ),
    "a record of no kind": changed(
        lambda asked: asked.messages_list[0].content.items[0].ClearField("config_record")
    ),
    "no metadata": changed(lambda asked: asked.messages_list[0].ClearField("metadata")),
    "open for ever": http(question(ttl=float("inf")).SerializeToString()),
    "open until no time": http(question(ttl=float("nan")).SerializeToString()),
}  # fmt: skip
UNREADABLE = {
    "a header that is a number": changed(number_for_header),
    "a tree with too many nodes": crowded(),
}


def sites(pki: Pki, key: Path, coordinator: HostileCoordinator) -> FleetConnection:
    return FleetConnection(
        FleetConfig(coordinator.address, pki.ca_certificate, key, call_timeout=1.0)
    )


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_malformed_answer_is_a_fault_and_no_end(pki: Pki, key: Path, answer: bytes) -> None:
    good = http(question(GOOD.header).SerializeToString())
    # Twice: a connection that breaks is made anew, and asked once more.
    answers = itertools.chain([answer] * 2, itertools.repeat(good))

    def reply(route: str) -> bytes:
        return next(answers) if route == "pull-messages" else http(b"")

    with HostileCoordinator(pki, reply) as coordinator, sites(pki, key, coordinator) as site:
        assert site.receive(0) is None
        assert present(site.last_error).code in {
            Code.MESSAGE, Code.UNREACHABLE, Code.NODE_KEY, Code.CLOCK,
        }  # fmt: skip
        assert next(filter(None, (site.receive(0.2) for _ in range(1000)))).frame == GOOD
        assert site.last_error is None


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
def test_a_question_that_cannot_be_read_is_handed_on_to_be_refused_once(
    pki: Pki, key: Path, answer: bytes
) -> None:
    with (
        HostileCoordinator(pki, lambda _: answer) as coordinator,
        sites(pki, key, coordinator) as site,
    ):
        assert present(site.receive(HUNG)).frame == Frame(b"")
        assert site.receive(0) is None
        assert site.last_error is None


def test_a_malformed_question_is_not_asked_again(pki: Pki, key: Path) -> None:
    """Whether the coordinator lists it with each pull or not: it would stand before all others."""
    answer = ANSWERS["a record of no kind"]
    with (
        HostileCoordinator(pki, lambda _: answer) as coordinator,
        sites(pki, key, coordinator) as site,
    ):
        assert site.receive(0) is None
        assert present(site.last_error).code is Code.MESSAGE
        assert site.receive(5) is None
        assert site.last_error is None


def test_objects_of_garbage_are_refused_like_any_message(pki: Pki, key: Path) -> None:
    found = message_pb2.PullObjectResponse(
        object_found=True, object_available=True, object_content=b"\x00garbage"
    )
    replies = {
        "pull-messages": http(question(body=(b"x" * 300_000,)).SerializeToString()),
        "pull-object": http(found.SerializeToString()),
    }
    with (
        HostileCoordinator(pki, lambda route: replies.get(route, http(b""))) as coordinator,
        sites(pki, key, coordinator) as site,
    ):
        assert present(site.receive(HUNG)).frame == Frame(b"")


def test_the_objects_of_a_question_are_bounded_together(pki: Pki, key: Path) -> None:
    asked = question(body=tuple(bytes([n]) * (1 << 20) for n in range(6)))
    found = message_pb2.PullObjectResponse(
        object_found=True, object_available=True, object_content=b"x" * 1000
    )
    replies = {
        "pull-messages": http(asked.SerializeToString()),
        "pull-object": http(found.SerializeToString()),
    }
    with HostileCoordinator(pki, lambda route: replies.get(route, http(b""))) as coordinator:
        config = FleetConfig(coordinator.address, pki.ca_certificate, key, max_body=2500)
        with FleetConnection(config) as site:
            assert present(site.receive(HUNG)).frame == Frame(b"")


def test_an_endless_answer_is_given_up(
    pki: Pki, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's http.client reads any number of "100 Continue" before an answer."""
    monkeypatch.setattr(http_connection, "_AROUND", 100_000)
    endless = b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000 + http(b"")
    with (
        HostileCoordinator(pki, lambda _: endless) as coordinator,
        sites(pki, key, coordinator) as site,
    ):
        site.connect()
        assert site.receive(0) is None
        assert present(site.last_error).code is Code.MESSAGE


def test_an_answer_that_drips_is_given_up(pki: Pki, key: Path) -> None:
    """Each byte would be in time; the answer is not."""
    context = http_connection.tls(pki.ca_certificate)
    with HostileCoordinator(pki, lambda _: b"H") as coordinator:
        line = http_connection.HttpConnection(Route.to(coordinator.address), context)
        with pytest.raises(WardroundError) as caught:
            line.call("/v1/fleet/x", b"", {}, 0.2, 100)
    assert caught.value.code is Code.UNREACHABLE


def test_more_time_is_given_only_for_bytes(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket's clock: 10 s to begin, and one second more for each SLOWEST bytes."""
    with HostileCoordinator(pki, lambda _: http(b"x" * 8192)) as coordinator:
        context = http_connection.tls(pki.ca_certificate)
        line = http_connection.HttpConnection(Route.to(coordinator.address), context)
        assert line.call("/v1/fleet/x", b"", {}, 10, 8192).body == b"x" * 8192
        paced = line._socket
        assert isinstance(paced, http_connection.PacedSocket)
        monkeypatch.setattr(paced, "_until", 0.0)
        with pytest.raises(TimeoutError):
            paced.recv_into(bytearray(1))
        line.close()


def test_the_coordinator_gets_no_object_that_was_not_offered(pki: Pki, key: Path) -> None:
    wanted = fleet_pb2.PushMessagesResponse(objects_to_push=["0" * 64])
    replies = {"push-messages": http(wanted.SerializeToString())}
    with (
        HostileCoordinator(pki, lambda route: replies.get(route, http(b""))) as coordinator,
        sites(pki, key, coordinator) as site,
    ):
        site.connect()
        asked = read_message(question(ttl=0.001).messages_list[0])
        with pytest.raises(WardroundError) as caught:
            site.reply(IncomingMessage(Frame(b""), "0" * 64, asked.metadata), Frame(b"{}"))
    assert caught.value.code is Code.MESSAGE


def test_a_coordinator_that_is_always_busy_is_not_waited_for_beyond_the_questions_time(
    pki: Pki, key: Path
) -> None:
    busy = http(b"", "wardround-refused: busy", status="503 Busy")
    with (
        HostileCoordinator(pki, lambda _: busy) as coordinator,
        sites(pki, key, coordinator) as site,
    ):
        site.connect()
        asked = read_message(question(ttl=0.05).messages_list[0])
        with pytest.raises(WardroundError) as caught:
            site.reply(IncomingMessage(Frame(b""), "0" * 64, asked.metadata), Frame(b"{}"))
    assert caught.value.code is Code.UNREACHABLE


def test_a_site_speaks_tls_1_3_only(pki: Pki, key: Path) -> None:
    with HostileCoordinator(pki, lambda _: http(b"")) as coordinator:
        coordinator._context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(WardroundError) as caught:
            sites(pki, key, coordinator).connect()
    assert caught.value.code is Code.TLS


def test_a_tree_has_so_many_ids_at_most() -> None:
    tree = message_pb2.ObjectTree(object_id="root")
    for _ in range(OBJECTS_LIMIT - 1):
        tree.children.add()
    assert len(tree_ids(tree)) == OBJECTS_LIMIT
    tree.children.add()
    with pytest.raises(WardroundError):
        tree_ids(tree)
