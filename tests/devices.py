"""The devices of this machine: tests with a `device` run on each, so once where there is no GPU."""

import pytest
import torch

DEVICES = [torch.device("cpu")]
if torch.cuda.is_available():
    DEVICES.append(torch.device("cuda", 0))
on_each_device = pytest.mark.parametrize("device", DEVICES, ids=str)
