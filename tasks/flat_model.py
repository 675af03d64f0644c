"""A task's model as one flat vector: build it, lay it out, load it.

The parameters of a `FlatModel` are views of one float32 tensor, so reading or writing all of them
is one copy. Models whose buffers absorb data are refused: BatchNorm's running statistics are a
release of raw data, even frozen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from protocol.errors import Code, WardroundError
from protocol.study.study import Model
from protocol.vectors import LARGEST_WEIGHT, Layout, Vector, digest_of_tensors, in_range
from tasks.base import Task
from tasks.random_streams import own_streams


class FlatModel:
    """A model and the flat vector that its parameters are views of."""

    def __init__(self, task: Task, seed: int) -> None:
        """Builds the model with torch's random state set to `seed` and restored afterwards.

        Frozen parameters are the model's and not the vector's; a study names their digest. Raises
        WardroundError(CONFIGURATION) for what is no torch module, for one with buffers, for
        parameters that are not float32 on the processor, or for initial ones out of range
        (`protocol.vectors.in_range`).
        """
        with own_streams(seed):
            self.module = task.model()
        if not isinstance(self.module, nn.Module):
            raise WardroundError(
                Code.CONFIGURATION,
                f"{type(task).__name__}.model of task {task.name} returns a "
                f"{type(self.module).__name__}.",
                remedy="Return a torch.nn.Module.",
            )
        buffers = [name for name, _ in self.module.named_buffers()]
        if buffers:
            raise WardroundError(
                Code.CONFIGURATION,
                f"The model of task {task.name} has buffers ({', '.join(buffers[:3])}).",
                remedy="Use GroupNorm instead of BatchNorm, and constants instead of buffers.",
            )
        named = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        everything = self.module.parameters()
        if any((p.dtype, p.device.type) != (torch.float32, "cpu") for p in everything):
            raise WardroundError(
                Code.CONFIGURATION,
                f"The model of task {task.name} is not float32 on the processor throughout.",
                remedy="Let `Task.model` build it as torch does by default.",
            )
        self.layout = Layout(tuple((name, tuple(p.shape)) for name, p in named.items()))
        self.flat: Tensor = torch.empty(self.layout.size, dtype=torch.float32)
        start = 0
        for parameter in named.values():
            view = self.flat[start : start + parameter.numel()].view(parameter.shape)
            view.copy_(parameter.data)
            parameter.data = view
            start += parameter.numel()
        if not in_range(self.weights()):
            raise WardroundError(
                Code.CONFIGURATION,
                f"The model of task {task.name} begins with weights that are not between "
                f"-{LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}.",
                remedy="Begin with smaller ones, or scale what they multiply.",
            )

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return self.flat.device

    def to(self, device: torch.device) -> None:
        """Moves the parameters, and tensors that modules hold as constants, to a device."""
        if device == self.device:
            return
        self.flat = self.flat.to(device)
        start = 0
        for parameter in self.module.parameters():
            if parameter.requires_grad:
                view = self.flat[start : start + parameter.numel()].view(parameter.shape)
                start += parameter.numel()
            else:
                view = parameter.data.to(device)
            parameter.data = view
        for module in self.module.modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    setattr(module, name, value.to(device))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters, in the layout's order."""
        return [p for p in self.module.parameters() if p.requires_grad]

    @property
    def frozen(self) -> dict[str, Vector]:
        """Name -> values of each parameter that is not trained, as views where they are
        on the processor."""
        named = self.module.named_parameters()
        return {name: p.detach().cpu().numpy() for name, p in named if not p.requires_grad}

    @property
    def frozen_digest(self) -> str:
        """SHA-256 of the frozen parameters' names, shapes and values; "" where there are none."""
        return digest_of_tensors(self.frozen)

    def fits(self, model: Model) -> bool:
        """Whether this is the model of a study, as to layout and frozen parameters."""
        stated = (model.parameters, model.layout, model.frozen)
        return (self.layout.size, self.layout.digest, self.frozen_digest) == stated

    def load(self, weights: Vector) -> None:
        """(P,) float32 -> the model's parameters."""
        self.flat.copy_(torch.from_numpy(weights))

    def weights(self) -> Vector:
        """A copy of the parameters, (P,) float32."""
        array: Vector = self.flat.cpu().numpy().copy()
        return array
