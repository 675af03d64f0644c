"""Looking for a secret in whatever a process left behind: files, archives, databases, logs.

A secret is a text, a number, some bytes, or a vector. A vector is found where any `WINDOW`
neighbours of it stand: as integers or floats of 4 or 8 bytes, little-endian, or as numbers in a
text, whatever stands between them. Files are read as they are, with archives unpacked, databases
dumped, and hexadecimal and base64 decoded.
"""

from __future__ import annotations

import base64
import gzip
import io
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WINDOW = 4
_HEX = re.compile(rb"[0-9a-fA-F]{16,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_DIGITS = 6
"""Significant digits by which numbers in a text are compared."""


@dataclass(frozen=True)
class Secret:
    """`name` says what was found; exactly one of the others is what is looked for."""

    name: str
    text: str = ""
    bytes: bytes = b""
    number: float | None = None
    vector: npt.NDArray[Any] | None = None


def contents(roots: Iterable[Path]) -> dict[str, bytes]:
    """Where -> bytes, for every file below (or at) `roots`, whole and taken apart."""
    found: dict[str, bytes] = {}
    for root in roots:
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        for path in files:
            for where, content in _apart(str(path), path.read_bytes()):
                found[where] = content
            if path.read_bytes()[:15] == b"SQLite format 3":
                found[f"{path} (dumped)"] = _dump(path)
    return found


def search(secrets: Sequence[Secret], within: Mapping[str, bytes]) -> dict[str, str]:
    """Name of each secret found -> where it was found first."""
    exact = {form: s.name for s in secrets for form in _forms(s)}
    windows, spelled = _windows(secrets)
    binary = _Binary.of(windows)
    found: dict[str, str] = {}
    for where, content in within.items():
        for form, name in exact.items():
            if form in content:
                found.setdefault(name, where)
        for name in (*binary.within(content), *_in_text(content, spelled)):
            found.setdefault(name, where)
    return found


def _apart(where: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield where, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from _apart(f"{where}/{name}", archive.read(name))
    if content[:2] == b"\x1f\x8b":
        yield from _apart(f"{where} (unzipped)", gzip.decompress(content))
    for name, pattern in (("hexadecimal", _HEX), ("base64", _BASE64)):
        decoded = b"\n".join(_decoded(name, pattern.findall(content)))
        if decoded:
            yield f"{where} ({name})", decoded


def _decoded(name: str, runs: Iterable[bytes]) -> Iterator[bytes]:
    for run in runs:
        if name == "hexadecimal":
            for start in (0, 1):
                whole = (len(run) - start) // 2 * 2
                yield bytes.fromhex(run[start : start + whole].decode())
            continue
        for start in range(4):
            part = run[start:].translate(_URL_SAFE)
            with suppress(ValueError):
                decoded = base64.b64decode(part + b"=" * (-len(part) % 4))
                yield decoded
                with suppress(zlib.error):
                    yield zlib.decompress(decoded)


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def _dump(path: Path) -> bytes:
    """Every value of every table, as text or as it is."""
    parts: list[bytes] = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in db.execute(f'SELECT * FROM "{table}"'):
                parts += [v if isinstance(v, bytes) else str(v).encode() for v in row]
    return b"\n".join(parts)


def _forms(secret: Secret) -> Iterator[bytes]:
    """Bytes that give a text or a number away."""
    if secret.bytes:
        yield secret.bytes
    if secret.text:
        yield secret.text.encode()
        yield secret.text.encode("utf-16-le")
    if secret.number is not None:
        yield f"{secret.number:.9f}"[:10].encode()
        yield np.array(secret.number, "<f8").tobytes()
        yield np.array(secret.number, ">f8").tobytes()


def _windows(
    secrets: Iterable[Secret],
) -> tuple[dict[bytes, str], dict[tuple[float, ...], str]]:
    """Windows of every vector, as bytes and as numbers, each with its secret's name. One that is
    not telling (small whole numbers, which stand anywhere) is left out."""
    binary: dict[bytes, str] = {}
    spelled: dict[tuple[float, ...], str] = {}
    for secret in secrets:
        if secret.vector is None:
            continue
        vector = np.asarray(secret.vector).reshape(-1)
        for start in range(len(vector) - WINDOW + 1):
            window = vector[start : start + WINDOW]
            if not _telling(window):
                continue
            spelled[tuple(_rounded(float(v)) for v in window)] = secret.name
            for form in _bytes_of(window):
                binary[form] = secret.name
    return binary, spelled


def _telling(window: npt.NDArray[Any]) -> bool:
    if not np.isfinite(window.astype(np.float64)).all():
        return False
    whole = bool((window == np.rint(window)).all())
    numbers = {float(v) for v in window if not whole or abs(float(v)) > 99}
    return len(numbers - {0.0, 1.0, -1.0, 0.5}) >= 3


def _bytes_of(window: npt.NDArray[Any]) -> Iterator[bytes]:
    if np.issubdtype(window.dtype, np.integer):
        yield window.astype(np.int64).astype("<u4").tobytes()
        yield window.astype(np.int64).astype("<i8").tobytes()
    yield window.astype("<f4").tobytes()
    yield window.astype("<f8").tobytes()


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


@dataclass(frozen=True)
class _Binary:
    """Windows as bytes; `starts` are their first four, sorted: only there is looked closer."""

    names: Mapping[bytes, str]
    lengths: frozenset[int]
    starts: npt.NDArray[np.uint32]

    @staticmethod
    def of(names: Mapping[bytes, str]) -> _Binary:
        starts = np.unique(np.frombuffer(b"".join(window[:4] for window in names), "<u4"))
        return _Binary(names, frozenset(map(len, names)), starts)

    def within(self, content: bytes) -> Iterator[str]:
        if len(content) < min(self.lengths, default=len(content) + 1):
            return
        octets = np.frombuffer(content, np.uint8).astype(np.uint32)
        here = octets[:-3] | octets[1:-2] << 8 | octets[2:-1] << 16 | octets[3:] << 24
        nearest = np.searchsorted(self.starts, here).clip(max=len(self.starts) - 1)
        for at in np.flatnonzero(self.starts[nearest] == here):
            for length in self.lengths:
                name = self.names.get(content[at : at + length])
                if name is not None:
                    yield name


def _in_text(content: bytes, windows: Mapping[tuple[float, ...], str]) -> Iterator[str]:
    numbers = [_rounded(float(token[:40])) for token in _NUMBER.findall(content)]
    for start in range(len(numbers) - WINDOW + 1):
        name = windows.get(tuple(numbers[start : start + WINDOW]))
        if name is not None:
            yield name
