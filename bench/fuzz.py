"""Every parser of what another party sends, on mutations of what an honest one sends.

    python bench/fuzz.py [--inputs 10000] [--only raw]

A death is any exception other than a WardroundError, which is how a refusal looks; of what answers
over HTTP, it is a status that blames the coordinator, or none; of the DICOM receiver, a hanging
connection, or an honest sender that is not let in. The sequence of inputs
is the same in every run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flwr.app import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID, TIMESTAMP_HEADER
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_PACKAGE_VERSION_METADATA_KEY,
)
from flwr.supercore.primitives.asymmetric import sign_message
from starlette.requests import Request

from client.enrolment.join import FederationBundle
from client.transport.node_key import create_node_key, load_node_key, public_pem
from protocol.document import read_json, read_object
from protocol.errors import WardroundError
from protocol.release import RELEASE_HEADER
from protocol.study.study import Study
from protocol.terminal.study_texts import check_texts
from protocol.wire import messages
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.flower_encoding import (
    MESSAGE_TYPE,
    PackedMessage,
    WireBody,
    decoded,
    frame_of_objects,
    pack,
    read_inline_content,
    read_message,
    tree_ids,
)
from protocol.wire.flower_version import FLOWER_WIRE
from protocol.wire.messages import Frame
from server.coordinator.control_api import Submitted, _HttpError, _study_of, _submitted
from server.coordinator.study_events import deliver, error_from_json, receipt_from_json
from server.enrolment.accounts import Credentials
from server.rounds.answers import answer_of, standing_of
from server.rounds.listener import Listener
from server.transport.event_log import EventLog
from server.transport.gateway import Gateway
from server.transport.upload_slots import UploadSlots
from support.figure import figure, load
from support.raw_doors import dicom_door, http_door

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "0.1.0"
SLOWEST, GROWTH = 1.0, 32.0
"""Seconds of the slowest input, and MiB by which memory grows in the second half of the inputs."""
_PIECES = [
    b"[" * 3000, b'{"a":' * 3000, b"\x00", b"\xff" * 64, b"\n", b"1e999", b"NaN", b"-Infinity",
    b"9" * 5000, b'"\\ud800"', b"null", b"\xed\xa0\x80", b"\x80" * 10 + b"\x01", b"\x0b" * 500,
    b"\x1b[2J", b"\x12\x00" * 3000, b"A" * 70_000,
]  # fmt: skip
"""What has broken parsers before: depth, huge numbers, lone surrogates, endless varints, groups."""


@dataclass(frozen=True)
class Parser:
    """What reads bytes of another party. seeds: such bytes of an honest one."""

    name: str
    seeds: Sequence[bytes]
    read: Callable[[bytes], object]


@dataclass
class Tally:
    """What became of the inputs of one parser."""

    refused: int = 0
    deaths: int = 0
    slowest: float = 0.0
    growth: float = 0.0
    died_of: str = ""


def mutated(seed: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """A few changes: bits, cuts, repeats, pieces of other inputs, and what is known to hurt."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        until = min(len(data), at + chance.choice([1, 2, 8, 64, 1 << 20]))
        match chance.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:until]
            case 2:
                data[at:at] = data[at:until] * chance.choice([1, 2, 50])
            case 3:
                data[at:until] = chance.choice(others)[at:until]
            case 4:
                data[at:at] = chance.choice(_PIECES)
            case _:
                data[at:until] = chance.randbytes(until - at if until - at < 4096 else 16)
        del data[400_000:]
    return bytes(data)


def fuzz(parser: Parser, inputs: int) -> Tally:
    """Gives the parser that many inputs."""
    chance, tally, half = random.Random(parser.name), Tally(), 0.0
    for number in range(inputs):
        data = mutated(chance.choice(parser.seeds), parser.seeds, chance)
        began = time.perf_counter()
        try:
            parser.read(data)
        except WardroundError:
            tally.refused += 1
        except Exception as error:
            tally.deaths += 1
            tally.died_of = tally.died_of or f"{type(error).__name__} ({data[:60]!r})"
        seconds = time.perf_counter() - began
        if seconds > SLOWEST / 2:
            seconds = min(seconds, *_again(parser, data))
        tally.slowest = max(tally.slowest, seconds)
        if number == inputs // 2:
            half = resident()
    tally.growth = resident() - half
    return tally


def _again(parser: Parser, data: bytes) -> Iterator[float]:
    """Seconds that the same input takes twice more: a busy machine's pauses do not come again."""
    for _ in range(2):
        began = time.perf_counter()
        with suppress(Exception):
            parser.read(data)
        yield time.perf_counter() - began


