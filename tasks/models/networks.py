"""Networks for pictures that train under differential privacy.

GroupNorm, no state and no step in place, so that every patient's gradient is that patient's own.
"""

from __future__ import annotations

from torch import Tensor, nn

from tasks.models import adapters
from tasks.models.per_patient import per_patient
from tasks.models.weights_file import WeightsFile

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
    """torchvision's ResNet-18 (He et al. 2016) for one logit of a grey picture."""
    return Scaled(of_torchvision("resnet18"), channels=3)


def of_torchvision(
    name: str,
    outputs: int = 1,
    weights: WeightsFile | None = None,
    trained: tuple[str, ...] | None = None,
) -> nn.Module:
    """(B, 3, rows, columns) -> (B, outputs): the network that torchvision knows by this name, such
    as "resnet50", "densenet121" or "vit_b_16", or "vit_tiny", with every patient treated alone.

    weights: what all layers but the last begin with. trained: the layers that are, such as
    ("layer4", "fc"); None: all. Only frozen layers keep what their BatchNorm has learnt
    (`per_patient`). Raises ValueError for an unknown network or layer, and what `WeightsFile.read`
    raises.
    """
    from torchvision.models import get_model, vision_transformer

    if name == "vit_tiny":  # Touvron et al. 2021, table 1
        network: nn.Module = vision_transformer.VisionTransformer(
            224, 16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=outputs
        )
    else:
        network = get_model(name, weights=None, num_classes=outputs)
    if weights is not None:
        own, stored = network.state_dict(), weights.read()
        fitting = {key: of for key, of in stored.items() if of.shape == own[key].shape}
        network.load_state_dict(own | fitting)
    if trained is not None:
        adapters.train_only(network, *trained)
    return per_patient(network)
