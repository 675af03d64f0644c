"""Whatever a registered site sends, the coordinator refuses it by a code, in few lines of its log,
and a study goes on at once without that site's answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flwr.app import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, message_pb2
from flwr.supercore.inflatable.inflatable_object import get_object_id

from client.transport.fleet_connection import FleetConnection, IncomingMessage
from client.transport.http_connection import Response
from protocol.wire.flower_encoding import OBJECTS_LIMIT, WireBody, pack
from protocol.wire.messages import Frame
from server.transport import event_log, gateway
from tests.narrowing import present
from tests.server.transport.live_superlink import Answers, Door, open_door
from tests.waiting import HUNG, NEVER, until

Push = fleet_pb2.PushMessagesRequest


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path) as opened:
        opened.register("north")
        yield opened


def posted(site: FleetConnection, route: str, body: bytes) -> Response:
    headers = {
        "content-type": "application/protobuf",
        **site._calls._version,
        **site._calls._signature(),
    }
    return site._lines[0].call(f"/v1/fleet/{route}", body, headers, HUNG, 1 << 20)


def answer(site: FleetConnection, asked: IncomingMessage) -> Push:
    """A right answer, to be spoiled."""
    metadata = Metadata(
        run_id=asked.metadata.run_id,
        message_id="",
        src_node_id=asked.metadata.dst_node_id,
        dst_node_id=SUPERLINK_NODE_ID,
        reply_to_message_id=asked.message_id,
        group_id="",
        created_at=asked.metadata.created_at,
        ttl=60.0,
        message_type=asked.metadata.message_type,
    )
    parcel = pack(metadata, b"{}", WireBody.cut([]))
    return Push(
        node=site._calls.node(),
        messages_list=[message_to_proto(parcel.message)],
        message_object_trees=[parcel.tree],
    )


def crowded(push: Push) -> None:
    push.messages_list[0].content.Clear()
    for _ in range(OBJECTS_LIMIT + 1):
        push.message_object_trees[0].children.add()


def record_of_no_kind(push: Push) -> None:
    push.messages_list[0].content.items[0].ClearField("config_record")


def open_for_ever(push: Push) -> None:
    push.messages_list[0].metadata.ttl = float("nan")


def answered(door: Door, spoil: Callable[[FleetConnection, IncomingMessage], object]) -> Answers:
    """What the coordinator hears of a site that does this with a question."""
    heard: Answers = []
    with door.connection("north") as site:
        site.connect()
        asking = threading.Thread(
            target=lambda: heard.extend(door.link.ask({"north": Frame(b"{}")}, NEVER))
        )
        asking.start()
        spoil(site, present(site.receive(HUNG)))
        asking.join(HUNG)  # NEVER is far away: it is the garbage that ends the wait
    return heard


@pytest.mark.parametrize("spoil", [crowded, record_of_no_kind, open_for_ever])
def test_an_answer_of_garbage_is_none_at_once(door: Door, spoil: Callable[[Push], None]) -> None:
    replies: list[Response] = []

    def push(site: FleetConnection, asked: IncomingMessage) -> None:
        wrong = answer(site, asked)
        spoil(wrong)
        replies.append(posted(site, "push-messages", wrong.SerializeToString()))

    assert answered(door, push) == [("north", None)]
    assert [reply.status for reply in replies] == [400]


def test_objects_of_garbage_are_no_answer_either(door: Door) -> None:
    """As a stock Flower client sends them: each object by a call of its own."""
    content = b"ConfigRecord \x00\xff\xff\xffgarbage"

    def push(site: FleetConnection, asked: IncomingMessage) -> None:
        announced = answer(site, asked)
        announced.messages_list[0].content.Clear()
        tree = message_pb2.ObjectTree(object_id=get_object_id(content))
        announced.message_object_trees[0].CopyFrom(tree)
        announced.messages_list[0].metadata.message_id = tree.object_id
        reply = posted(site, "push-messages", announced.SerializeToString())
        assert reply.status == 200
        session = fleet_pb2.PushMessagesResponse.FromString(reply.body).session_id
        pushed = message_pb2.PushObjectRequest(
            node=site._calls.node(),
            run_id=asked.metadata.run_id,
            object_id=tree.object_id,
            object_content=content,
            session_id=session,
        )
        posted(site, "push-object", pushed.SerializeToString())

    assert answered(door, push) == [("north", None)]


def test_garbage_without_end_is_counted_in_few_lines(door: Door) -> None:
    began = time.monotonic()
    with door.connection("north") as site:
        site.connect()
        for _ in range(150):
            assert posted(site, "pull-messages", b"\xff" * 40).status == 400
    windows = 2 + (time.monotonic() - began) // event_log._WINDOW  # one may have begun before
    lines = [event for event in door.events() if event["event"] in {"refused", "error"}]
    assert 0 < len(lines) <= windows * event_log._REFUSALS_A_WINDOW


def test_a_body_that_drips_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_BODY_SECONDS", 0.2)
    with door.connection("north") as site:
        site.connect()
        line = site._lines[0]
        head = [
            "POST /v1/fleet/pull-messages HTTP/1.1",
            "host: x",
            "content-type: application/protobuf",
            "content-length: 1000",
            *(
                f"{key}: {value}"
                for key, value in (site._calls._version | site._calls._signature()).items()
            ),
        ]
        sending = line._connected().sock
        sending.settimeout(HUNG)
        sending.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + b"x" * 10)
        assert sending.recv(4096).startswith(b"HTTP/1.1 408 ")
        line.close()
    until(
        lambda: any(event.get("reason") == "form" for event in door.events()), "the refusal is told"
    )
