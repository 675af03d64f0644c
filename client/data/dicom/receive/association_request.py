"""An A-ASSOCIATE-RQ as it comes -> as pynetdicom reads it (PS3.8, section 9.3.2).

pynetdicom aborts where the standard tells a receiver to pass over what it does not know (items of
other kinds, bits of later protocol versions: sections 9.3.1 and 9.3.2), and at what senders are
seen to write: titles padded with NUL, version names that are too long.
"""

from __future__ import annotations

from collections.abc import Iterator

_REQUEST, _USER, _VERSION_NAME = 0x01, 0x50, 0x55
_KINDS = frozenset({0x10, 0x20, _USER})
"""Application context, presentation context, user information."""
_USER_KINDS = frozenset(range(0x51, 0x59))
"""Sub-items of the user information (PS3.7, annex D.3.3)."""
_FIXED, _NAME_LENGTH = 74, 16
"""Bytes before the first item; most of an implementation's version name."""


def as_understood(pdu: bytes) -> bytes:
    """A PDU of any kind; others than requests stay as they are. Raises ValueError where an item is
    cut short."""
    if pdu[:1] != bytes([_REQUEST]) or len(pdu) < _FIXED:
        return pdu
    version = b"\0\1" if pdu[7] & 1 else pdu[6:8]
    titles = pdu[10:42].replace(b"\0", b" ")
    items = b"".join(
        _item(kind, _user_information(content) if kind == _USER else content)
        for kind, content in _items(pdu[_FIXED:])
        if kind in _KINDS
    )
    body = version + pdu[8:10] + titles + pdu[42:_FIXED] + items
    return pdu[:2] + len(body).to_bytes(4, "big") + body


def _user_information(content: bytes) -> bytes:
    return b"".join(
        _item(kind, value[:_NAME_LENGTH] if kind == _VERSION_NAME else value)
        for kind, value in _items(content)
        if kind in _USER_KINDS
    )


def _item(kind: int, content: bytes) -> bytes:
    return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(content):
        start = place + 4
        end = start + int.from_bytes(content[place + 2 : start], "big")
        if end > len(content) or start > len(content):
            raise ValueError("an item is cut short")
        yield content[place], content[start:end]
        place = end
