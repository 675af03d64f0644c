"""Memory that runs out while a sum is made: known by its error, and given back before a new try."""

from __future__ import annotations

import gc

import torch

_PROCESSOR = ("DefaultCPUAllocator", "can't allocate memory")
"""What torch says on the processor, where it has no error of its own."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory was short, of a GPU or of the process."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _PROCESSOR)


def give_back() -> None:
    """What nobody holds any more; to be called outside the handler of the error, which holds it."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
