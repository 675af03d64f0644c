"""The encoding of a frame as a Flower message, on which both adapters must agree.

A Flower message is a tree of content-addressed objects, and stock Flower moves each object by an
HTTP call of its own. Here a message is sent *inline*, in the `content` field of Flower's protobuf
Message: one call down, one call up. Only a body above INLINE_LIMIT is sent as objects, Flower
ArrayChunks of WIRE_CHUNK bytes, whose ids the inline part lists in order. The tree and its objects
are those of a stock message

    RecordDict{"frame": ConfigRecord{"header", "body"}}                          small
    RecordDict{"frame": ConfigRecord{"header"}, "body": ArrayRecord{"words"}}    large

so that a stock Flower client or server can still read it.

What comes from the other side is read here only (`decoded`, `read_message`, `frame_of_objects`),
and whatever Flower's or Google's parsers make of it becomes a WardroundError(MESSAGE).
"""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

from protocol.errors import Code, WardroundError
from protocol.untrusted import parsing
from protocol.wire.flower_version import require_flower
from protocol.wire.messages import HEADER_LIMIT, Buffer, Frame

require_flower()

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_id,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

T = TypeVar("T")

MESSAGE_TYPE = "query.wardround"
INLINE_LIMIT = 256 * 1024
"""Bytes of body up to which a message needs no objects of its own."""
WIRE_CHUNK = 2 << 20
"""Bytes of body in one object: few calls, and several objects still fit into memory."""
OBJECT_LIMIT = 24 << 20
"""Bytes in one object; a stock Flower client cuts at 20 MiB."""
OBJECTS_LIMIT = 4096
"""Objects of one message: twice as many as the largest body has."""
_LONGEST = 30 * 24 * 3600.0
"""Seconds for which a message may be open; a stock server's are for half a day."""

# Header fields beside Flower's own; a stock peer neither sends nor reads them.
WAIT = "wardround-wait"
"""Request: seconds for which the server may hold the call. Reply: the server does hold calls."""
HAVE = "wardround-have"
"""pull-messages: ids of the last messages received; lost messages are sent again."""
STORED = "wardround-stored"
"""push-messages: 1 if the reply was accepted, 0 if its request is no longer open."""
PART = "wardround-part"
"""A part of an object instead of the whole. push-object: "offset/size" of the object, whose content
is here the part from there on; the reply says how many bytes of it are held. pull-object: "offset/
length" that is wanted; the reply says the object's size. A peer that does not know it takes and
gives whole objects."""
HELD = "wardround-held"
"""Reply to push-messages: parts are taken here. What is held of objects that are not yet whole, as
"id=bytes" separated by commas."""
REFUSED = "wardround-refused"
"""Why a call was refused: key, signature, clock, node, version, active, form or BUSY."""
ROSTER = "wardround-roster"
"""Request: how many changes of the coordinator's roster the site has. Reply: `RosterNews`."""
DECISIONS = "wardround-decisions"
"""Request: how many decisions about models the site has. Reply: `DecisionNews`."""
NOTICE = "wardround-notice"
"""Reply: what a site's operator should know of the coordinator; the only notice is DISK_FULL."""
DISK_FULL = "disk-full"
"""Studies are paused: the coordinator's disk does not take what they have to write."""
BUSY = "busy"
"""No slot for a large reply became free while the call was held: call again."""


@dataclass(frozen=True)
class WireChunk:
    """Part of a body as one Flower object, made of views of the caller's bytes."""

    views: tuple[memoryview, ...]

    @property
    def size(self) -> int:
        return sum(len(view) for view in self.views)

    @property
    def _parts(self) -> tuple[bytes | memoryview, ...]:
        """The head that Flower puts before the data, and the data, not copied."""
        head = HEAD_VALUE_DIVIDER.join((ArrayChunk.__qualname__, "", str(self.size)))
        return head.encode() + HEAD_BODY_DIVIDER, *self.views

    @cached_property
    def object_id(self) -> str:
        """Flower's id of the object: the SHA-256 of its content in hex."""
        digest = hashlib.sha256()
        for part in self._parts:
            digest.update(part)
        return digest.hexdigest()

    def content(self) -> bytes:
        """The object as Flower stores it: head and data (the only copy that is made)."""
        return b"".join(self._parts)


@dataclass(frozen=True)
class WireBody:
    """A body cut for the wire. `chunks` is empty when it is small enough to travel inline."""

    inline: bytes
    chunks: tuple[WireChunk, ...]

    @classmethod
    def cut(cls, body: Sequence[Buffer]) -> WireBody:
        views = [memoryview(chunk).cast("B") for chunk in body]
        if sum(len(view) for view in views) <= INLINE_LIMIT:
            return cls(b"".join(views), ())
        return cls(b"", tuple(WireChunk(group) for group in _grouped(views)))


@dataclass(frozen=True)
class PackedMessage:
    """A Flower message ready to be sent: `message` inline, and its tree of objects.

    `objects` holds the small objects by id (Message, RecordDict, ...), `chunks` the large ones.
    """

    message: Message
    tree: ObjectTree
    objects: Mapping[str, bytes]
    chunks: Mapping[str, WireChunk]


