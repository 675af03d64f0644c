"""Operations that no patient's term may be made of: those that draw at random or run elsewhere.

Whoever draws one number for each patient in turn gives a patient another number when one stands
before it; the bits that come out may still be equal, where the rate is small. So every operation is
looked at, not its result: PyTorch marks each that draws, from whichever generator and at whatever
rate. Operations on another device than the model's or the processor are none that `independence`
has tried.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tasks.random_streams import own_streams

_OUTSIDE = "the loss or the score"
_DRAWS = "draws at random"
_TIMES = 4
"""Runs in each of which a global stream must have moved to be a draw of the model's."""


def forbidden_operation(model: nn.Module, work: Callable[[], object]) -> str | None:
    """Which layer of `model` first does something forbidden while `work` runs, and what; None where
    none does. Draws from streams of Python's `random` and of NumPy are seen where these are the
    global ones. Random states are restored.

    work: is run again where a stream has moved, since other threads draw from global streams, too.
    """
    found = None
    for _ in range(_TIMES):
        watch = _watched(model, work)
        if watch.operation is not None:
            return watch.operation
        if (found := watch.stream) is None:
            break
    return found


def _watched(model: nn.Module, work: Callable[[], object]) -> _Watch:
    watch = _Watch({"cpu", *(p.device.type for p in model.parameters())})
    with own_streams():
        states = random.getstate(), np.random.get_state()
        try:
            with _hooked(model, watch), watch:
                watch.entered(_OUTSIDE)
                work()
                watch.left()
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
    return watch


class _Watch(TorchDispatchMode):
    """Knows which layer works, and looks at every operation of this thread.

    `operation`: what the first forbidden one was and in which layer. `stream`: the first layer in
    whose time a global stream has moved, which any thread may have done. None for none.
    """

    def __init__(self, known: Set[str]) -> None:
        """known: kinds of device that may compute."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self._known = known
        self.operation: str | None = None
        self.stream: str | None = None
        self._inside: list[tuple[str, bytes]] = []

    def entered(self, layer: str) -> None:
        self._inside.append((layer, _streams()))

    def left(self) -> None:
        layer, before = self._inside.pop()
        if self.stream is None and _streams() != before:
            self.stream = f"{layer} {_DRAWS}"

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would load its compiler, seconds and 100 MB, to tell it to leave this alone."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        if self.operation is None:
            if torch.Tag.nondeterministic_seeded in func.tags:
                self.operation = f"{self._inside[-1][0]} {_DRAWS}"
            elif others := devices - self._known:
                self.operation = f"{self._inside[-1][0]} computes on {max(others)}"
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
    """The states of the global random streams that PyTorch knows nothing of."""
    numpy = (np.asarray(part).tobytes() for part in np.random.get_state())
    return b"".join((repr(random.getstate()).encode(), *numpy))
