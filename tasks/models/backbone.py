"""Features of pictures by a frozen network: ResNet-18 trained on ImageNet, without its last layer.

The weights are a public file that an operator installs; its SHA-256 is checked before each use.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.models.weights_file import WeightsFile

WIDTH = 512
WEIGHTS = WeightsFile(
    "resnet18-f37072fd.pth",
    "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "chest_xray",
)
"""torchvision's file of ResNet18_Weights.IMAGENET1K_V1."""


def features(
    pictures: npt.NDArray[np.uint8], weights: WeightsFile = WEIGHTS
) -> npt.NDArray[np.float32]:
    """(N, rows, columns) grey pictures -> (N, 512) float32, resized and normalised as the network
    was trained. Each passes alone, so that its features have the same bits whatever the others.

    Raises WardroundError: NO_DATA without the file of weights, MALFORMED_DATA for another file.
    """
    import torch
    from torch import nn
    from torchvision.models import resnet18
    from torchvision.transforms import v2

    network = resnet18(weights=None)
    network.load_state_dict(weights.read())
    network.fc = nn.Identity()
    network.eval()
    prepare = v2.Compose(
        [
            v2.Resize((224, 224), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    rows = np.empty((len(pictures), WIDTH), dtype=np.float32)
    with torch.inference_mode():
        for row, picture in enumerate(pictures):
            grey = torch.from_numpy(np.array(picture))[None, None]
            rows[row] = network(prepare(grey.expand(-1, 3, -1, -1)))[0].numpy()
    return rows
