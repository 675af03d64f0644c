"""A model's parameters as one flat float32 vector, and the layout that describes it.

Buffers do not travel: a model may have none that absorb data (`tasks.flat_model` refuses them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.document import canonical, digest
from protocol.errors import Code, WardroundError

Vector = npt.NDArray[np.float32]

LARGEST_WEIGHT = 1024.0
"""The public range of what a coordinator sends, weights and control variates alike, in every study.
Trained models are far inside; the last bits of larger numbers are for whoever looks for errors."""


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors, in the order in which they are laid end to end."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """Number of float32 values P in the flat vector."""
        return sum(math.prod(shape) for _, shape in self.entries)

    @property
    def digest(self) -> str:
        return digest(canonical([[name, list(shape)] for name, shape in self.entries]))


EMPTY = Layout(())
"""The layout of a study without a model."""


def in_range(weights: Vector) -> bool:
    """Whether all of them, (n,) float32, are numbers between -LARGEST_WEIGHT and LARGEST_WEIGHT."""
    lowest, highest = weights.min(initial=0.0), weights.max(initial=0.0)  # NaN where one is NaN
    return bool(lowest >= -LARGEST_WEIGHT and highest <= LARGEST_WEIGHT)


def pack(tensors: Mapping[str, npt.NDArray[np.float32]], layout: Layout) -> Vector:
    """Tensors -> (P,) float32, in the layout's order.

    Raises WardroundError(MESSAGE) where names, shapes or types differ from the layout.
    """
    if set(tensors) != {name for name, _ in layout.entries}:
        raise WardroundError(Code.MESSAGE, "The tensors' names differ from the layout's.")
    for name, shape in layout.entries:
        if tuple(tensors[name].shape) != shape or tensors[name].dtype != np.float32:
            raise WardroundError(Code.MESSAGE, f"Tensor {name} is not float32 of shape {shape}.")
    parts = [tensors[name].reshape(-1) for name, _ in layout.entries]
    return np.concatenate([np.empty(0, dtype=np.float32), *parts])


def unpack(flat: Vector, layout: Layout) -> dict[str, npt.NDArray[np.float32]]:
    """(P,) float32 -> tensors that are views of `flat`.

    Raises WardroundError(MESSAGE) where length or type differ from the layout's.
    """
    if flat.shape != (layout.size,) or flat.dtype != np.float32:
        raise WardroundError(
            Code.MESSAGE, f"Expected ({layout.size},) float32, got {flat.shape} {flat.dtype}."
        )
    ends = np.cumsum([math.prod(shape) for _, shape in layout.entries], dtype=np.int64)
    parts = zip(layout.entries, np.split(flat, ends)[:-1], strict=True)
    return {name: part.reshape(shape) for (name, shape), part in parts}


def weights_digest(weights: Vector) -> str:
    """SHA-256 of (P,) float32, little-endian: of what `weights.f32` holds at the coordinator."""
    return digest(np.ascontiguousarray(weights, dtype="<f4").tobytes())


def digest_of_tensors(tensors: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """SHA-256 of names, shapes and values, in whatever order they come; "" where there are none."""
    parts = [
        [name, list(values.shape), weights_digest(values)]
        for name, values in sorted(tensors.items())
    ]
    return digest(canonical(parts)) if parts else ""
