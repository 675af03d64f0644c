"""Flower's store of messages' objects in memory, for several threads.

Messages that go to several sites share their body. Flower registers a message object by object, and
deletes it, from another thread, once its site has it: a shared object that was found there could be
gone before the message that needs it was registered (KeyError, out of the study's own thread).
"""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

from protocol.wire.flower_version import require_flower

require_flower()

from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore


class ObjectStore(InMemoryObjectStore):
    """Registers and deletes whole messages, one at a time. Contents are not hashed here."""

    def __init__(self) -> None:
        super().__init__(verify=False)

    def preregister(self, run_id: int, object_tree: ObjectTree) -> list[str]:
        """The ids of the tree's objects whose content is not there yet."""
        with self.lock_store:
            return super().preregister(run_id, object_tree)
