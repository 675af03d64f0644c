"""Every Flower internal that our adapters stand on, checked against the pinned release.

When the pin moves, this file says what moved with it.
"""

import inspect
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common import constant
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import fleet_pb2
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_PACKAGE_VERSION_METADATA_KEY,
    NOOP_FEDERATION_ID,
    NodeStatus,
)
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.error.catalog import API_ERROR_MAP
from flwr.supercore.inflatable.inflatable_object import get_object_id, get_object_tree
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.primitives import asymmetric
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from flwr.superlink.routers.fleet import node_auth
from flwr.superlink.routers.fleet.router import router
from flwr.superlink.servicer.fleet import fleet_handlers
from starlette.routing import Route

from client.transport.node_key import create_node_key, load_node_key, public_pem
from protocol.wire.flower_encoding import MESSAGE_TYPE, WireBody, pack, tree_ids
from protocol.wire.flower_version import FLOWER_VERSION, FLOWER_WIRE
from server.transport.gateway import FLEET_ROUTES, large_object_head
from server.transport.link_state import FleetState
from tests.narrowing import instance, present


def parameters(callable_: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(callable_).parameters)


def metadata(**changes: Any) -> Metadata:
    values: dict[str, Any] = {
        "run_id": 1, "message_id": "", "src_node_id": 1, "dst_node_id": 2,
        "reply_to_message_id": "", "group_id": "g", "created_at": time.time(), "ttl": 60.0,
        "message_type": MESSAGE_TYPE,
    }  # fmt: skip
    return Metadata(**{**values, **changes})


def test_the_pinned_release_is_installed() -> None:
    assert version("flwr") == FLOWER_VERSION == "1.42.0"


def test_our_routes_are_all_and_only_flowers_fleet_routes() -> None:
    routes = [instance(Route, route) for route in router.routes]
    assert {f"/v1/fleet/{route}" for route in FLEET_ROUTES} == {route.path for route in routes}
    assert all(route.methods == {"POST"} for route in routes)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("register_node", ["request", "state", "enable_supernode_auth"]),
        ("unregister_node", ["request", "state", "enable_supernode_auth"]),
        ("activate_node", ["request", "state"]),
        ("deactivate_node", ["request", "state"]),
        ("send_node_heartbeat", ["request", "state"]),
        ("pull_messages", ["request", "state", "store"]),
        ("push_messages", ["request", "state"]),
        ("get_run", ["request", "state"]),
        ("get_fab", ["request", "state"]),
        ("push_object", ["request", "state"]),
        ("pull_object", ["request", "state"]),
        ("confirm_message_received", ["request", "state", "store"]),
    ],
)
def test_flowers_handlers_take_what_we_give_them(handler: str, expected: list[str]) -> None:
    assert parameters(getattr(fleet_handlers, handler)) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("start_session", ["self", "run_id"]),
        ("preregister_object_tree", ["self", "object_tree", "session_id"]),
        ("store_object", ["self", "run_id", "session_id", "object_id", "object_content"]),
        ("store_message_ins", ["self", "message"]),
        ("store_message_and_object_tree", ["self", "message", "object_tree", "session_id"]),
        ("delete_messages", ["self", "message_ins_ids"]),
        ("activate_node", ["self", "node_id", "heartbeat_interval"]),
        ("deactivate_node", ["self", "node_id"]),
        ("delete_node", ["self", "owner_aid", "node_id"]),
        ("get_node_info", ["self", "node_ids", "owner_aids", "statuses"]),
        ("get_node_id_by_public_key", ["self", "public_key"]),
        ("claim_task", ["self", "task_id"]),
        ("stop_run", ["self", "run_id"]),
        ("_cleanup_push_session", ["self", "session_id", "cleanup_messages"]),
    ],
)
def test_the_link_state_has_the_methods_we_call(method: str, expected: list[str]) -> None:
    assert parameters(getattr(InMemoryLinkState, method)) == expected


def state() -> FleetState:
    return FleetState(lambda _: None, lambda _: None, 1 << 20)


def test_the_link_state_keeps_what_we_look_at() -> None:
    made = state()
    run_id = made.open_run()
    assert made.run_ids[run_id].run.federation_id == NOOP_FEDERATION_ID
    assert made.task_token_store == {}
    assert made.task_token_to_task_id == {}
    assert made.message_ins_store == {}
    assert made.message_res_store == {}
    assert made._object_push_sessions == {}
    assert isinstance(made.object_store, InMemoryObjectStore)
    node_id = made.register("north", b"key")
    assert made.nodes[node_id].name == "north"
    assert made.nodes[node_id].status == NodeStatus.REGISTERED
    assert made.node_public_key_to_node_id == {b"key": node_id}


def test_a_run_without_a_token_runs_until_it_is_closed() -> None:
    made = state()
    run_id = made.open_run()
    task_id = present(made.run_ids[run_id].run.primary_task_id)
    assert made.get_run_status({run_id})[run_id].status == constant.Status.RUNNING
    assert made.claim_task(task_id) is None
    made.close_run(run_id)
    assert made.get_run_status({run_id})[run_id].status == constant.Status.FINISHED


