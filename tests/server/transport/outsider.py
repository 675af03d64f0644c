"""An outsider as a process: holds the CA certificate, reaches the port, and nothing else.

Usage: outsider.py ADDRESS CA_CERTIFICATE ROUTES_FILE NODE_ID MESSAGE_ID VICTIM_PUBLIC_KEY_FILE
Tries everything it can think of and prints, as JSON, the HTTP status of each attempt.
"""

import json
import ssl
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto import control_pb2, fleet_pb2, heartbeat_pb2, message_pb2, runtime_pb2
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import (
    generate_key_pairs,
    public_key_to_bytes,
    sign_message,
)
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from google.protobuf.message import Message

HUNG = 240.0
address, ca, routes_file, node_id, message_id, victim_file = sys.argv[1:]
client = httpx.Client(verify=ssl.create_default_context(cafile=ca), timeout=HUNG)
own_key, own_public = generate_key_pairs()
own_pem = public_key_to_bytes(own_public)
victim_pem = Path(victim_file).read_bytes()
node = Node(node_id=int(node_id))
version = dict(RuntimeVersionMetadata.from_local_component("SuperNode").as_metadata())
results: dict[str, int | str] = {}


def post(name: str, path: str, request: Message, headers: dict[str, str]) -> None:
    answer = client.post(
        f"https://{address}{path}",
        content=request.SerializeToString(),
        headers={"content-type": "application/protobuf", **version, **headers},
    )
    results[name] = answer.status_code


def signed(pem: bytes, ago: float = 0.0, signature: bytes | None = None) -> dict[str, str]:
    timestamp = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    signature = signature or sign_message(own_key, timestamp.encode())
    return {
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(pem).decode(),
        TIMESTAMP_HEADER: timestamp,
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode(),
    }


attempts = {
    "register-node": fleet_pb2.RegisterNodeFleetRequest(public_key=own_pem),
    "activate-node": fleet_pb2.ActivateNodeRequest(public_key=own_pem, heartbeat_interval=30),
    "deactivate-node": fleet_pb2.DeactivateNodeRequest(node_id=node.node_id),
    "unregister-node": fleet_pb2.UnregisterNodeFleetRequest(node_id=node.node_id),
    "send-node-heartbeat": heartbeat_pb2.SendNodeHeartbeatRequest(node=node, heartbeat_interval=30),
    "pull-messages": fleet_pb2.PullMessagesRequest(node=node),
    "push-messages": fleet_pb2.PushMessagesRequest(node=node),
    "pull-object": message_pb2.PullObjectRequest(node=node, run_id=1, object_id=message_id),
    "push-object": message_pb2.PushObjectRequest(node=node, object_id=message_id),
    "confirm-message-received": message_pb2.ConfirmMessageReceivedRequest(
        node=node, message_object_id=message_id
    ),
}
for route, request in attempts.items():
    path = f"/v1/fleet/{route}"
    post(f"{route}: unsigned", path, request, {})
    post(f"{route}: own key", path, request, signed(own_pem))
    post(f"{route}: the site's key, own signature", path, request, signed(victim_pem))
    post(f"{route}: the site's key, no signature", path, request, signed(victim_pem, 0, b"x"))
for kind in ("start-run", "stop-run", "list-runs", "register-node"):
    request = PROTOBUF_REQUEST_TYPES[("POST", f"/v1/control/{kind}")]()
    post(f"control {kind}", f"/v1/control/{kind}", request, signed(own_pem))
post("stop a run", "/v1/control/stop-run", control_pb2.StopRunRequest(run_id=1), {})
post("take a task", "/v1/runtime/acquire-task", runtime_pb2.AcquireTaskRequest(), {})

for method, path in json.loads(Path(routes_file).read_text()):
    request_type = PROTOBUF_REQUEST_TYPES.get((method, path))
    body = request_type().SerializeToString() if request_type is not None else b"{}"
    answer = client.request(
        method,
        f"https://{address}{path.replace('{', '').replace('}', '')}",
        content=body,
        headers={"content-type": "application/protobuf", **version, **signed(own_pem)},
    )
    results[f"{method} {path}"] = answer.status_code

try:
    httpx.get(f"http://{address}/v1/fleet/pull-messages", timeout=HUNG)
    results["plaintext"] = "answered"
except httpx.HTTPError:
    results["plaintext"] = "no answer"
print(json.dumps(results))
