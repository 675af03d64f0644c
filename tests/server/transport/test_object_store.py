"""Messages that share a body are registered whole, whoever deletes others meanwhile."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest
from flwr.proto.message_pb2 import ObjectTree

from server.transport.object_store import ObjectStore

RUN = 1


def named(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass
class Node:
    """An ObjectTree that tells when somebody looks at its children."""

    name: str
    parts: tuple[Node, ...] = ()
    looked_at: Callable[[], None] = lambda: None

    @property
    def object_id(self) -> str:
        return named(self.name)

    @property
    def children(self) -> tuple[Node, ...]:
        self.looked_at()
        return self.parts


def registered(store: ObjectStore, message: Node) -> None:
    store.preregister(RUN, cast(ObjectTree, message))


def test_a_body_stays_for_the_message_that_is_being_registered() -> None:
    """The first message's site has it just when the second one, with the same body, is registered:
    with Flower's own store that was a KeyError (flwrlabs/flower 7365 is the same in its SQL)."""
    store = ObjectStore()
    deleting = threading.Thread(target=lambda: store.delete(named("first")))

    def first_is_confirmed() -> None:
        if deleting.ident is None:
            deleting.start()
            deleting.join(timeout=0.3)

    def body(looked_at: Callable[[], None] = lambda: None) -> Node:
        return Node("body", (Node("chunk 1"), Node("chunk 2", looked_at=looked_at)))

    registered(store, Node("first", (body(),)))
    try:
        registered(store, Node("second", (body(first_is_confirmed),)))
    except KeyError:
        pytest.fail("A part that was there when it was looked for was deleted under the message.")
    deleting.join()
    assert named("first") not in store
    (kept,) = store.get_object_tree(named("second")).children
    assert [chunk.object_id for chunk in kept.children] == [named("chunk 1"), named("chunk 2")]
    store.delete(named("second"))
    assert len(store) == 0


def test_content_is_not_hashed_again() -> None:
    store = ObjectStore()
    registered(store, Node("message"))
    store.put(named("message"), b"what its sender hashed")
    assert store.get(named("message")) == b"what its sender hashed"
