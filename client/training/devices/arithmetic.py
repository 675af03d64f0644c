"""Arithmetic of a GPU as IEEE 754 has it, the same each time.

What a claim of privacy rests on is proved for float32 terms and float64 sums (`clipping`), and
tried out bit for bit (`self_check`). Shorter formats behind the same types (TF32 for float32,
emulated float64) and kernels that add in whatever order threads arrive break both. They are turned
off here; an operation that has no other kernel then raises, and the self-check names the task.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from protocol.errors import Code, WardroundError

EXACT_VARIABLES = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "CUBLAS_EMULATE_SINGLE_PRECISION": "0",
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "0",
    "NVIDIA_TF32_OVERRIDE": "0",
}
"""cuBLAS, "Results reproducibility" and "Floating point emulation": read when its first handle is
made. The last overrides what a program asks for."""

_WHOLE = 192
"""Rows, columns and terms of the products below: more than one tile of any kernel."""


def exact_arithmetic() -> None:
    """Deterministic kernels, and no shorter format, in this process from now on."""
    torch.use_deterministic_algorithms(True)
    deterministic, cudnn = cast(Any, torch.utils.deterministic), cast(Any, torch.backends.cudnn)
    deterministic.fill_uninitialized_memory = False  # costs time, decides nothing here
    cudnn.benchmark = False  # else the fastest kernel of the day is taken
    cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    cudnn.allow_tf32 = False
    cudnn.conv.fp32_precision = "ieee"
    cudnn.rnn.fp32_precision = "ieee"


def check_arithmetic(device: torch.device) -> None:
    """Raises WardroundError(CONFIGURATION) where products on the device are not those of float32
    and float64: of whole numbers whose exact sums both types hold, but no shorter format."""
    drawn = torch.Generator().manual_seed(0)
    for kind, bits in ((torch.float32, 16), (torch.float64, 45)):
        odd = 2 * torch.randint(2 ** (bits - 2), 2 ** (bits - 1), (_WHOLE,), generator=drawn) + 1
        few = torch.randint(0, 2, (_WHOLE, _WHOLE), generator=drawn)
        expected = few @ odd
        matrix = few.to(device, kind)
        found = matrix @ odd.to(device, kind)[:, None].expand(_WHOLE, _WHOLE).contiguous()
        if not torch.equal(found[:, 0].cpu().to(torch.int64), expected):
            raise WardroundError(
                Code.CONFIGURATION,
                f"Products of {str(kind).removeprefix('torch.')} on {device} are less exact than "
                "that type: no claim of privacy holds there.",
                remedy="Unset what makes the driver or cuBLAS take a shorter format, or set "
                "policy.device to cpu.",
            )
