"""One patient's clipped contribution is C long at most, whatever the weights: mode local,
chest_xray with model=resnet18 and pixels=64.

Kind of fault: norms that come from Gram matrices in float32 cancel. Where the computed norm is 0,
nothing is clipped. `CertifiedSum` bounds the error, in all modes.
"""

from __future__ import annotations

import pytest
import torch

from client.training.dp_trainer import DPTrainer
from client.training.sampling import Batch
from protocol.vectors import Vector
from tests.cases.privacy.neighbours import BOUND, learner_of

_PICTURES = 12
"""Of noise, for each of the weights; nobody is shown. About every second is not clipped."""


def weights_whose_products_cancel(learner: DPTrainer, scale: float, spread: float) -> Vector:
    """Every block passes its input on; layer4.0 multiplies, by `scale`, what stands at the border
    of a picture. `spread`: of what reaches it, about 1."""
    parameters = {
        name.split("network.")[1]: parameter
        for name, parameter in learner.model.module.named_parameters()
    }
    with torch.no_grad():
        for name, parameter in parameters.items():
            if ".bn2.weight" in name or ".bn2.bias" in name:
                parameter.zero_()
            if "downsample.1.weight" in name or name == "bn1.weight":
                parameter.fill_(spread)
            if "downsample.1.bias" in name or name == "bn1.bias":
                parameter.fill_(1.0)
        parameters["layer4.0.conv1.weight"].zero_()[:, :, 0, 1] = 1 / 256
        parameters["layer4.0.conv1.weight"][:256] *= -1
        parameters["layer4.0.bn1.weight"].fill_(1.0)
        parameters["layer4.0.bn1.bias"].zero_()
        parameters["layer4.0.conv2.weight"].zero_()[:, 256:, 1, 1] = 1 / 256
        parameters["layer4.0.bn2.weight"].fill_(1e-3)
        parameters["layer4.0.downsample.0.weight"].zero_()
        parameters["layer4.0.downsample.1.weight"].fill_(scale)
        parameters["layer4.0.downsample.1.bias"].zero_()
        parameters["layer4.1.conv1.weight"].zero_()
        parameters["layer4.1.conv2.weight"].zero_()
        parameters["fc.weight"].fill_(1e-3)
        parameters["fc.bias"].zero_()
    return learner.model.weights()


@pytest.mark.slow
def test_one_patient_adds_c_at_most() -> None:
    _, learner = learner_of("chest_xray", {"model": "resnet18", "pixels": 64})
    longest = 0.0
    for scale, spread in ((1e6, 1e-2), (1e7, 3e-2)):
        weights = weights_whose_products_cancel(learner, scale, spread)
        generator = torch.Generator().manual_seed(1)
        for picture in range(_PICTURES):
            pixels = torch.rand(1, 64, 64, generator=generator) * 255
            learner.model.load(weights)
            added = learner._certified(Batch(pixels, torch.tensor([float(picture % 2)])), 1.0)
            longest = max(longest, float(added.norm()))
    assert longest <= BOUND
