"""Whether what is computed for a patient depends on that patient and the model alone, bit for bit.

Evidence, not proof: the same patients pass through a model in other places, in smaller batches,
beside others and with other threads, under weights as they are, badly conditioned and huge, and
every bit is compared. `blocks` says what makes it hold. The same is done for features, which a
task makes of records once, before any model sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.training.blocks import Blocks
from client.training.sampling import Batch, invented_labels
from tasks.schema import Table

Computed = Callable[[Batch], Mapping[str, Tensor]]
"""A block -> what is computed for each of its patients, (n, ...) by name, in the order of work."""
Features = Callable[[Table], npt.NDArray[np.generic]]
"""Records -> (N, ...), a row for each."""

_PATIENTS = 2048
_SIZES, _BATCHES = 6, 8
"""Sizes that are compared, and batches of each, where blocks have several: a bit that changes does
so for one patient in hundreds."""


def dependent_layer(
    computed: Computed,
    blocks: Blocks,
    flat: Tensor,
    invented: Tensor,
    label_shape: tuple[int, ...] = (),
) -> str | None:
    """The first of what is computed that depends on other patients; None where nothing does.

    flat: (P,) the model's weights, changed meanwhile and restored. invented: (N, ...) features of
    nobody, N at least 1. label_shape: of one patient's label.
    """
    before, generator = flat.clone(), torch.Generator().manual_seed(0)
    try:
        for badly_conditioned in (False, True) if blocks.sizes > 1 else (True,):
            if badly_conditioned:
                drawn = torch.randn(len(flat), generator=generator)
                drawn = drawn.to(flat.device)
                flat.mul_(torch.exp(4 * drawn)).add_(drawn.sign(), alpha=1e-3)
            rows = _PATIENTS if blocks.sizes > 1 else blocks.multiple + 2
            places = torch.arange(rows)
            patients = Batch(invented[places % len(invented)], invented_labels(places, label_shape))
            if (name := _dependent(computed, blocks, patients, generator)) is not None:
                return name
        return None
    finally:
        flat.copy_(before)


def dependent_features(features: Features, table: Table) -> bool:
    """Whether a row of features depends on the other records of a table, which has 4 or more."""
    rows = len(next(iter(table.values())))

    def of(places: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        made = np.ascontiguousarray(features({name: all_[places] for name, all_ in table.items()}))
        return made.reshape(len(places), -1).view(np.uint8)

    everyone = np.arange(rows)
    whole, beside = of(everyone), np.where(everyone % 2, 0, everyone)
    for places in (everyone[::-1], everyone[1:], everyone[-2:], everyone[:1]):
        if not np.array_equal(of(places), whole[places]):
            return True
    with threads(1 if torch.get_num_threads() > 1 else 2):
        return not np.array_equal(of(beside), whole[beside])


def _dependent(
    computed: Computed, blocks: Blocks, patients: Batch, generator: torch.Generator
) -> str | None:
    rows = len(patients)
    whole = _prints(computed, blocks, patients)

    def differs(prints: Mapping[str, Tensor], places: Tensor) -> str | None:
        equal = {name: torch.equal(prints[name], whole[name][places]) for name in whole}
        return next((name.split()[0] for name, same in equal.items() if not same), None)

    def elsewhere() -> Iterator[Tensor]:
        """The places, in the whole, of patients that are computed again."""
        yield torch.randperm(rows, generator=generator)
        for size in {1, max(1, blocks.multiple - 1)}:
            yield torch.arange(rows - size, rows)
        for size in range(
            blocks.multiple, blocks.multiple * min(blocks.sizes, _SIZES), blocks.multiple
        ):
            for start in range(0, min(rows - size, size * _BATCHES), size):
                yield torch.arange(start, start + size)

    for places in elsewhere():
        again = Batch(patients.features[places], patients.labels[places])
        if (name := differs(_prints(computed, blocks, again), places)) is not None:
            return name
    everyone, unchanged = torch.arange(rows), torch.arange(0, rows, 2)
    others = Batch(patients.features.clone(), patients.labels.clone())
    others.features[1::2] = others.features[0]
    others.labels[1::2] = 1 - others.labels[1::2]
    beside = {name: prints[::2] for name, prints in _prints(computed, blocks, others).items()}
    if (name := differs(beside, unchanged)) is not None:
        return name
    with threads(1 if torch.get_num_threads() > 1 else 2):
        return differs(_prints(computed, blocks, patients), everyone)


def _prints(computed: Computed, blocks: Blocks, batch: Batch) -> dict[str, Tensor]:
    """(n,) int64 by name: a fingerprint of every patient's bits."""
    parts: dict[str, list[Tensor]] = {}
    for block, patients in blocks.of(batch):
        for name, values in computed(block).items():
            parts.setdefault(name, []).append(_print(values)[:patients])
    return {name: torch.cat(of) for name, of in parts.items()}


def _print(values: Tensor) -> Tensor:
    """A sum of integers, each times an odd number of its place: in any order the same."""
    bits = values.detach().contiguous().flatten(1)
    bits = bits.view(torch.int32 if bits.dtype == torch.float32 else torch.int64)
    places = (2 * torch.arange(bits.shape[1], device=bits.device) + 1) * 0x5851F42D
    return (bits.to(torch.int64) * places).sum(1).cpu()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch computes with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
