"""A device that is asked for by name is there or refused; auto takes what works."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from client.config.policy import Policy
from client.config.resource_limits import gradient_memory
from client.training.devices.choice import CPU, Device, candidates
from client.training.self_check import check_task
from protocol.errors import Code, WardroundError
from tasks.base import Task
from tasks.schema import Column, Schema
from tests.client.hospital import study

_WITHOUT = (
    "from client.config.policy import Policy\n"
    "from client.training.devices.choice import candidates\n"
    "from protocol.errors import WardroundError\n"
    "try: print([str(one.device) for one in candidates(Policy(device={device!r}))])\n"
    "except WardroundError as error: print(error.code.value, error.message, error.remedy)"
)


def without_gpu(device: str) -> str:
    """What a process answers to which no GPU is visible, whatever this machine has."""
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    code = _WITHOUT.format(device=device)
    ran = subprocess.run([sys.executable, "-c", code], env=hidden, capture_output=True, check=True)
    return ran.stdout.decode()


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_asked_for_by_name_is_never_replaced_by_the_processor(device: str) -> None:
    said = without_gpu(device)
    assert said.startswith(f"configuration policy.device is {device}; torch sees no GPU")
    assert "policy.device to auto or cpu" in said


def test_auto_without_a_gpu_is_the_processor() -> None:
    assert "['cpu']" in without_gpu("auto")


def test_the_processor_is_what_comes_without_asking() -> None:
    assert candidates(Policy()) == (Device(CPU, gradient_memory(Policy())),)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "CUDA", "mps", "meta"])
def test_other_words_are_no_devices(device: str) -> None:
    with pytest.raises(ValueError, match="device"):
        Policy(device=device)


def test_a_device_beyond_the_last_one_is_counted() -> None:
    number = torch.cuda.device_count()
    with pytest.raises(WardroundError) as refused:
        candidates(Policy(device=f"cuda:{number}"))
    assert refused.value.code is Code.CONFIGURATION


class KnowsOneDevice(Task):
    """Its loss makes a tensor where torch does by default, which is not where the model is."""

    name = "one_device"
    title = "a loss of the processor"
    schema = Schema((Column("a", "a number"),), "y", "a label")

    def model(self) -> nn.Module:
        return nn.Linear(self.schema.width, 1)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.nn.functional.softplus(outputs[:, 0] * (1 - 2 * labels)) * torch.ones(1)


def test_a_task_goes_to_the_first_device_on_which_it_computes() -> None:
    elsewhere = Device(torch.device("meta"))  # takes tensors and gives none back
    assert check_task(KnowsOneDevice(), study(), (elsewhere, Device())) == Device()


def test_a_task_that_computes_on_no_device_is_refused_with_the_reason() -> None:
    with pytest.raises(WardroundError) as refused:
        check_task(KnowsOneDevice(), study(), (Device(torch.device("meta")),))
    assert "does not compute on meta" in refused.value.message
    assert "policy.device" in refused.value.remedy