def resident() -> float:
    """MiB of this process."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096 / 2**20


# --- the parsers ---
@contextmanager
def parsers() -> Iterator[list[Parser]]:
    """All of them; files and the gateway's key lie in a folder of their own meanwhile."""
    frames = [path.read_bytes() for path in sorted((GOLDEN / "messages").glob("*.frame"))]
    studies = [path.read_bytes() for path in sorted((GOLDEN / "studies").glob("local*.json"))]
    with (
        tempfile.TemporaryDirectory() as made,
        asyncio.Runner() as runner,
        http_door(Path(made) / "coordinator") as http,
        dicom_door(Path(made) / "state") as dicom,
    ):
        folder = Path(made)
        gateway = RegisteredSite(folder)
        yield [
            Parser("JSON", [*frames, *studies], read_json),
            Parser("a message at a site", frames, lambda data: messages.parse(Frame(data))),
            Parser("a message at the coordinator", frames, _answer),
            Parser("a study", studies, lambda data: check_texts(Study.parse(data))),
            Parser("a submission", [_submission(study) for study in studies], _submit),
            Parser("an event of a study", _EVENTS, _event),
            Parser("a question over Flower", [_pulled().SerializeToString()], _question),
            Parser("an object of Flower", *_objects()),
            Parser("a bundle", *_file(folder, "bundle.json", FederationBundle.load)),
            Parser("an enrolment card", *_file(folder, "card.json", EnrolmentCard.load)),
            Parser("credentials", *_file(folder, "credentials.json", Credentials.load)),
            Parser("a request of a site", gateway.seeds(), lambda d: runner.run(gateway.take(d))),
            Parser("a signed header", gateway.heads(), lambda d: runner.run(gateway.head(d))),
            Parser("raw HTTP", http.seeds(studies[0]), lambda d: runner.run(http.take(d))),
            Parser("a raw request of a DICOM sender", dicom.requests(), dicom.knock),
            Parser("raw bytes of a DICOM sender", dicom.conversations(), dicom.talk),
        ]


def _answer(data: bytes) -> None:
    answer_of(Frame(data))
    standing_of(Frame(data))


def _submission(study: bytes) -> bytes:
    return json.dumps({"document": json.loads(study), "configuration": {"a": [1]}}).encode()


def _submit(data: bytes) -> None:
    try:
        submitted: Submitted = _submitted(data)
    except _HttpError as refusal:
        raise refusal.error from None
    _study_of(submitted, _REQUEST)


_REQUEST = Request({"type": "http", "headers": [(RELEASE_HEADER.encode(), b"0.1.0")]})

_EVENTS = [
    json.dumps(event).encode()
    for event in (
        {"n": 1, "type": "waiting", "why": "offline", "sites": ["north", "south"]},
        {"n": 2, "type": "lost", "round": 1, "attempt": 1, "why": "2 sites were ready"},
        {"n": 3, "type": "round", "round": 1, "attempt": 2, "participants": 3, "seconds": 0.5,
         "bytes_sent": 10, "bytes_received": 10, "epsilon": 0.3, "metrics": None},
        {"n": 4, "type": "failed", "code": "too_few_sites", "message": "a", "remedy": "b",
         "url": "http://x", "missing": ["a"]},
    )
]  # fmt: skip


class _Deaf(Listener):
    """Hears every event and does nothing."""


def _event(data: bytes) -> None:
    event = read_object(data)
    deliver(event, _Deaf())
    error_from_json(event)
    receipt_from_json(event)


def _parcel(body: Sequence[bytes] = (), to: int = 7, question: str = "") -> PackedMessage:
    metadata = Metadata(
        run_id=1, message_id="", src_node_id=SUPERLINK_NODE_ID, dst_node_id=to,
        reply_to_message_id=question, group_id="", created_at=0.0, ttl=60.0,
        message_type=MESSAGE_TYPE,
    )  # fmt: skip
    return pack(metadata, b'{"type":"share"}', WireBody.cut(body))


def _pulled() -> fleet_pb2.PullMessagesResponse:
    parcel = _parcel()
    return fleet_pb2.PullMessagesResponse(
        messages_list=[message_to_proto(parcel.message)], message_object_trees=[parcel.tree]
    )


def _question(data: bytes) -> None:
    for proto in (response := decoded(fleet_pb2.PullMessagesResponse, data)).messages_list[:1]:
        message = read_message(proto)
        if message.has_content():
            read_inline_content(message.content)
    for tree in response.message_object_trees[:1]:
        tree_ids(tree)


