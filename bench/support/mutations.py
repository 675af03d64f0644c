"""Files as no device writes them: bytes flipped, cut out, repeated, lengths made absurd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

_HEAD = 4096
"""Most mutations fall into the first bytes, where the structure is."""
_LENGTHS = (0, 1, 2, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight mutations of a file's bytes."""
    kinds: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
        _flip, _flip, _length, _length, _cut, _repeat, _insert, _swap, _end,
    )  # fmt: skip
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        kinds[rng.integers(len(kinds))](changed, rng)
        if not changed:
            break
    return bytes(changed)


def mutations(seeds: list[Path], folder: Path, count: int, seed: int = 0) -> list[Path]:
    """`count` mutated files in a folder, from each of the seeds in turn."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    paths = []
    for number in range(count):
        path = folder / f"{number:05}.dcm"
        path.write_bytes(mutated(seeds[number % len(seeds)].read_bytes(), rng))
        paths.append(path)
    return paths


def _place(data: bytearray, rng: np.random.Generator) -> int:
    reach = len(data) if rng.random() < 0.3 else min(len(data), _HEAD)
    return int(rng.integers(reach)) if reach else 0


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 12)):
        if data:
            data[_place(data, rng)] = int(rng.integers(256))


def _length(data: bytearray, rng: np.random.Generator) -> None:
    size = 2 if rng.random() < 0.5 else 4
    value = _LENGTHS[rng.integers(len(_LENGTHS))] & (2 ** (8 * size) - 1)
    at = _place(data, rng) & ~1
    data[at : at + size] = value.to_bytes(size, "little")


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    at = _place(data, rng)
    del data[at : at + int(rng.integers(1, 64))]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + int(rng.integers(1, 200))] * int(rng.integers(1, 20))


def _insert(data: bytearray, rng: np.random.Generator) -> None:
    at = _place(data, rng)
    data[at:at] = rng.bytes(int(rng.integers(1, 64)))


def _swap(data: bytearray, rng: np.random.Generator) -> None:
    a, b, size = _place(data, rng), _place(data, rng), int(rng.integers(1, 32))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _end(data: bytearray, rng: np.random.Generator) -> None:
    del data[_place(data, rng) :]
