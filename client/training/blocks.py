"""Patients in blocks of fixed shapes, so that what is computed for one depends on no other.

Floating-point kernels choose the order in which they add by the shape of their operands, and finish
the last rows of a batch, for which a vector register is too wide, in another way. In a batch as
large as its sample the last bit of a patient's gradient therefore depends on how many others there
are and where it stands among them; weights that cancel make that bit decide the whole gradient, and
one patient more moves every term of the sum (8 of them by 4 C, where C is claimed).

A block has `multiple` patients, or several times as many up to `largest`; what is missing is filled
up with zeros, whose results are dropped. What this rests on: a kernel treats every one of
`multiple` neighbouring patients alike (each is a lane of a vector register, and the terms of its
sums are added in an order that the number of lanes leaves alone). That holds of element-wise
kernels and of matrix products with patients as columns by their construction; of all others it is
checked, on this machine, for this model (`independence.dependent_layer`), before any patient is
touched. With blocks of one patient in memory of its own it holds of any kernel that gives the same
answer twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from client.training.sampling import Batch, Records

_ALIGNMENT = 64
"""Bytes: kernels may treat the first values before such an address in another way."""


@dataclass(frozen=True)
class Blocks:
    """Sizes that a block may have: multiples of `multiple` patients, `largest` at the most."""

    multiple: int
    largest: int

    @property
    def sizes(self) -> int:
        """How many there are."""
        return self.largest // self.multiple

    def within(self, patients: int) -> Blocks:
        """The same in memory for so many patients; at least `multiple`."""
        fitting = max(self.multiple, patients // self.multiple * self.multiple)
        return Blocks(self.multiple, min(self.largest, fitting))

    def of(self, batch: Records) -> Iterator[tuple[Batch, int]]:
        """Blocks and how many patients each has, the first ones of its rows; none for nobody."""
        if not len(batch):
            return
        for part in batch.parts(self.largest):
            patients = len(part)
            size = -(-patients // self.multiple) * self.multiple
            if size == patients > 1 and part.features.data_ptr() % _ALIGNMENT == 0:
                yield part, patients
            else:
                yield _filled(part, size), patients


LANES = Blocks(64, 4096)
"""For kernels with a patient a lane: they take up to four registers at a time, and the widest hold
16 float32 (AVX-512)."""
FIXED = Blocks(16, 16)
"""For kernels that see the whole block."""
ALONE = Blocks(1, 1)


def _filled(part: Batch, size: int) -> Batch:
    """A copy with rows of zeros behind it."""

    def filled(values: Tensor) -> Tensor:
        return nn.functional.pad(values, (0, 0) * (values.dim() - 1) + (0, size - len(part)))

    return Batch(filled(part.features), filled(part.labels))
