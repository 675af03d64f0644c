"""Which coordinates of a flat model belong to normalisation layers (FedBN keeps them at a site)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from tasks.flat_model import FlatModel

LAYERS = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
"""BatchNorm is not among them: `FlatModel` refuses its running statistics, which take in records
even where the layer is frozen, and one patient's gradient would depend on the others of a batch."""


def normalisation(model: FlatModel) -> npt.NDArray[np.bool_]:
    """(P,) bool, true for scales and shifts of normalisation layers."""
    own = {
        id(parameter)
        for layer in model.module.modules()
        if isinstance(layer, LAYERS)
        for parameter in layer.parameters(recurse=False)
    }
    parts = [np.full(p.numel(), id(p) in own) for p in model.parameters]
    return np.concatenate(parts)
