"""What wardround's installation takes on disk, and what each optional part adds.

    python bench/sizes.py

Bytes of the files of every package that pip would install for it, as they lie in this environment
(which has all of them); caches of byte code are not counted. `nvidia` says how much of it are the
libraries of NVIDIA's that the CUDA build of PyTorch brings, and `torch` that build itself.
"""

from __future__ import annotations

import sys

from support.environment import closure, extras, size
from support.figure import figure

GPU = ("nvidia-", "cuda-", "triton")


def megabytes(distributions: frozenset[str]) -> float:
    return sum(map(size, distributions)) / 1e6


def main() -> int:
    core, everything = closure(), closure(["all"])
    gpu = frozenset(name for name in core if name.startswith(GPU))
    held = figure(
        "installation without optional parts, of one with all",
        megabytes(core) / megabytes(everything),
        "ratio",
        1.0,
        megabytes=round(megabytes(core)),
        all=round(megabytes(everything)),
        torch=round(size("torch") / 1e6),
        nvidia=round(megabytes(gpu)),
        without_torch=round(megabytes(core - gpu) - size("torch") / 1e6),
        packages=len(core),
        parts=", ".join(
            f"{part} {megabytes(closure([part]) - core):.0f}" for part in extras() if part != "all"
        ),
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
