"""What was composed once is kept, under the digest of what it was composed of.

Composing a thousand different studies takes a minute, and each new study would take it again. So
events are composed in a tree whose shape depends on the events alone (`halves`): one more event, or
another count of one, changes the nodes above it, about log2 of their number. A key covers all that
a value depends on but the code (`code_digest`): an entry can be missing, never out of date.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from protocol.privacy.events import Event

TOGETHER = 16
"""Events that are composed one after the other, in one block; more are halved."""
_RECENT_BYTES = 32 * 2**20


class Kept(Protocol):
    """Values by key. A value may be forgotten at any time: it is computed again."""

    def get(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes) -> None: ...


class RecentlyUsed:
    """In this process's memory, up to 32 MiB; those used longest ago are forgotten."""

    def __init__(self) -> None:
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: bytes, value: bytes) -> None:
        with self._lock:
            self._bytes += len(value) - len(self._values.pop(key, b""))
            self._values[key] = value
            while self._bytes > _RECENT_BYTES:
                self._bytes -= len(self._values.popitem(last=False)[1])


def key_of(what: str, events: Iterable[Event], delta: float = 0.0) -> bytes:
    """(32 bytes) of a value computed of these events, in whatever order, at `delta`."""
    parts = sorted(_digest(event) for event in events)
    return hashlib.sha256(b"".join([f"{what} {delta!r} ".encode(), *parts])).digest()


def halves(events: tuple[Event, ...]) -> tuple[tuple[Event, ...], tuple[Event, ...]]:
    """Two or more different kinds of events, in two parts by the first bit in which the digests of
    their kinds differ: what is added elsewhere, or a count, moves no event to the other half."""
    kinds = [_digest(_kind(event)) for event in events]
    lowest, highest = min(kinds), max(kinds)
    first = lowest[: _common_bytes(lowest, highest) + 1]
    differing = first[-1] ^ highest[len(first) - 1]
    bit = 1 << (differing.bit_length() - 1)
    upper = [bool(kind[len(first) - 1] & bit) for kind in kinds]
    return (
        tuple(event for event, high in zip(events, upper, strict=True) if not high),
        tuple(event for event, high in zip(events, upper, strict=True) if high),
    )


def blocks(events: tuple[Event, ...]) -> Iterator[tuple[Event, ...]]:
    """Every node of the tree: all events, and those of each block below."""
    yield events
    if len(events) > TOGETHER:
        for half in halves(events):
            yield from blocks(half)


@cache
def code_digest() -> bytes:
    """(32 bytes) of the code that composes: these modules and the libraries' versions."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    sources.append(Path(__file__).parent.parent / "secagg" / "fixed_point.py")
    digest = hashlib.sha256()
    for source in sources:
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    for library in ("dp-accounting", "numpy", "scipy"):
        digest.update(f"{library} {version(library)};".encode())
    return digest.digest()


def _common_bytes(one: bytes, other: bytes) -> int:
    return next(place for place in range(len(one)) if one[place] != other[place])


@lru_cache(maxsize=16384)
def _digest(event: Event) -> bytes:
    return hashlib.sha256(repr(event).encode()).digest()


@lru_cache(maxsize=16384)
def _kind(event: Event) -> Event:
    return replace(event, count=1)
