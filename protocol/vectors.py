"""One flat float32 vector per message: a model's parameters laid end to end.

`Layout` is the public description (names, shapes, order); `pack` and `unpack` are inverse.
Buffers other than parameters do not travel: a model for a private study may have none that
absorb data (BatchNorm's running statistics are refused where models are checked).
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


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors, in the order in which they are laid end to end."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @staticmethod
    def of(tensors: Mapping[str, npt.NDArray[np.float32]]) -> Layout:
        return Layout(tuple((name, tuple(array.shape)) for name, array in tensors.items()))

    @property
    def size(self) -> int:
        """Number of float32 values P in the flat vector."""
        return sum(math.prod(shape) for _, shape in self.entries)

    @property
    def digest(self) -> str:
        return digest(canonical([[name, list(shape)] for name, shape in self.entries]))


EMPTY = Layout(())
"""Of a study that has no model."""


def pack(tensors: Mapping[str, npt.NDArray[np.float32]], layout: Layout) -> Vector:
    """Tensors -> (P,) float32, in the layout's order.

    Raises WardroundError(MESSAGE) where names, shapes or types differ from the layout.
    """
    if set(tensors) != {name for name, _ in layout.entries}:
        raise WardroundError(Code.MESSAGE, "The tensors' names differ from the layout's.")
    flat = np.empty(layout.size, dtype=np.float32)
    start = 0
    for name, shape in layout.entries:
        array = tensors[name]
        if tuple(array.shape) != shape or array.dtype != np.float32:
            raise WardroundError(Code.MESSAGE, f"Tensor {name} is not float32 of shape {shape}.")
        stop = start + array.size
        flat[start:stop] = array.reshape(-1)
        start = stop
    return flat


def unpack(flat: Vector, layout: Layout) -> dict[str, npt.NDArray[np.float32]]:
    """(P,) float32 -> tensors that are views of `flat`.

    Raises WardroundError(MESSAGE) where length or type differ from the layout's.
    """
    if flat.shape != (layout.size,) or flat.dtype != np.float32:
        raise WardroundError(
            Code.MESSAGE, f"Expected ({layout.size},) float32, got {flat.shape} {flat.dtype}."
        )
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    start = 0
    for name, shape in layout.entries:
        stop = start + math.prod(shape)
        tensors[name] = flat[start:stop].reshape(shape)
        start = stop
    return tensors
