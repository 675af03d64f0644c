"""Published networks made such that each patient is treated alone, as privacy demands.

What a patient's gradient must not depend on is who else is in a batch, and what bookkeeping of
gradients needs is that every trained weight belongs to a layer and that no layer's output is
overwritten. torchvision's ResNets (He et al. 2016), DenseNets (Huang et al. 2017) and vision
transformers (Dosovitskiy et al. 2021) break both in a few places, and one function mends them.
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Affine(nn.Module):
    """(B, channels, ...) times a scale, plus a shift: a BatchNorm that learns no more."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.shift = nn.Parameter(shift, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (values.dim() - 2))
        return values * self.scale.view(shape) + self.shift.view(shape)


class Attention(nn.Module):
    """Attention of several heads (Vaswani et al. 2017, section 3.2.2), called as torch's with
    batch_first=True: (B, T, D) queries, (B, S, D) keys and values -> ((B, T, D), None).

    Of four Linear layers, whose gradients are one patient's each. Opacus' own layer does not do:
    with batch_first=True, release 1.6 adds up values of other heads and places than torch does.
    """

    def __init__(self, width: int, heads: int, *, biased: bool = True) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=biased)
        self.key = nn.Linear(width, width, bias=biased)
        self.value = nn.Linear(width, width, bias=biased)
        self.out = nn.Linear(width, width, bias=biased)
        self._heads, self._scale = heads, (width // heads) ** -0.5

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        if need_weights:
            raise ValueError("these layers give no weights of attention")
        queries, keys = self._by_head(self.query(query)), self._by_head(self.key(key))
        shares = torch.softmax(queries @ keys.transpose(2, 3) * self._scale, dim=3)
        mixed = (shares @ self._by_head(self.value(value))).transpose(1, 2)
        answer: Tensor = self.out(mixed.flatten(2))
        return answer, None

    def _by_head(self, rows: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return rows.view(*rows.shape[:2], self._heads, -1).transpose(1, 2)


class LearnedPositions(nn.Module):
    """(B, T, D) plus one learnt row for each of the T places."""

    def __init__(self, rows: Tensor) -> None:
        """rows: (T, D), those to begin with."""
        super().__init__()
        self.weight = nn.Parameter(rows)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.weight


@functools.cache
def _without_overwriting() -> dict[type[nn.Module], type[nn.Module]]:
    """Classes of torchvision whose `forward` overwrites what a layer gave -> those that do not.
    Made at the first use, since torchvision takes a second to load."""
    from torchvision.models.densenet import DenseNet
    from torchvision.models.resnet import BasicBlock, Bottleneck

    class Basic(BasicBlock):  # type: ignore[misc]  # torchvision has no types
        def forward(self, x: Tensor) -> Tensor:
            inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return torch.relu(inner + (x if self.downsample is None else self.downsample(x)))

    class Deep(Bottleneck):  # type: ignore[misc]  # torchvision has no types
        def forward(self, x: Tensor) -> Tensor:
            inner = self.relu(self.bn1(self.conv1(x)))
            inner = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(inner)))))
            return torch.relu(inner + (x if self.downsample is None else self.downsample(x)))

    class Dense(DenseNet):  # type: ignore[misc]  # torchvision has no types
        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.classifier(torch.relu(self.features(x)).mean((2, 3)))
            return answer

    return {BasicBlock: Basic, Bottleneck: Deep, DenseNet: Dense}


def per_patient(network: nn.Module, groups: int = 8) -> nn.Module:
    """Changes a network of torchvision, or one of the same layers, and returns it.

    A BatchNorm that is trained becomes a GroupNorm of `groups` groups (Wu and He 2018), or of as
    many as divide its channels; one whose parameters are frozen keeps what it has learnt of public
    data as constants. Attention becomes `Attention`, with the same weights; the class token and
    the positions of a vision transformer one layer. Residual sums and activations leave what they
    get alone.

    Raises ValueError for attention over batches whose first dimension is not the patient, and for
    that with keys or values of other widths.
    """
    from torchvision.models.vision_transformer import VisionTransformer

    if isinstance(network, VisionTransformer):
        _positions_as_layer(network)
    for module in network.modules():
        if getattr(module, "inplace", False):
            cast(Any, module).inplace = False
        if (mended := _without_overwriting().get(type(module))) is not None:
            module.__class__ = mended
        for name, child in module.named_children():
            if isinstance(child, _BATCH_NORMS):
                module.register_module(name, _normalisation(child, groups))
            elif type(child) is nn.MultiheadAttention:
                module.register_module(name, _attention(child))
    return network


def _normalisation(norm: Any, groups: int) -> nn.Module:
    """A BatchNorm's replacement."""
    if not norm.affine or norm.weight.requires_grad:
        channels = norm.num_features
        return nn.GroupNorm(math.gcd(groups, channels), channels, eps=norm.eps, affine=norm.affine)
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return Affine(scale, norm.bias.detach() - norm.running_mean * scale)


def _attention(plain: nn.MultiheadAttention) -> Attention:
    """The same function with the same weights."""
    if not plain.batch_first or plain.in_proj_weight is None or plain.bias_k is not None:
        raise ValueError("attention needs batch_first=True, one width and no bias of its own keys")
    width, biased = plain.embed_dim, plain.in_proj_bias is not None
    own = Attention(width, plain.num_heads, biased=biased)
    layers = (own.query, own.key, own.value)
    with torch.no_grad():
        for layer, weight in zip(layers, plain.in_proj_weight.split(width), strict=True):
            layer.weight.copy_(weight)
        own.out.weight.copy_(plain.out_proj.weight)
        if biased:
            for layer, bias in zip(layers, plain.in_proj_bias.split(width), strict=True):
                layer.bias.copy_(bias)
            own.out.bias.copy_(plain.out_proj.bias)
    return own.requires_grad_(plain.in_proj_weight.requires_grad)


def _positions_as_layer(network: Any) -> None:
    """The token of the class stands at the first place, so its row is that place's."""
    encoder, token = network.encoder, network.class_token
    rows = encoder.pos_embedding.detach()[0].clone()
    rows[0] += token.detach()[0, 0]
    positions = LearnedPositions(rows)
    positions.weight.requires_grad_(token.requires_grad)
    network.encoder = nn.Sequential(positions, encoder.dropout, encoder.layers, encoder.ln)
    del network.class_token
    network.class_token = torch.zeros_like(token, requires_grad=False)
