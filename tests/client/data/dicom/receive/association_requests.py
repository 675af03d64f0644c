"""A-ASSOCIATE-RQ as bytes (PS3.8, section 9.3.2), also as no library of ours would send it."""

from __future__ import annotations

import socket

from tests.waiting import HUNG

VERIFICATION, IMPLICIT = b"1.2.840.10008.1.1", b"1.2.840.10008.1.2"
APPLICATION = b"1.2.840.10008.3.1.1.1"


def item(kind: int, content: bytes) -> bytes:
    return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content


def context(number: int, abstract: bytes = VERIFICATION, *transfer: bytes) -> bytes:
    syntaxes = b"".join(item(0x40, uid) for uid in transfer or (IMPLICIT,))
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract) + syntaxes)


def request(
    *contexts: bytes,
    calling: bytes = b"A".ljust(16),
    called: bytes = b"WARDROUND".ljust(16),
    application: bytes = APPLICATION,
    user: bytes = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3"),
    version: int = 1,
) -> bytes:
    """By title A for verification, unless something else is said."""
    body = version.to_bytes(2, "big") + b"\0\0" + called + calling + bytes(32)
    body += item(0x10, application) + b"".join(contexts or (context(1),)) + item(0x50, user)
    return b"\1\0" + len(body).to_bytes(4, "big") + body


def answered(port: int, asked: bytes) -> tuple[int, ...] | dict[int, int]:
    """Context -> result (PS3.8, section 9.3.3.2) where it is accepted; where it is rejected
    (result, source, reason) (section 9.3.4); () where it is aborted or closed."""
    with socket.create_connection(("127.0.0.1", port), HUNG) as line:
        line.sendall(asked)
        with line.makefile("rb") as file:
            head = file.read(6)
            body = file.read(int.from_bytes(head[2:], "big")) if len(head) == 6 else b""
    match head[:1]:
        case b"\3":
            return tuple(body[1:])
        case b"\2":
            found, place = {}, 68
            while place < len(body):
                size = int.from_bytes(body[place + 2 : place + 4], "big")
                if body[place] == 0x21:
                    found[body[place + 4]] = body[place + 6]
                place += 4 + size
            return found
        case _:
            return ()
