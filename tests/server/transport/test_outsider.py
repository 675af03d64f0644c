"""Someone who holds the CA certificate and reaches the port, and what he gets."""

import contextlib
import json
import os
import ssl
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_connection

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.routing import iter_route_contexts
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, message_pb2
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.superlink.main import create_app

from client.transport.fleet_connection import FleetConnection
from client.transport.node_key import load_node_key, public_pem
from protocol.errors import WardroundError
from protocol.wire.messages import Frame
from server.transport import authentication
from tests.narrowing import instance, present
from tests.server.transport.live_superlink import Answers, Door, open_door
from tests.waiting import HUNG, NEVER, until

OUTSIDER = Path(__file__).with_name("outsider.py")
CLI = Path(sys.executable).with_name("flwr")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path) as opened:
        opened.register("north", "south")
        yield opened


def stock_routes() -> list[tuple[str, str]]:
    """Every route of Flower's own SuperLink application."""
    routes: list[tuple[str, str]] = []
    for found in iter_route_contexts(create_app().routes):
        path = getattr(found.route, "path", None)
        for method in getattr(found.route, "methods", None) or ():
            routes.append((method, instance(str, path)))
    return sorted(routes)


def test_the_outsider_gets_nothing(door: Door, tmp_path: Path) -> None:
    (tmp_path / "north.pem").write_bytes(public_pem(load_node_key(door.key("north"))))
    routes = stock_routes()
    others = [(method, path) for method, path in routes if not path.startswith("/v1/fleet/")]
    assert len(routes) - len(others) == 12
    assert len(others) > 50
    assert ("POST", "/v1/runtime/acquire-task") in others
    assert ("POST", "/v1/control/start-run") in others
    (tmp_path / "routes.json").write_text(json.dumps(others))

    result: Answers = []
    with door.connection("north") as site:
        site.connect()
        asking = threading.Thread(
            target=lambda: result.extend(door.link.ask({"north": Frame(b'{"q": 1}')}, NEVER))
        )
        asking.start()
        state = door.link._state
        until(lambda: state.message_ins_store, "the question is there")
        [message_id] = state.message_ins_store
        nodes_before, runs_before = dict(state.nodes), set(state.run_ids)
        process = subprocess.run(
            [sys.executable, str(OUTSIDER), door.link.address, str(door.pki.ca_certificate),
             str(tmp_path / "routes.json"), str(site._calls.node_id), message_id,
             str(tmp_path / "north.pem")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        statuses = json.loads(process.stdout)

        assert statuses.pop("plaintext") == "no answer"
        fleet = {name: status for name, status in statuses.items() if ": " in name}
        assert len(fleet) == 40
        assert set(fleet.values()) == {401}, fleet
        rest = {name: status for name, status in statuses.items() if ": " not in name}
        assert len(rest) == len(others) + 6
        assert set(rest.values()) == {404}, rest

        # Nothing was changed, and the site it posed as notices nothing.
        assert (dict(state.nodes), set(state.run_ids)) == (nodes_before, runs_before)
        assert door.link.online() == {"north"}
        delivery = present(site.receive(HUNG))
        assert delivery.frame.header == b'{"q": 1}'
        site.reply(delivery, Frame(b'{"a": 1}'))
        asking.join()
    assert present(result[0][1]).header == b'{"a": 1}'
    reasons = {event["reason"] for event in door.events() if event["event"] == "refused"}
    assert {"form", "key", "signature", "route"} <= reasons


def test_a_captured_signature_is_worth_nothing_after_its_window(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = load_node_key(door.key("north"))
    connection = door.connection("north")
    connection.connect()
    line = connection._calls.line()
    now = datetime.now(UTC)
    monkeypatch.setattr(authentication, "now", lambda: now)
    request = fleet_pb2.PullMessagesRequest(node=Node(node_id=present(connection._calls.node_id)))

    def status(age: float) -> tuple[int, str]:
        captured = signature_made(key, now - timedelta(seconds=age))
        headers = {"content-type": "application/protobuf", **connection._calls._version, **captured}
        answer = line.call(
            "/v1/fleet/pull-messages", request.SerializeToString(), headers, HUNG, 4096
        )
        return answer.status, answer.headers.get("wardround-refused", "")

    assert status(0) == (200, "")
    assert status(304.9) == (200, "")
    assert status(305) == (401, "clock")
    assert status(-4.9) == (200, "")
    assert status(-5) == (401, "clock")
    connection.__exit__(None, None, None)


def signature_made(key: ec.EllipticCurvePrivateKey, time: datetime) -> dict[str, str]:
    """The header fields that the site's own client sent at that time."""
    timestamp = time.isoformat()
    return {
        "flwr-public-key": b64encode(public_pem(key)).decode(),
        "flwr-timestamp": timestamp,
        "flwr-signature": b64encode(sign_message(key, timestamp.encode())).decode(),
    }


def refused(connection: FleetConnection, route: str, request: object, kind: type) -> str:
    """The message of the refusal of one call by a connected node."""
    with pytest.raises(WardroundError) as caught:
        connection._calls.call(connection._lines[0], route, request, kind)
    return caught.value.message


def test_a_registered_site_cannot_speak_for_another(door: Door) -> None:
    """The insider: a site with a good key and no good intentions."""
    north, south = door.connection("north"), door.connection("south")
    north.connect()
    south.connect()
    result: Answers = []
    asking = threading.Thread(
        target=lambda: result.extend(door.link.ask({"north": Frame(b'{"q": 1}')}, NEVER))
    )
    asking.start()
    delivery = present(north.receive(HUNG))
    other = Node(node_id=present(north._calls.node_id))
    pull = fleet_pb2.PullMessagesRequest(node=other)
    refused(south, "pull-messages", pull, fleet_pb2.PullMessagesResponse)
    confirm = message_pb2.ConfirmMessageReceivedRequest(
        node=Node(node_id=present(south._calls.node_id)), message_object_id=delivery.message_id
    )
    confirmed = message_pb2.ConfirmMessageReceivedResponse
    assert "403" in refused(south, "confirm-message-received", confirm, confirmed)
    parcel = south._parcel(delivery, Frame(b'{"forged": 1}'))  # says that it comes from north
    forged = fleet_pb2.PushMessagesRequest(
        node=Node(node_id=present(south._calls.node_id)),
        messages_list=[message_to_proto(parcel.message)],
        message_object_trees=[parcel.tree],
    )
    assert "403" in refused(south, "push-messages", forged, fleet_pb2.PushMessagesResponse)
    push = message_pb2.PushObjectRequest(
        node=Node(node_id=present(south._calls.node_id)), object_id="00"
    )
    assert "409" in refused(south, "push-object", push, message_pb2.PushObjectResponse)
    assert north.reply(delivery, Frame(b'{"true": 1}'))
    asking.join()
    assert present(result[0][1]).header == b'{"true": 1}'
    for connection in (north, south):
        connection.__exit__(None, None, None)


@pytest.mark.parametrize(
    "command",
    [
        ["list", "door", "--format", "json"],
        ["run", "app", "door"],
        ["stop", "1", "door"],
        ["log", "1", "door"],
        ["supernode", "list", "door"],
        ["supernode", "register", "key.pub", "door"],
        ["supernode", "unregister", "1", "door"],
    ],
    ids=" ".join,
)
def test_flowers_own_command_line_gets_nothing(
    door: Door, tmp_path: Path, command: list[str]
) -> None:
    home = tmp_path / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "door"\n\n[superlink.door]\naddress = "{door.link.address}"\n'
        f'root-certificates = "{door.pki.ca_certificate}"\n'
    )
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1.0.0"\nlicense = { file = "LICENSE" }\n'
        'dependencies = ["flwr>=1.41.0"]\n[tool.flwr.app]\npublisher = "nobody"\n'
        'fab-format-version = 1\nflwr-version-target = "1.41.0"\n'
        '[tool.flwr.app.components]\nserverapp = "app.s:app"\nclientapp = "app.c:app"\n'
    )
    (app / "LICENSE").write_text("Apache-2.0\n")
    (app / "app").mkdir()
    (app / "app" / "__init__.py").write_text("")
    (app / "app" / "s.py").write_text("from flwr.serverapp import ServerApp\napp = ServerApp()\n")
    (app / "app" / "c.py").write_text("from flwr.clientapp import ClientApp\napp = ClientApp()\n")
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    (tmp_path / "key.pub").write_bytes(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    before = (set(door.link._state.nodes), set(door.link._state.run_ids))
    environment = {**os.environ, "FLWR_HOME": str(home), "FLWR_DISABLE_UPDATE_CHECK": "1",
                   "FLWR_TELEMETRY_ENABLED": "0"}  # fmt: skip
    process = subprocess.run(
        [str(CLI), *command], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=HUNG,
    )  # fmt: skip
    assert (set(door.link._state.nodes), set(door.link._state.run_ids)) == before
    assert process.returncode != 0 or '"success": false' in process.stdout, process.stdout
    knocked = [event["route"] for event in door.events() if event["event"] == "refused"]
    assert knocked, (process.stdout, process.stderr)
    assert all(route.startswith("/v1/control/") for route in knocked)


def test_an_endless_header_is_hung_up_on(door: Door) -> None:
    context = ssl.create_default_context(cafile=door.pki.ca_certificate)
    host, _, port = door.link.address.rpartition(":")
    with (
        create_connection((host, int(port)), timeout=HUNG) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\nlong: ")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 64 << 20:
                secure.sendall(b"a" * 65536)
                sent += 65536
        assert sent < 8 << 20


def test_a_body_of_an_unknown_caller_is_not_read(door: Door) -> None:
    context = ssl.create_default_context(cafile=door.pki.ca_certificate)
    host, _, port = door.link.address.rpartition(":")
    with (
        create_connection((host, int(port)), timeout=HUNG) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(
            b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\n"
            b"content-type: application/protobuf\r\ncontent-length: 1000000000\r\n\r\n"
        )
        answer = secure.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"connection: close" in answer.lower()
