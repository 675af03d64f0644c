"""Gradients of one layer's parameters, one for each patient, from its input and what comes back.

Goodfellow (2015) for the norm of an outer product, Bu, Wang, Zha and Tao (2023, "Differentially
Private Optimization on Large Model at Small Cost") for forming sums only once they are clipped.
Every rule knows a layer's exact type: a subclass may compute something else, and goes to Opacus.

n patients, T positions (pixels or time steps) that share a weight, p inputs and o outputs of one
position. A layer may get several rows of each patient, one after the other, as it does of each of a
patient's pictures: its positions are then those of all of them. What a gradient is made of is
float32; norms and sums of it are float64, as the proof in `clipping` asks, and `amplitudes` bound
what rounding errors can grow from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from tasks.models.per_patient import LearnedPositions

_KEPT = 6
"""Per-patient gradients are kept where they are at most so many times larger than what they are
made of; otherwise their norms are computed without them, and their sum is made at the end."""
_BLOCK = 1 << 20
"""Elements of unfolded input made at a time (8 MiB)."""


Present = Tensor | slice | None
"""Rows of a block: (n,) bool, a slice, or None for all."""


class LayerGradient(Protocol):
    """What one layer's parameters owe to each of n patients."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The layer's trainable ones."""
        ...

    def square_norms(self) -> Tensor:
        """(n,) float64, squared Euclidean norms over all of the layer's parameters, as computed:
        where terms cancel, an error may be all of it (`amplitudes`)."""
        ...

    def amplitudes(self) -> Tensor:
        """(n,) float64, squares of bounds on the norm of the sum of magnitudes of all terms."""
        ...

    def terms(self) -> list[Tensor]:
        """(n, ...) float32, what the gradients are made of, patient by patient."""
        ...

    def rows(self) -> list[Tensor]:
        """The gradients themselves, float32: (n, *shape) for every parameter."""
        ...

    def add_to(self, sums: Sequence[Tensor], factors: Tensor, present: Present = None) -> None:
        """Adds factor times gradient of every patient to sums, one for each parameter and shaped
        as it; sums in float64.

        present: the rows that count, whatever the others hold. factors: float64, of these rows.
        """
        ...


Rule = Callable[[nn.Module, Tensor, Tensor, int], LayerGradient]
"""Layer, its input (n m, ...), the gradient of its output (n m, ...), n patients with m rows each,
those of one patient beside one another."""


@dataclass
class Rows:
    """Gradients that are there already, (n, *shape) for every parameter: each value is a term."""

    parameters: Sequence[Tensor]
    values: list[Tensor]

    @cached_property
    def _squares(self) -> Tensor:
        return sum_of_squares([_square_lengths(value.flatten(1), 1) for value in self.values])

    def square_norms(self) -> Tensor:
        return self._squares

    def amplitudes(self) -> Tensor:
        return self._squares

    def terms(self) -> list[Tensor]:
        return self.values

    def rows(self) -> list[Tensor]:
        return self.values

    def add_to(self, sums: Sequence[Tensor], factors: Tensor, present: Present = None) -> None:
        values = self.values
        if present is not None:
            values = [value[present] for value in values]
        columns = max(1, _BLOCK // max(1, len(factors)))
        for total, value in zip(sums, values, strict=True):
            parts = zip(
                total.view(-1).split(columns), value.flatten(1).split(columns, 1), strict=True
            )
            for of_total, of_value in parts:  # so that few are in float64 at a time
                of_total.addmv_(of_value.double().t(), factors)


@dataclass
class Outer:
    """A Linear layer with one position: the outer product of g (n, o) and a (n, p)."""

    weight: Tensor
    bias: Tensor | None
    a: Tensor
    g: Tensor

    @property
    def parameters(self) -> Sequence[Tensor]:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @cached_property
    def _wide(self) -> tuple[Tensor, Tensor]:
        return self.a.double(), self.g.double()

    @cached_property
    def _squares(self) -> Tensor:
        a, g = self._wide
        inputs = a.square().sum(1)
        if self.bias is not None:
            inputs += 1
        return inputs.mul_(g.square().sum(1))

    def square_norms(self) -> Tensor:
        return self._squares

    def amplitudes(self) -> Tensor:
        return self._squares

    def terms(self) -> list[Tensor]:
        return [self.a, self.g]

    def rows(self) -> list[Tensor]:
        weight = self.g[:, :, None] * self.a[:, None, :]
        return [weight] if self.bias is None else [weight, self.g]

    def add_to(self, sums: Sequence[Tensor], factors: Tensor, present: Present = None) -> None:
        a, g = _weighted(factors, present, *self._wide)
        sums[0].addmm_(g.t(), a)
        if self.bias is not None:
            sums[1].add_(g.sum(0))


@dataclass
class Contraction:
    """A weight that positions share: the sum over t of outer products of g_t and a_t.

    unfold: input of some patients -> (n, groups, p, T); columns: the same as (groups, p, n T);
    gram: the same -> products of those at every two positions, (n, groups, T, T); g: (n, groups, o,
    T). Norms come from the two Gram matrices where that is cheaper.
    """

    weight: Tensor
    bias: Tensor | None
    a: Tensor
    g: Tensor
    unfold: Callable[[Tensor], Tensor]
    columns: Callable[[Tensor], Tensor]
    gram: Callable[[Tensor], Tensor]

    @property
    def parameters(self) -> Sequence[Tensor]:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def outer(self) -> int:
        """Elements of one patient's weight gradient."""
        return self.weight.numel()

    def parts(self, patients: int) -> list[slice]:
        """Patients in parts whose unfolded input stays below _BLOCK elements."""
        positions, groups = self.g.shape[3], self.g.shape[1]
        inputs = self.weight.numel() // (groups * self.g.shape[2])
        step = max(1, _BLOCK // max(1, groups * inputs * positions))
        return [slice(at, at + step) for at in range(0, patients, step)]

    def materialised(self) -> Rows:
        """Each patient's gradient, in float32."""
        parts = [
            self.g[part] @ self.unfold(self.a[part]).transpose(2, 3)
            for part in self.parts(len(self.g))
        ]
        values = [torch.cat(parts).view(-1, *self.weight.shape)]
        if self.bias is not None:
            values.append(self.g.sum(3).flatten(1))
        return Rows(self.parameters, values)

    def measure(self) -> None:
        """Norms and amplitudes, without keeping any patient's gradient."""
        _, groups, outputs, positions = self.g.shape
        inputs = self.weight.numel() // (groups * outputs)
        squares, amplitudes = [], []
        for part in self.parts(len(self.g)):
            a, g = self.a[part].double(), self.g[part].double()
            if positions * (inputs + outputs) < inputs * outputs:
                uu, gg = self.gram(a), g.transpose(2, 3) @ g
                lengths = uu.diagonal(dim1=2, dim2=3) * gg.diagonal(dim1=2, dim2=3)
                square = uu.mul_(gg).sum((1, 2, 3)).clamp_(min=0.0)
            else:
                u = self.unfold(a)
                lengths = _square_lengths(u, 2) * _square_lengths(g, 2)
                square = (g @ u.transpose(2, 3)).square_().sum((1, 2, 3))
            amplitude = lengths.sqrt().sum(2).square().sum(1)
            if self.bias is not None:
                square += g.sum(3).square().sum((1, 2))
                amplitude += g.abs().sum(3).square().sum((1, 2))
            squares.append(square)
            amplitudes.append(amplitude)
        self._square, self._amplitude = torch.cat(squares), torch.cat(amplitudes)

    def square_norms(self) -> Tensor:
        return self._square

    def amplitudes(self) -> Tensor:
        return self._amplitude

    def terms(self) -> list[Tensor]:
        return [self.a, self.g]

    def rows(self) -> list[Tensor]:
        return self.materialised().values

    def add_to(self, sums: Sequence[Tensor], factors: Tensor, present: Present = None) -> None:
        a, g = _weighted(factors, present, self.a, self.g)
        weight = sums[0].view(g.shape[1], g.shape[2], -1)
        for part in self.parts(len(g)):
            of_outputs = g[part].permute(1, 2, 0, 3).flatten(2)
            weight.baddbmm_(of_outputs, self.columns(a[part].double()).transpose(1, 2))
        if self.bias is not None:
            sums[1].add_(g.sum((0, 3)).flatten())


@dataclass
class EmbeddingRows:
    """An Embedding: the rows g (n, T, d) of one patient added up by index (n, T)."""

    weight: Tensor
    index: Tensor
    g: Tensor

    @property
    def parameters(self) -> Sequence[Tensor]:
        return (self.weight,)

    def square_norms(self) -> Tensor:
        g, same = self.g.double(), self.index[:, :, None] == self.index[:, None, :]
        return ((g @ g.transpose(1, 2)) * same).sum((1, 2)).clamp_(min=0.0)

    def amplitudes(self) -> Tensor:
        return _square_lengths(self.g, 2).sqrt().sum(1).square()

    def terms(self) -> list[Tensor]:
        return [self.g]

    def rows(self) -> list[Tensor]:
        rows = self.g.new_zeros(len(self.g), *self.weight.shape)
        patient = torch.arange(len(self.g), device=self.g.device)[:, None].expand_as(self.index)
        rows.index_put_((patient, self.index), self.g, accumulate=True)
        return [rows]

    def add_to(self, sums: Sequence[Tensor], factors: Tensor, present: Present = None) -> None:
        index, g = _weighted(factors, present, self.index, self.g)
        sums[0].index_add_(0, index.flatten(), g.flatten(0, 1))


def sum_of_squares(squares: Sequence[Tensor]) -> Tensor:
    """(n,) of each layer or parameter -> (n,) of all."""
    return sum(squares[1:], start=squares[0])


def _square_lengths(values: Tensor, dim: int) -> Tensor:
    """Sums of squares in float64, over one dimension."""
    lengths: Tensor = torch.linalg.vector_norm(values, dim=dim, dtype=torch.float64)
    return lengths.square_()


def _weighted(factors: Tensor, present: Present, a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """a and factor times g in float64, of the patients who are present."""
    if present is not None:
        a, g = a[present], g[present]
    return a, g * factors.view(-1, *(1,) * (g.dim() - 1))


def _rows(values: Tensor, patients: int) -> Tensor:
    """(n m, ...) -> (n, m, ...)."""
    rows: Tensor = values.unflatten(0, (patients, len(values) // patients))
    return rows


def _together(values: Tensor) -> Tensor:
    """(n, m, ..., T) -> (n, ..., m T): a patient's rows are further positions."""
    return values.movedim(1, -2).flatten(-2)


def linear(layer: nn.Module, a: Tensor, g: Tensor, patients: int) -> LayerGradient:
    layer = cast(nn.Linear, layer)
    if a.dim() == 2 and len(a) == patients:
        return Outer(layer.weight, layer.bias, a, g)
    received, returned = (
        _rows(values, patients).flatten(1, -2).transpose(1, 2)[:, None] for values in (a, g)
    )
    return _chosen(
        Contraction(
            layer.weight,
            layer.bias,
            received,
            returned,
            unfold=lambda x: x,
            columns=lambda x: x.permute(1, 2, 0, 3).flatten(2),
            gram=lambda x: x.transpose(2, 3) @ x,
        )
    )


def convolution(layer: nn.Module, a: Tensor, g: Tensor, patients: int) -> LayerGradient:
    """Conv1d and Conv2d, as convolutions of two dimensions without padding of their own."""
    layer = cast(nn.Conv2d, layer)
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    if g.dim() == 3:
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    groups, shape = layer.groups, g.shape
    out_shape = (1, shape[2]) if len(shape) == 3 else (shape[2], shape[3])

    def unfold(x: Tensor) -> Tensor:
        windows = _windows(_padded(layer, x.flatten(0, 1)), kernel, stride, dilation)
        inputs = windows.reshape(len(windows), groups, -1, windows.shape[4] * windows.shape[5])
        return _together(_rows(inputs, len(x)))

    def columns(x: Tensor) -> Tensor:
        windows = _windows(_padded(layer, x.flatten(0, 1)), kernel, stride, dilation)
        return windows.permute(1, 2, 3, 0, 4, 5).reshape(
            groups, layer.weight[0].numel(), math.prod(windows.shape[4:]) * len(windows)
        )

    def gram(x: Tensor) -> Tensor:
        """Of shifted inputs, which need no unfolding, where neither strides nor several rows make
        that larger."""
        rows, x = x, _padded(layer, x.flatten(0, 1))
        high, wide = x.shape[2:]
        down, across = out_shape
        larger = (high * wide) ** 2 > (down * across) ** 2 * kernel[0] * kernel[1]
        if larger or len(x) > len(rows):
            u = unfold(rows)
            return u.transpose(2, 3) @ u
        flat = x.view(len(x), groups, -1, high * wide)
        pairs = (flat.transpose(2, 3) @ flat).view(len(x), groups, high, wide, high, wide)
        products = x.new_zeros(len(x), groups, down, across, down, across)
        for row in range(0, kernel[0] * dilation[0], dilation[0]):
            lines = slice(row, row + (down - 1) * stride[0] + 1, stride[0])
            for column in range(0, kernel[1] * dilation[1], dilation[1]):
                columns = slice(column, column + (across - 1) * stride[1] + 1, stride[1])
                products += pairs[:, :, lines, columns, lines, columns]
        return products.view(len(x), groups, down * across, down * across)

    out = _together(_rows(g.reshape(len(g), groups, shape[1] // groups, -1), patients))
    received = _rows(a, patients)
    return _chosen(Contraction(layer.weight, layer.bias, received, out, unfold, columns, gram))


def _windows(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """(n, channels, kernel rows, kernel columns, rows, columns): a view of the padded input."""
    n, channels, high, wide = x.shape
    down = (high - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    across = (wide - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    x = x.contiguous()
    batch, channel, row, column = x.stride()
    return x.as_strided(
        (n, channels, kernel[0], kernel[1], down, across),
        (
            batch,
            channel,
            row * dilation[0],
            column * dilation[1],
            row * stride[0],
            column * stride[1],
        ),
        x.storage_offset(),
    )


def _padded(layer: nn.Conv2d, a: Tensor) -> Tensor:
    """The input as the convolution sees it, in two dimensions, with its padding written out."""
    sides: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):
        if isinstance(layer.padding, str):
            reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            total = reach if layer.padding == "same" else 0
            sides += [total // 2, total - total // 2]
        else:
            sides += [layer.padding[axis]] * 2
    if any(sides):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        a = nn.functional.pad(a, sides, mode=mode)
    return a[:, :, None] if a.dim() == 3 else a


def _chosen(layer: Contraction) -> LayerGradient:
    """Kept gradients where they are small, measured ones otherwise."""
    made_of = (layer.a[0].numel() + layer.g[0].numel()) if len(layer.g) else 0
    if layer.outer <= _KEPT * made_of:
        return layer.materialised()
    layer.measure()
    return layer


def group_norm(layer: nn.Module, a: Tensor, g: Tensor, patients: int) -> LayerGradient:
    layer = cast(nn.GroupNorm, layer)
    n, channels = a.shape[:2]
    hat = nn.functional.group_norm(a, layer.num_groups, eps=layer.eps).view(n, channels, -1)
    return _scaled(
        layer,
        _together(_rows(hat, patients)),
        _together(_rows(g.reshape(n, channels, -1), patients)),
    )


def layer_norm(layer: nn.Module, a: Tensor, g: Tensor, patients: int) -> LayerGradient:
    layer = cast(nn.LayerNorm, layer)
    inner = math.prod(layer.normalized_shape)
    hat = nn.functional.layer_norm(a, layer.normalized_shape, eps=layer.eps)
    return _scaled(
        layer,
        hat.reshape(patients, -1, inner).transpose(1, 2),
        g.reshape(patients, -1, inner).transpose(1, 2),
    )


def _scaled(layer: nn.GroupNorm | nn.LayerNorm, hat: Tensor, g: Tensor) -> LayerGradient:
    """Scale and shift of normalised values, both (n, channels, T)."""
    parameters = [p for p in (layer.weight, layer.bias) if p is not None]
    values = [
        terms.sum(2).view(-1, *parameter.shape)
        for parameter, terms in zip(parameters, (hat * g, g), strict=False)
    ]
    return Rows(parameters, values)


def embedding(layer: nn.Module, a: Tensor, g: Tensor, patients: int) -> LayerGradient:
    layer = cast(nn.Embedding, layer)
    index, g = a.reshape(patients, -1), g.reshape(patients, -1, g.shape[-1])
    if layer.padding_idx is not None:
        g = g.masked_fill((index == layer.padding_idx)[:, :, None], 0.0)
    return EmbeddingRows(layer.weight, index, g)


def learned_positions(layer: nn.Module, a: Tensor, g: Tensor, patients: int) -> LayerGradient:
    layer = cast(LearnedPositions, layer)
    return Rows([layer.weight], [_rows(g, patients).sum(1)])


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
    nn.Embedding: embedding,
    LearnedPositions: learned_positions,
}


def rule_for(layer: nn.Module) -> Rule | None:
    """None where Opacus must do it: another type, or an option that changes what is computed."""
    if isinstance(layer, nn.Embedding) and (
        layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse
    ):
        return None
    return RULES.get(type(layer))


def positions(layer: nn.Module, gradient: Tensor, patients: int) -> int:
    """T, from the gradient of the patients' outputs: values of one over the weight's outputs."""
    weight = cast("Tensor", layer.weight)  # every layer with a rule has one
    outputs = gradient.shape[-1] if isinstance(layer, nn.Embedding) else len(weight)
    return gradient.numel() // (patients * outputs)