def pack(metadata: Metadata, header: bytes, body: WireBody) -> PackedMessage:
    """Header, body and routing -> Flower message. Sets the message id in `metadata`."""
    if body.chunks:
        ids = [chunk.object_id for chunk in body.chunks]
        frame = ConfigRecord({"header": header, "chunks": ids})
        words = ArrayRecord()
        words["words"] = _array(body)
        content = RecordDict({"frame": ConfigRecord({"header": header}), "body": words})
        inline = RecordDict({"frame": frame})
    else:
        frame = ConfigRecord({"header": header, "body": body.inline})
        content = inline = RecordDict({"frame": frame})
    chunks = {chunk.object_id: chunk for chunk in body.chunks}
    message = make_message(metadata, content)
    with no_object_id_recompute():
        objects = dict(_small_objects(message))
        tree = get_object_tree(message)
    metadata.__dict__["_message_id"] = tree.object_id
    return PackedMessage(make_message(metadata, inline), tree, objects, chunks)


@dataclass(frozen=True)
class InlineContent:
    """The inline part of a message: header, and the body or the ids of its chunks in order."""

    header: bytes
    body: bytes
    chunk_ids: tuple[str, ...]


def read_inline_content(content: RecordDict) -> InlineContent | None:
    """Reads a message's inline content; None where there is none (a stock peer sent it).

    Raises WardroundError(MESSAGE) for content that is not a frame.
    """
    if len(content) == 0:
        return None
    record = content.get("frame")
    if not isinstance(record, ConfigRecord):
        raise _malformed()
    header, body, ids = record.get("header"), record.get("body", b""), record.get("chunks", [])
    if not (isinstance(header, bytes) and isinstance(body, bytes) and isinstance(ids, list)):
        raise _malformed()
    if len(header) > HEADER_LIMIT or len(ids) > OBJECTS_LIMIT:
        raise _malformed()
    if not all(isinstance(item, str) for item in ids):
        raise _malformed()
    return InlineContent(header, body, tuple(cast("list[str]", ids)))


def chunk_data(content: bytes | bytearray) -> memoryview:
    """The data of a stored chunk, not copied. Raises WardroundError(MESSAGE)."""
    end = content.find(HEAD_BODY_DIVIDER)
    kind = content[:end].split(HEAD_VALUE_DIVIDER.encode())[0]
    if end < 0 or kind != ArrayChunk.__qualname__.encode():
        raise _malformed()
    return memoryview(content)[end + len(HEAD_BODY_DIVIDER) :]


def frame_of_objects(root_id: str, contents: dict[str, bytes]) -> Frame:
    """All objects of a message that a stock peer sent -> frame. Raises WardroundError(MESSAGE)."""
    with parsing("A Flower message is malformed."):
        message = inflate_object_from_contents(root_id, contents)
        if not isinstance(message, Message) or not message.has_content():
            raise _malformed()
        inline = read_inline_content(message.content)
        if inline is None or inline.chunk_ids:
            raise _malformed()
        if "body" not in message.content:
            return Frame(inline.header, (inline.body,) if inline.body else ())
        words = cast("ArrayRecord", message.content["body"])["words"]
        return Frame(inline.header, (memoryview(words.data),))


def decoded(kind: type[T], data: bytes) -> T:
    """Bytes -> Protocol Buffers message of this kind. Raises WardroundError(MESSAGE)."""
    message: Any = kind()
    with parsing("A Flower message is malformed."):
        message.ParseFromString(data)
    return cast("T", message)


def read_message(proto: Any) -> Message:
    """Flower's message out of its Protocol Buffers form. Raises WardroundError(MESSAGE), also
    for one that would be open for ever."""
    with parsing("A Flower message is malformed."):
        message = message_from_proto(proto)
        if not 0 < message.metadata.ttl <= _LONGEST:
            raise _malformed()
        return message


def tree_ids(tree: ObjectTree) -> list[str]:
    """Every object id in a tree, children first. Raises WardroundError(MESSAGE) above
    OBJECTS_LIMIT of them."""
    ids: list[str] = []
    _add_ids(tree, ids)
    return ids


def _add_ids(tree: ObjectTree, ids: list[str]) -> None:
    for child in tree.children:
        _add_ids(child, ids)
    ids.append(tree.object_id)
    if len(ids) > OBJECTS_LIMIT:
        raise _malformed()


def _malformed() -> WardroundError:
    return WardroundError(Code.MESSAGE, "A Flower message that is not one of wardround's.")


def _grouped(views: Sequence[memoryview]) -> Iterator[tuple[memoryview, ...]]:
    group: list[memoryview] = []
    room = WIRE_CHUNK
    for whole in views:
        view = whole
        while len(view):
            part, view = view[:room], view[room:]
            group.append(part)
            room -= len(part)
            if room == 0:
                yield tuple(group)
                group, room = [], WIRE_CHUNK
    if group:
        yield tuple(group)


class _ChunkReference(ArrayChunk):
    """A chunk that has only its id, so that Flower's tree code never copies the data."""

    @property
    def object_id(self) -> str:
        return cast("str", self.__dict__["_object_id"])


def _array(body: WireBody) -> Array:
    size = sum(chunk.size for chunk in body.chunks)
    array = Array(dtype="uint8", shape=(size,), stype="bytes", data=b"")
    references = []
    for chunk in body.chunks:
        reference = _ChunkReference(memoryview(b""))
        reference.__dict__["_object_id"] = chunk.object_id
        references.append((chunk.object_id, reference))
    array.__dict__["_chunks"] = references
    return array


def _small_objects(root: InflatableObject) -> Iterator[tuple[str, bytes]]:
    if isinstance(root, ArrayChunk):
        return
    for child in (getattr(root, "children", None) or {}).values():
        yield from _small_objects(child)
    content = root.deflate()
    yield get_object_id(content), content
