"""Finding what must not be there: runs of a hospital's numbers, in any memory or file."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

RUN = 4
"""Words of a run: shorter ones occur by chance."""
_BITS = 20
_START = 12
_BITS_TOLD, _LONGEST = 44.0, 40
_BLOCK = 1 << 24


class Needles:
    """Byte strings, each with a name; found at any offset.

    Candidates are picked by the low bits of their first three words, then compared in full. What is
    shorter is looked for by itself.
    """

    def __init__(self) -> None:
        self._by_start: dict[bytes, dict[bytes, str]] = defaultdict(dict)
        self._short: dict[bytes, str] = {}
        self._words = [np.zeros(1 << _BITS, dtype=bool) for _ in range(_START // 4)]
        self._starts: set[int] = set()
        """First and third word, to sift candidates before each is compared by itself."""
        self._longest = _START

    def add(self, name: str, needle: bytes) -> None:
        if len(needle) < _START:
            self._short[needle] = name
            return
        self._by_start[needle[:_START]][needle] = name
        start = np.frombuffer(needle[:_START], "<u4") & ((1 << _BITS) - 1)
        for table, word in zip(self._words, start, strict=True):
            table[word] = True
        self._starts.add(int.from_bytes(needle[:4] + needle[8:12], "little"))
        self._longest = max(self._longest, len(needle))

    def add_numbers(
        self, name: str, numbers: npt.NDArray[np.int64], but: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Every telling run, in every encoding that a program may have put it in. but: the sum,
        which shows a hospital's numbers by itself where the others have none."""
        for run in _runs(numbers, but):
            self.add(f"{name} as words", run.astype(np.uint32).tobytes())
            self.add(f"{name} as int64", run.astype(np.int64).tobytes())
            self.add(f"{name} as float32", run.astype(np.float32).tobytes())
            # From its fifth byte: the first four are often zero, as most memory is.
            self.add(f"{name} as float64", run.astype(np.float64).tobytes()[4:])
            for between in (",", ", "):
                self.add(f"{name} as text", between.join(map(str, run)).encode())

    def __len__(self) -> int:
        return sum(map(len, self._by_start.values())) + len(self._short)

    def within(self, data: bytes | memoryview) -> set[str]:
        """Names of the needles that occur."""
        found: set[str] = set()
        starts = np.array(sorted(self._starts), dtype=np.uint64)
        mask = np.uint32((1 << _BITS) - 1)
        for block in range(0, len(data), _BLOCK):
            part = bytes(data[block : block + _BLOCK + self._longest])
            found |= {name for needle, name in self._short.items() if needle in part}
            for shift in range(4):
                count = (len(part) - shift) // 4
                if count < _START // 4:
                    continue
                words = np.frombuffer(part, "<u4", count, shift) & mask
                at = np.flatnonzero(self._words[0][words[: -(len(self._words) - 1)]])
                for offset, table in enumerate(self._words[1:], start=1):
                    at = at[table[words[at + offset]]]
                numbers = np.frombuffer(part, "<u4", count, shift)
                heads = numbers[at].astype(np.uint64) | numbers[at + 2].astype(np.uint64) << 32
                near = np.minimum(np.searchsorted(starts, heads), len(starts) - 1)
                at = at[starts[near] == heads]
                for start in (at * 4 + shift).tolist():
                    candidates = self._by_start.get(part[start : start + _START], {})
                    for needle, name in candidates.items():
                        if part.startswith(needle, start):
                            found.add(name)
        return found

    def within_file(self, path: Path) -> set[str]:
        if path.stat().st_size == 0:
            return set()
        return self.within(np.memmap(path, np.uint8, "r").data)


def _runs(
    numbers: npt.NDArray[np.int64], but: npt.NDArray[np.int64] | None
) -> Iterator[npt.NDArray[np.int64]]:
    """Windows of four and more, as long as it takes to tell _BITS_TOLD bits of a hospital."""
    for start in np.flatnonzero(numbers).tolist():
        for end in range(start + RUN, min(start + _LONGEST, len(numbers)) + 1):
            run = numbers[start:end]
            if np.log2(1 + np.abs(run) / math.gcd(*run.tolist())).sum() >= _BITS_TOLD:
                if but is None or (run != but[start:end]).any():
                    yield run
                break


def files(*folders: Path) -> Iterable[Path]:
    """Every plain file below these folders."""
    return (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
