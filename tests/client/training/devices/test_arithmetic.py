"""Arithmetic is that of its types, or refused."""

import subprocess
import sys

import pytest
import torch

from client.training.devices.arithmetic import check_arithmetic
from protocol.errors import Code, WardroundError
from tests.devices import on_each_device

_SETTINGS = (
    "import torch\n"
    "from client.training.devices.arithmetic import exact_arithmetic\n"
    "torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True\n"
    "exact_arithmetic()\n"
    "backends = torch.backends\n"
    "assert torch.are_deterministic_algorithms_enabled()\n"
    "assert not torch.is_deterministic_algorithms_warn_only_enabled()\n"
    "assert backends.cuda.matmul.fp32_precision == 'ieee', backends.cuda.matmul.fp32_precision\n"
    "assert backends.cudnn.conv.fp32_precision == 'ieee'\n"
    "assert backends.cudnn.rnn.fp32_precision == 'ieee'\n"
    "assert not backends.cuda.matmul.allow_tf32 and not backends.cudnn.allow_tf32\n"
    "assert backends.cudnn.deterministic and not backends.cudnn.benchmark\n"
)


def test_no_shorter_format_and_no_kernel_of_chance_is_left_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SETTINGS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@on_each_device
def test_products_are_those_of_their_types(device: torch.device) -> None:
    check_arithmetic(device)


@pytest.mark.parametrize(
    ("kind", "shorter"), [(torch.float32, torch.bfloat16), (torch.float64, torch.float32)]
)
def test_a_shorter_format_behind_a_type_is_found(
    kind: torch.dtype, shorter: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.Tensor.to

    def shortened(tensor: torch.Tensor, *wanted: object) -> torch.Tensor:
        """What a device does that keeps the type's name and not its digits."""
        made = plain(tensor, *wanted)  # type: ignore[call-overload]  # any of them
        return plain(plain(made, shorter), kind) if kind in wanted else made

    monkeypatch.setattr(torch.Tensor, "to", shortened)
    with pytest.raises(WardroundError) as refused:
        check_arithmetic(torch.device("cpu"))
    assert refused.value.code is Code.CONFIGURATION
    assert str(kind).removeprefix("torch.") in refused.value.message
