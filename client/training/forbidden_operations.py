"""Operations that no patient's term may be made of: those that draw at random or run elsewhere.

Whoever draws one number for each patient in turn gives a patient another number when one stands
before it; the bits that come out may still be equal, where the rate is small. So every operation is
looked at, not its result: PyTorch marks each that draws, from whichever generator and at whatever
rate. Operations on another device than the processor are none that `independence` has tried.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_OUTSIDE = "the loss or the score"
_DRAWS = "draws at random"
_TIMES = 4
"""Unequal findings after which the last one is believed."""


def forbidden_operation(model: nn.Module, work: Callable[[], object]) -> str | None:
    """Which layer of `model` first does something forbidden while `work` runs, and what; None where
    none does. Draws from streams of Python's `random` and of NumPy are seen where these are the
    global ones. Random states are restored.

    work: is run again where something is found, since other threads draw from global streams, too.
    """
    before = None
    for _ in range(_TIMES):
        found = _found(model, work)
        if found is None or found == before:
            break
        before = found
    return found


def _found(model: nn.Module, work: Callable[[], object]) -> str | None:
    states = random.getstate(), np.random.get_state()
    watch = _Watch()
    try:
        with torch.random.fork_rng(devices=[]), _hooked(model, watch), watch:
            watch.entered(_OUTSIDE)
            work()
            watch.left()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return watch.found


class _Watch(TorchDispatchMode):
    """Knows which layer works, and looks at every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.found: str | None = None
        self._inside: list[tuple[str, bytes]] = []

    def entered(self, layer: str) -> None:
        self._inside.append((layer, _streams()))

    def left(self) -> None:
        layer, before = self._inside.pop()
        if self.found is None and _streams() != before:
            self.found = f"{layer} {_DRAWS}"

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        if self.found is None:
            if torch.Tag.nondeterministic_seeded in func.tags:
                self.found = f"{self._inside[-1][0]} {_DRAWS}"
            elif devices - {"cpu"}:
                self.found = f"{self._inside[-1][0]} computes on {max(devices - {'cpu'})}"
        return result


@contextmanager
def _hooked(model: nn.Module, watch: _Watch) -> Iterator[None]:
    handles = []
    for name, layer in model.named_modules():
        shown = f"{name} ({type(layer).__name__})" if name else type(layer).__name__
        handles += [
            layer.register_forward_pre_hook(lambda *_, shown=shown: watch.entered(shown)),
            layer.register_forward_hook(lambda *_: watch.left()),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _streams() -> bytes:
    """The states of random streams that operations may draw from unmarked."""
    return b"".join(
        (
            repr(random.getstate()).encode(),
            *(np.asarray(part).tobytes() for part in np.random.get_state()),
            torch.default_generator.get_state().numpy().tobytes(),
        )
    )
