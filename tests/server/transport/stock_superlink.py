"""Flower's own SuperLink, unchanged, with one registered node and one question for it.

Usage: stock_superlink.py PKI_FOLDER PUBLIC_KEY_FILE; reads one line, prints its port, then the
answer. What a ServerApp would do is done on its LinkState.
"""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)

import asyncio
import json
import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn

from protocol.wire.flower_version import require_flower

require_flower()

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.main import create_app

from protocol.wire.flower_encoding import tree_ids

sys.stdin.readline()
folder, public_key = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
app = create_app()
app.state.enable_supernode_auth = True
state = app.state.linkstate_factory.state()
node_id = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key, 0)
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
server = uvicorn.Server(
    uvicorn.Config(app, ssl_certfile=folder / "server.crt", ssl_keyfile=folder / "server.key",
                   log_config=None)
)  # fmt: skip
threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True).start()
print(listening.getsockname()[1], flush=True)

while not state.get_node_info(node_ids=[node_id], statuses=["online"]):
    time.sleep(0.02)
run_id = state.create_run(
    "a/b", "1", None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
)
task_id = state.get_run_info(run_ids=[run_id])[0].primary_task_id
state.claim_task(task_id)
state.activate_task(task_id)
words = ArrayRecord({"words": Array("uint8", (3 << 20,), "bytes", b"\x07" * (3 << 20))})
content = RecordDict({"frame": ConfigRecord({"header": b'{"from": "stock"}'}), "body": words})
metadata = Metadata(
    run_id, "", SUPERLINK_NODE_ID, node_id, "", "", time.time(), 1e6, "query"
)  # fmt: skip
message = make_message(metadata, content)
metadata.__dict__["_message_id"] = message.object_id
session = state.start_session(run_id)
_, missing = state.store_message_and_object_tree(
    remove_content_from_message(message), get_object_tree(message), session
)
# As over the network, the message is visible before its objects are there.
while not state.message_ins_store[metadata.message_id].metadata.delivered_at:
    time.sleep(0.02)
objects = get_all_nested_objects(message)
for object_id in missing:
    state.store_object(run_id, session, object_id, objects[object_id].deflate())

while not (replies := state.get_message_res({metadata.message_id}, run_id)):
    time.sleep(0.02)
tree = state.object_store.get_object_tree(replies[0].metadata.message_id)
ids = list(tree_ids(tree))
while not all(state.get_object(run_id, object_id) for object_id in ids):
    time.sleep(0.02)
answer = inflate_object_from_contents(
    tree.object_id, {object_id: state.get_object(run_id, object_id) for object_id in ids}
)
assert isinstance(answer, Message)
body = answer.content.array_records["body"]["words"].data
header = answer.content.config_records["frame"]["header"]
assert isinstance(header, bytes)
print(json.dumps({"header": header.decode(), "size": len(body), "first": body[0]}), flush=True)
sys.stdin.read()
