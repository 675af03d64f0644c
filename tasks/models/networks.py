"""Networks for grey pictures that train under differential privacy.

GroupNorm, no state and no step in place, so that every patient's gradient is that patient's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_GROUPS = 8
_MIDDLE, _SPREAD = 127.5, 127.5
"""Grey levels become [-1, 1] by public constants."""


class Scaled(nn.Module):
    """(B, rows, columns) grey levels in [0, 255] -> `network` of (B, channels, rows, columns)."""

    def __init__(self, network: nn.Module, channels: int = 1) -> None:
        super().__init__()
        self.network = network
        self._channels = channels

    def forward(self, pictures: Tensor) -> Tensor:
        scaled = ((pictures - _MIDDLE) / _SPREAD).unsqueeze(1)
        answer: Tensor = self.network(scaled.expand(-1, self._channels, -1, -1))
        return answer


def small_cnn() -> nn.Module:
    """Three convolutions of 3 x 3 with 16, 32 and 64 channels, each after the first at half the
    size, and their mean over the picture: 24,000 parameters, sides of 8 pixels or more."""
    layers: list[nn.Module] = []
    before = 1
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        layers += [
            nn.Conv2d(before, width, 3, stride=stride, padding=1),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(),
        ]
        before = width
    return Scaled(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1)))


def resnet18() -> nn.Module:
    """torchvision's ResNet-18 (He et al. 2016) for one logit, made safe: GroupNorm in the place
    of BatchNorm, no in-place activation, and residual sums that leave their terms alone."""
    from torchvision.models import resnet
    from torchvision.models.resnet import BasicBlock

    class Block(BasicBlock):  # type: ignore[misc]  # torchvision has no types
        def forward(self, x: Tensor) -> Tensor:
            inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            shortcut = x if self.downsample is None else self.downsample(x)
            return torch.relu(inner + shortcut)

    def norm(channels: int) -> nn.Module:
        return nn.GroupNorm(_GROUPS, channels)

    network: Any = resnet.ResNet(Block, [2, 2, 2, 2], num_classes=1, norm_layer=norm)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return Scaled(network, channels=3)
