"""Which device a site computes on: the processor, or an NVIDIA GPU.

Nothing else here names a device. Whoever computes takes that of the model's tensors; whatever
leaves a sum is float64 on the processor, where noise is added and samples are drawn.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import torch

from client.config.policy import Policy
from client.config.resource_limits import gradient_memory
from client.training.devices.arithmetic import EXACT_VARIABLES, check_arithmetic, exact_arithmetic
from protocol.errors import Code, WardroundError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Device:
    """A device, and how many bytes one study's per-patient gradients may take on it."""

    device: torch.device = CPU
    memory: int = 1 << 30


def candidates(policy: Policy) -> tuple[Device, ...]:
    """The devices that a site may compute on, the one to try first in front: of `policy.device` the
    one that it names, or for "auto" the first GPU where there is one, then the processor.

    Raises WardroundError(CONFIGURATION) where a device asked for by name is not there, has less
    memory than `policy.device_memory`, or does not compute as IEEE 754 has it.
    """
    wanted, processor = policy.device, Device(CPU, gradient_memory(policy))
    if wanted == "cpu":
        return (processor,)
    why, count = _gpus()
    if wanted == "auto":
        return (_ready(0, policy), processor) if count else (processor,)
    number = int(wanted.partition(":")[2] or 0)
    if number < count:
        return (_ready(number, policy),)
    raise WardroundError(
        Code.CONFIGURATION,
        f"policy.device is {wanted}; {why or f'this machine has {count} GPU'}.",
        remedy="Let `nvidia-smi` list the device to the user of the daemon, count from 0, or set "
        "policy.device to auto or cpu.",
    )


def _gpus() -> tuple[str, int]:
    """Why there is none, and how many there are."""
    os.environ.update(EXACT_VARIABLES)  # read once, with the first use of a device
    if not torch.backends.cuda.is_built():
        return "the installed torch is built without CUDA", 0
    with warnings.catch_warnings(record=True) as said:  # a driver that is too old is a warning
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        return "", count
    reason = str(said[0].message).splitlines()[0].rstrip(".") if said else "no driver answers"
    return f"torch sees no GPU ({reason})", 0


def _ready(number: int, policy: Policy) -> Device:
    """A GPU with exact arithmetic and its cap on memory."""
    device, name = torch.device("cuda", number), f"cuda:{number}"
    total = torch.cuda.get_device_properties(device).total_memory
    cap = total if policy.device_memory is None else policy.device_memory
    if cap > total:
        raise WardroundError(
            Code.CONFIGURATION,
            f"policy.device_memory is {cap / 2**30:.3g} GiB; {name} has {total / 2**30:.3g} GiB.",
            remedy="Lower policy.device_memory in site.yaml.",
        )
    torch.cuda.set_per_process_memory_fraction(cap / total, device)
    exact_arithmetic()
    check_arithmetic(device)
    return Device(device, cap // 4 // policy.studies_at_once)