def test_a_delivered_message_is_hidden_by_its_timestamp_only() -> None:
    made = state()
    run_id, node_id = made.open_run(), made.register("north", b"key")
    made.activate_node(node_id, 30)
    parcel = pack(metadata(run_id=run_id, dst_node_id=node_id), b"{}", WireBody.cut([]))
    assert made.store_message_ins(parcel.message) is not None
    [message] = made.get_message_ins(node_id, limit=1)
    assert made.get_message_ins(node_id, limit=1) == []
    message.metadata.delivered_at = ""
    assert len(made.get_message_ins(node_id, limit=1)) == 1


def test_our_objects_are_flowers_byte_for_byte() -> None:
    data = bytes(range(256)) * 20_000  # 5.12 MB: three chunks
    ours = pack(metadata(created_at=2e9), b"{}", WireBody.cut([data]))
    for object_id, chunk in ours.chunks.items():
        content = chunk.content()
        flowers = ArrayChunk(memoryview(b"".join(chunk.views)))
        assert object_id == flowers.object_id == get_object_id(content)
        assert content == flowers.deflate()
    assert set(tree_ids(ours.tree)) == set(ours.objects) | set(ours.chunks)
    small = pack(metadata(created_at=2e9), b"{}", WireBody.cut([b"abc"]))
    record = RecordDict({"frame": ConfigRecord({"header": b"{}", "body": b"abc"})})
    stock = make_message(metadata(created_at=2e9), record)
    assert small.tree.SerializeToString() == get_object_tree(stock).SerializeToString()


def test_an_array_takes_its_chunks_from_where_we_put_them() -> None:
    chunk = ArrayChunk(memoryview(b"xyz"))
    array = Array("uint8", (3,), "bytes", b"")
    array.__dict__["_chunks"] = [(chunk.object_id, chunk)]
    record = ArrayRecord()
    record["words"] = array
    assert list(record["words"].children) == [chunk.object_id]


def test_content_travels_inline_in_flowers_protobuf_message() -> None:
    message = make_message(metadata(), RecordDict({"frame": ConfigRecord({"header": b"h"})}))
    request = fleet_pb2.PushMessagesRequest(messages_list=[message_to_proto(message)])
    received = fleet_pb2.PushMessagesRequest.FromString(request.SerializeToString())
    back = message_from_proto(received.messages_list[0])
    assert back.content["frame"]["header"] == b"h"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 1 << 20])
def test_a_large_object_goes_out_as_flowers_own_response(size: int) -> None:
    content = b"\x01" * size
    parsed = PullObjectResponse.FromString(large_object_head(size) + content)
    assert parsed == PullObjectResponse(
        object_found=True, object_available=True, object_content=content
    )


def test_node_authentication_is_what_we_do_before_the_body() -> None:
    source = inspect.getsource(node_auth.authenticate_node)
    for part in (
        "FLEET_HTTP_PUBLIC_KEY_HEADER", "FLEET_HTTP_SIGNATURE_HEADER", "TIMESTAMP_HEADER",
        "-SYSTEM_TIME_TOLERANCE", "TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE",
        'timestamp.encode("ascii")', "RegisterNodeFleetRequest, ActivateNodeRequest",
        "get_node_id_by_public_key(public_key) != node_id",
    ):  # fmt: skip
        assert part in source
    assert (constant.TIMESTAMP_TOLERANCE, constant.SYSTEM_TIME_TOLERANCE) == (300, 5)
    assert (FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER) == (
        "flwr-public-key",
        "flwr-signature",
    )


def test_node_keys_are_compared_in_flowers_bytes(tmp_path: Path) -> None:
    pem = create_node_key(tmp_path / "key")
    key = load_node_key(tmp_path / "key")
    assert asymmetric.public_key_to_bytes(key.public_key()) == pem == public_pem(key)
    assert asymmetric.uses_nist_ec_curve(key.public_key())


def test_the_numbers_we_rely_on() -> None:
    assert constant.SUPERLINK_NODE_ID == 1
    assert constant.HEARTBEAT_MIN_INTERVAL == 10
    assert constant.HEARTBEAT_PATIENCE == 2
    assert int(ApiErrorCode.RUNTIME_VERSION_INCOMPATIBLE) == 1001
    assert int(ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED) == 2004
    assert FLWR_PACKAGE_VERSION_METADATA_KEY == "flwr-package-version"
    local = dict(RuntimeVersionMetadata.from_local_component("SuperNode").as_metadata())
    assert local[FLWR_PACKAGE_VERSION_METADATA_KEY] == FLOWER_VERSION
    assert FLOWER_WIRE == "1.41.0", "release 0.1.0 answers no other"
    spec = API_ERROR_MAP[ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED]
    assert spec.http_status_code == 412
    error = FlowerError(ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED, "internal")
    assert error.to_json(spec.public_message)["code"] == 2004


def test_message_ids_are_set_where_we_set_them() -> None:
    parcel = pack(metadata(), b"{}", WireBody.cut([b"abc"]))
    assert parcel.message.metadata.message_id == parcel.tree.object_id
    assert isinstance(parcel.message, Message)