def _objects() -> tuple[list[bytes], Callable[[bytes], object]]:
    parcel = _parcel()
    contents = dict(parcel.objects)
    ids = sorted(contents)

    def read(data: bytes) -> None:
        for object_id in ids:
            frame_of_objects(parcel.tree.object_id, contents | {object_id: data})

    return [contents[object_id] for object_id in ids], read


def _file(
    folder: Path, name: str, load_file: Callable[[Path], object]
) -> tuple[list[bytes], Callable[[bytes], object]]:
    path = folder / name
    path.touch(mode=0o600)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_file(path)

    return [(GOLDEN / name).read_bytes()], read


class RegisteredSite:
    """A site that a gateway knows, which sends it garbage: a byte for the route, then the body."""

    def __init__(self, folder: Path) -> None:
        create_node_key(folder / "node.key")
        key = load_node_key(folder / "node.key")
        self._gateway = Gateway(
            EventLog(None),
            slots=UploadSlots(1, 1 << 20, 1.0),
            hold=0.0,
            stall=1.0,
            max_body=1 << 20,
        )
        self._node = self._gateway.state.register("north", public_pem(key))
        stamp = datetime.now(UTC).isoformat()
        self._headers = {
            "content-type": "application/protobuf",
            FLWR_PACKAGE_VERSION_METADATA_KEY: FLOWER_WIRE,
            FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_pem(key)).decode(),
            TIMESTAMP_HEADER: stamp,
            FLEET_HTTP_SIGNATURE_HEADER: b64encode(sign_message(key, stamp.encode())).decode(),
        }
        node = Node(node_id=self._node)
        parcel = _parcel(question="0" * 64)
        push = fleet_pb2.PushMessagesRequest(
            node=node,
            messages_list=[message_to_proto(parcel.message)],
            message_object_trees=[parcel.tree],
        )
        self._requests: dict[str, Any] = {
            "push-messages": push,
            "pull-messages": fleet_pb2.PullMessagesRequest(node=node),
            "push-object": message_pb2.PushObjectRequest(node=node, object_content=b"x"),
            "pull-object": message_pb2.PullObjectRequest(node=node, object_id="0" * 64),
            "send-node-heartbeat": heartbeat_pb2.SendNodeHeartbeatRequest(
                node=node, heartbeat_interval=10
            ),
            "confirm-message-received": message_pb2.ConfirmMessageReceivedRequest(node=node),
        }
        self._routes = list(self._requests)

    def seeds(self) -> list[bytes]:
        return [
            bytes([number]) + request.SerializeToString()
            for number, request in enumerate(self._requests.values())
        ]

    def heads(self) -> list[bytes]:
        return ["\n".join(f"{k}: {v}" for k, v in self._headers.items()).encode()]

    async def take(self, data: bytes) -> None:
        """One request with a mutated body."""
        route = self._routes[data[0] % len(self._routes)] if data else self._routes[0]
        await self._call(route, list(self._headers.items()), data[1:])

    async def head(self, data: bytes) -> None:
        """One request with mutated header fields."""
        fields = [line.partition(": ") for line in data.decode("latin-1").split("\n")]
        await self._call("pull-messages", [(key, value) for key, _, value in fields], b"")

    async def _call(self, route: str, headers: list[tuple[str, str]], body: bytes) -> None:
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        fields = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers]
        scope = {
            "type": "http", "method": "POST", "path": f"/v1/fleet/{route}", "headers": fields,
            "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await self._gateway(scope, receive, send)
        if not 200 <= status < 500:
            raise RuntimeError(f"HTTP status {status} of {route}")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=10_000, help="for each parser")
    options.add_argument("--only", default="", help="parsers whose name holds this")
    arguments = options.parse_args()
    inputs, only, holds = arguments.inputs, arguments.only, True
    with parsers() as all_of_them:
        for parser in (parser for parser in all_of_them if only in parser.name):
            tally = fuzz(parser, inputs)
            if tally.died_of:
                print(f"{parser.name}: {tally.died_of}", file=sys.stderr)
            holds &= figure(f"{parser.name}: deaths", tally.deaths, "inputs", 0, load=load())
            holds &= figure(f"{parser.name}: slowest", tally.slowest, "s", SLOWEST, load=load())
            holds &= figure(f"{parser.name}: growth", tally.growth, "MiB", GROWTH, load=load())
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
