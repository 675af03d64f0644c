"""The bookkeeping pass says what Opacus' hooks say of every patient, or leaves it to them."""

import copy
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.layers import DPGRU, DPLSTM, DPRNN
from torch import Tensor, nn

from client.training.bookkeeping import BookkeepingModule, HookedModule
from client.training.clipping import CertifiedSum, part_size, patient_rows
from client.training.dp_trainer import DPTrainer
from client.training.layer_gradients import RULES
from client.training.linear_chain import LinearChainGradients
from client.training.needs import Unsupported
from client.training.per_patient_gradients import PatientGradients
from client.training.sampling import Batch
from protocol.errors import Code, WardroundError
from protocol.secagg.fixed_point import (
    SITE_POSITIONS,
    SITE_SLACK,
    SITE_TERMS,
    round_sum,
    sensitivity,
)
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.models.per_patient import Attention, LearnedPositions
from tasks.schema import Column, Schema

CLIP = 0.7


def summed(outputs: Tensor) -> Tensor:
    """A loss of no special form: every output counts, each differently."""
    flat = outputs.flatten(1)
    return (flat.sin() * torch.linspace(0.5, 1.5, flat.shape[1])).sum(1)


def slopes(outputs: Tensor) -> Tensor:
    with torch.enable_grad():
        outputs = outputs.detach().requires_grad_()
        return torch.autograd.grad(summed(outputs).sum(), outputs)[0]


def grad_sample(parameter: nn.Parameter) -> Tensor | None:
    """What Opacus hangs on a parameter, which torch's own type does not have."""
    return cast(Tensor | None, cast(Any, parameter).grad_sample)


def hooked_rows(module: nn.Module, features: Tensor) -> Tensor:
    """(n, P) from Opacus' own hooks."""
    wrapped = GradSampleModule(copy.deepcopy(module), loss_reduction="sum")
    summed(wrapped(features)).sum().backward()
    return torch.cat([cast(Tensor, p.grad_sample).flatten(1) for p in wrapped.parameters()], dim=1)


def alone_rows(module: nn.Module, features: Tensor) -> Tensor:
    """(n, P) from autograd, one patient at a time."""
    rows = []
    for row in features:
        module.zero_grad()
        summed(module(row[None])).sum().backward()
        rows.append(torch.cat([cast(Tensor, p.grad).flatten() for p in module.parameters()]))
    module.zero_grad()
    return torch.stack(rows)


def opacus_sum(rows: Tensor) -> Tensor:
    """As `DPOptimizer.clip_and_accumulate` forms it, in float64."""
    rows = rows.double()
    factors: Tensor = (CLIP / (rows.norm(dim=1) + 1e-6)).clamp(max=1.0)
    return (factors[:, None] * rows).sum(0)


def certified(
    passed: LinearChainGradients | BookkeepingModule,
    module: nn.Module,
    features: Tensor,
    losses: Callable[[Tensor], Tensor] = summed,
) -> Tensor:
    """(P,) the sum of clipped gradients."""
    total = CertifiedSum(list(module.parameters()), CLIP, len(features), 1)
    total.add(passed.gradients(features, losses), len(features))
    return total.flat


def check(
    module: nn.Module,
    features: Tensor,
    *,
    hooks: bool = True,
    passing: type[LinearChainGradients | BookkeepingModule] = BookkeepingModule,
) -> None:
    """Rows and sums against the hooks' (or one patient at a time, where Opacus
    cannot do the layer), relative to what they may be."""
    expected = hooked_rows(module, features) if hooks else alone_rows(module, features)
    size = float(expected.norm(dim=1).max()) + 1e-3
    passed = passing(module)
    given = slopes if passing is LinearChainGradients else summed
    parameters = list(module.parameters())
    rows = patient_rows(passed.gradients(features, given), parameters)
    np.testing.assert_allclose(rows / size, expected / size, atol=1e-5)
    at_most = CLIP * len(features)
    found = certified(passed, module, features, given)
    # clipped a little more, by the bound on rounding errors; see `CertifiedSum`
    np.testing.assert_allclose(found / at_most, opacus_sum(expected) / at_most, atol=2e-3)
    assert len(features) > 1 or float(found.norm()) <= CLIP
    assert all(p.requires_grad for p in parameters)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def convolutions(draw: st.DrawFn, dimensions: int) -> tuple[nn.Module, Tensor]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 4))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(dimensions))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(dimensions))
    text = draw(st.sampled_from([None, None, "same", "valid"]))
    stride = (1,) * dimensions
    padding: Any = text
    if text is None:
        stride = tuple(draw(st.integers(1, 3)) for _ in range(dimensions))
        padding = tuple(draw(st.integers(0, 2)) for _ in range(dimensions))
    convolution: Any = nn.Conv1d if dimensions == 1 else nn.Conv2d
    made = convolution(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"])),
    )
    size = tuple(draw(st.integers(5, 9)) for _ in range(dimensions))
    seed = draw(st.integers(0, 10**6))
    return made, random(seed, draw(st.integers(1, 4)), inputs, *size)


@settings(max_examples=60, deadline=None)
@given(st.one_of(convolutions(1), convolutions(2)))
def test_convolutions(case: tuple[nn.Module, Tensor]) -> None:
    """Opacus knows neither padding modes nor uneven "same" paddings."""
    layer, features = case
    conv = cast(nn.Conv2d, layer)
    known = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    check(layer, features, hooks=known)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.booleans(), st.data())
def test_linear(n: int, inputs: int, outputs: int, bias: bool, data: st.DataObject) -> None:
    between = data.draw(st.sampled_from([(), (1,), (4,), (2, 3), (30,)]))
    layer = nn.Linear(inputs, outputs, bias=bias)
    check(layer, random(data.draw(st.integers(0, 10**6)), n, *between, inputs))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.GroupNorm(2, 6), (3, 6, 5, 4)),
        (nn.GroupNorm(3, 6), (3, 6, 7)),
        (nn.GroupNorm(1, 6), (2, 6)),
        (nn.LayerNorm(5), (3, 5)),
        (nn.LayerNorm((4, 5)), (3, 2, 4, 5)),
        (nn.LayerNorm(5, bias=False), (3, 7, 5)),
    ],
)
def test_normalisation(layer: nn.Module, shape: tuple[int, ...]) -> None:
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(random(1, *p.shape))
    by_opacus = not (isinstance(layer, nn.LayerNorm) and layer.bias is None)
    check(layer, random(2, *shape), hooks=by_opacus)


@pytest.mark.parametrize("padding", [None, 3])
def test_embedding(padding: int | None) -> None:
    index = torch.randint(0, 7, (5, 4), generator=torch.Generator().manual_seed(4))
    check(
        nn.Sequential(nn.Embedding(7, 3, padding_idx=padding), nn.Linear(3, 2)),
        index,
        hooks=padding is None,
    )


class OfEach(nn.Module):
    """A layer of each of a patient's rows, as of each of several pictures; then all of them."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x.flatten(0, 1))
        out: Tensor = made.unflatten(0, x.shape[:2]).tanh()
        return out


@settings(max_examples=60, deadline=None)
@given(st.one_of(convolutions(1), convolutions(2)), st.integers(1, 3), st.integers(1, 3))
def test_a_convolution_of_each_picture_of_a_patient(
    case: tuple[nn.Module, Tensor], patients: int, pictures: int
) -> None:
    layer, features = case
    seed = int(features.abs().sum() * 1000)
    check(OfEach(layer), random(seed, patients, pictures, *features.shape[1:]), hooks=False)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(5, 2), (5,)),
        (nn.Linear(5, 40, bias=False), (5,)),
        (nn.Linear(5, 2), (3, 5)),
        (nn.Conv2d(2, 40, 3), (2, 5, 4)),
        (nn.GroupNorm(2, 6), (6, 5, 4)),
        (nn.LayerNorm(5), (5,)),
        (nn.LayerNorm((4, 5)), (2, 4, 5)),
        (LearnedPositions(torch.ones(3, 5)), (3, 5)),
    ],
)
@pytest.mark.parametrize("pictures", [1, 4])
def test_other_layers_of_each_picture_of_a_patient(
    layer: nn.Module, shape: tuple[int, ...], pictures: int
) -> None:
    check(OfEach(layer), random(3, 3, pictures, *shape), hooks=False)


def test_the_codes_of_each_picture_of_a_patient() -> None:
    index = torch.randint(0, 7, (3, 2, 4), generator=torch.Generator().manual_seed(4))
    check(OfEach(nn.Embedding(7, 3)), index, hooks=False)


def test_several_pictures_count_as_positions_and_bytes_of_their_patient() -> None:
    """The proof of a sum in floating point is about the terms of a patient."""
    one, four = (
        BookkeepingModule(OfEach(nn.Conv2d(1, 2, 3))).needs(random(0, 3, m, 1, 6, 6), summed)
        for m in (1, 4)
    )
    assert (one.positions, four.positions) == (16, 64)
    assert four.bytes == 4 * one.bytes


class PicturesMixed(nn.Module):
    """Rows of one patient do not stand beside one another: the trial tells."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.view(len(x), 2, 3)
        made: Tensor = self.layer(rows.transpose(0, 1).flatten(0, 1))
        out: Tensor = self.head(made.unflatten(0, (2, len(x))).sum(0).tanh())
        return out


class Residual(nn.Module):
    """Every kind of layer in one, with an in-place ReLU and a sum of two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.body = nn.Conv2d(8, 8, 3, padding="same", groups=2, bias=False)
        self.wide = nn.Conv2d(8, 64, 3, padding=1, bias=False)
        self.over_time = nn.Conv1d(64, 6, 2, dilation=2)
        self.last = nn.LayerNorm(6)
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.stem(x))
        x = x + self.body(self.norm(x))
        x = self.over_time(self.wide(x).flatten(2)).tanh()
        out: Tensor = self.head(self.last(x.mean(2)))
        return out


def test_a_whole_network() -> None:
    """Opacus cannot: of the in-place ReLU."""
    torch.manual_seed(0)
    check(Residual(), random(3, 5, 2, 9, 8), hooks=False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_patient_without_a_finite_gradient_adds_nothing(bad: float) -> None:
    torch.manual_seed(0)
    model = Residual()
    features = random(3, 5, 2, 9, 8)
    spoiled = torch.cat([features[:2], torch.full((1, 2, 9, 8), bad), features[2:]])

    def losses(outputs: Tensor) -> Tensor:
        return outputs[:, 0] ** 4

    passed = BookkeepingModule(model)
    clean = certified(passed, model, features, losses)
    found = certified(passed, model, spoiled, losses)
    assert bool(found.isfinite().all())
    if not np.isfinite(bad):
        torch.testing.assert_close(found, clean, atol=1e-5, rtol=1e-4)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.inner(torch.tanh(self.inner(x)))))
        return out


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.two.weight = self.one.weight
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.two(torch.tanh(self.one(x)))))
        return out


class Beside(Twice):
    """Uses a weight without its layer, too: only a comparison with autograd can tell."""

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.tanh(self.inner(x))
        out: Tensor = self.head(inner + nn.functional.linear(x, self.inner.weight))
        return out


class Overwritten(Twice):
    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.0
        inner = self.inner(x)
        x.add_(1.0)
        out: Tensor = self.head(inner)
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = DPLSTM(2, 4, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.cell(x.view(-1, 3, 2))[0][:, -1])
        return out


class Mixing(Twice):
    """The mean over patients: no gradient of this model is one patient's."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.inner(x)) * x.mean(0))
        return out * out.mean()


def task(built: Callable[[], nn.Module]) -> Task:
    class Made(Task):
        name = "made"
        title = "made for a test"
        schema = Schema((Column("a", "a number"),), "y", "a label")

        def model(self) -> nn.Module:
            return built()

    return Made()


def batch(size: int, *shape: int) -> Batch:
    return Batch(random(size, size, *shape), (torch.arange(size) % 2).float())


class NormOfEach(nn.Module):
    """A layer that only Opacus knows, of each of two pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = OfEach(nn.RMSNorm(3)), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(x.view(len(x), 2, 3)).mean(1))
        return out


@pytest.mark.parametrize("built", [Twice, Tied, Recurrent, NormOfEach])
def test_what_bookkeeping_cannot_do_goes_to_opacus(built: Callable[[], nn.Module]) -> None:
    """And is right there: one patient at a time by autograd says the same."""
    made, data = task(built), batch(5, 6)
    model = FlatModel(made, 1)
    gradients = PatientGradients(made, model)
    rows = patient_rows(gradients.of(data), model.parameters)
    assert not gradients.bookkeeping
    for row in range(len(data)):
        losses = made.losses(model.module(data.features[row : row + 1]), data.labels[row : row + 1])
        alone = torch.autograd.grad(losses.sum(), model.parameters)
        expected = torch.cat([one.flatten() for one in alone]).numpy()
        np.testing.assert_allclose(rows[row], expected, atol=1e-6)


@pytest.mark.parametrize("built", [Beside, Mixing, Overwritten, PicturesMixed])
def test_a_model_without_gradients_of_one_patient_is_refused(
    built: Callable[[], nn.Module],
) -> None:
    """Both ways would be silently wrong about it; the trial on made-up patients tells."""
    with pytest.raises(WardroundError) as refused:
        DPTrainer(task(built), 1).clipped_sum(
            FlatModel(task(built), 1).weights(), batch(4, 6), 1, 64
        )
    assert refused.value.code is Code.CONFIGURATION


def test_the_usual_layers_are_kept_from_opacus() -> None:
    made = task(lambda: nn.Sequential(nn.Unflatten(1, (2, 9, 8)), Residual()))
    model = FlatModel(made, 1)
    gradients = PatientGradients(made, model)
    gradients.of(batch(3, 144))
    assert gradients.bookkeeping
    assert gradients.needs((144,)).positions == 20


def test_a_subclass_of_a_known_layer_is_not_taken_for_it() -> None:
    class Standardised(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight - self.weight.mean(), self.bias)

    assert Standardised not in RULES
    with pytest.raises(Unsupported):
        BookkeepingModule(nn.Sequential(Standardised(6, 1)))


def test_an_input_that_is_overwritten_is_noticed() -> None:
    with pytest.raises(Unsupported):
        BookkeepingModule(Overwritten()).gradients(random(1, 3, 6), summed)


def test_what_a_pass_leaves_behind() -> None:
    """No tensor of a patient hangs on the model, and no gradient of autograd."""
    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))
    passed = BookkeepingModule(module)
    passed.gradients(random(1, 3, 6), summed)
    assert all(p.grad is None and grad_sample(p) is None for p in module.parameters())
    passed.to_standard_module()
    assert not module[0]._forward_hooks
    assert not hasattr(module[0].weight, "grad_sample")


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([1, 4, 1000]))
def test_neighbouring_sums_of_a_site_stay_within_the_sensitivity(
    seed: int, patients: int, memory: int
) -> None:
    """With one patient more, in whatever parts, the rounded sum moves as far as is accounted."""
    made, scale = task(lambda: nn.Sequential(nn.Unflatten(1, (2, 9, 8)), Residual())), 2**12
    weights = FlatModel(made, 1).weights()
    learner = DPTrainer(made, 1, memory=memory * 100_000)
    data = Batch(10 * random(seed, patients, 144), (torch.arange(patients) % 2).float())
    fewer = Batch(data.features[1:], data.labels[1:])
    one = learner.clipped_sum(weights, data, CLIP, scale, "site")
    moved = one - learner.clipped_sum(weights, fewer, CLIP, scale, "site")
    bound = sensitivity(scale, len(weights), "site", SITE_SLACK)
    assert np.linalg.norm(moved.astype(float)) <= bound.l2
    assert np.abs(one).max() > 0


def test_both_roundings_say_the_same_but_for_rounding() -> None:
    made, scale = task(lambda: nn.Sequential(nn.Unflatten(1, (2, 9, 8)), Residual())), 2**16
    weights, data = FlatModel(made, 1).weights(), batch(20, 144)
    learner = DPTrainer(made, 1)
    by_patient = learner.clipped_sum(weights, data, CLIP, scale)
    by_site = learner.clipped_sum(weights, data, CLIP, scale, "site")
    assert np.abs(by_patient - by_site).max() <= 10 + 2e-3 * scale
    assert np.abs(by_patient).max() > scale / 100


def test_a_certified_norm_is_never_below_the_norm() -> None:
    """Terms that cancel: what is left is rounding error, and is clipped as if it were not."""
    a = torch.cat([random(1, 1, 400, 30), -random(1, 1, 400, 30)], dim=1)
    layer = nn.Linear(30, 40, bias=False)
    passed = BookkeepingModule(layer)
    sums = certified(passed, layer, a * 1e6, lambda out: out.flatten(1).sum(1))
    assert float(sums.norm()) <= CLIP
    integers = round_sum(sums.numpy(), CLIP, 2**10)
    assert np.linalg.norm(integers.astype(float)) <= 2**10


def test_a_norm_that_cancels_even_in_float64_is_bounded() -> None:
    """Two positions that differ by one unit in the last place of one input: the Gram product is
    smaller than its rounding errors, the gradient far longer than the clip norm."""
    layer = nn.Linear(1000, 50, bias=False)
    passed = BookkeepingModule(layer)
    for seed in range(20):
        one = random(seed, 1, 1, 1000) * 1e9
        other = -one
        other[..., 0] = torch.nextafter(other[..., 0], torch.tensor(float("inf")))
        a = torch.cat([one, other], dim=1)
        sums = certified(passed, layer, a, lambda out: out.flatten(1).sum(1))
        assert float(sums.norm()) <= CLIP


def test_parts_are_as_small_as_the_proof_needs() -> None:
    for patients, positions in ((1, 1), (100, 50_000), (2**16, SITE_POSITIONS), (2**16, 1)):
        size = part_size(patients, positions)
        assert size >= 1
        assert patients * size * positions <= SITE_TERMS // 2


@pytest.mark.slow
def test_an_image_too_large_for_the_proof_is_refused() -> None:
    side = 370
    made = task(lambda: nn.Sequential(nn.Unflatten(1, (1, side, side)), nn.Conv2d(1, 1, 1), Pool()))
    learner = DPTrainer(made, 1)
    weights = FlatModel(made, 1).weights()
    with pytest.raises(WardroundError) as refused:  # whoever is in a sample, and be it nobody
        learner.try_out(batch(1, side * side).features, in_floats=True)
    assert refused.value.code is Code.CONFIGURATION
    learner.try_out(batch(1, side * side).features, in_floats=False)
    assert learner.clipped_sum(weights, batch(1, side * side), 1.0, 64).any()


class Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_hooks_of_opacus_are_off_outside_a_pass() -> None:
    model = Recurrent()
    hooked = HookedModule(model)
    model(random(1, 2, 6)).sum().backward()
    assert all(grad_sample(p) is None for p in model.parameters())
    assert len(hooked.gradients(random(1, 2, 6), summed)) == 6


class OverTime(nn.Module):
    """(B, T, 3) -> (B, 1): the last state of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(4, 1)

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.last(self.layer(rows)[0][:, -1])
        return answer


class Attending(nn.Module):
    """(B, T, 4) -> (B, 1): attention of a patient's rows to each other."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(4, 1)

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.last(self.layer(rows, rows, rows, need_weights=False)[0].mean(1))
        return answer


@pytest.mark.parametrize(
    ("model", "own"),
    [
        (OverTime(nn.RNN(3, 4, batch_first=True)), OverTime(DPRNN(3, 4, batch_first=True))),
        (OverTime(nn.GRU(3, 4, batch_first=True)), OverTime(DPGRU(3, 4, batch_first=True))),
        (OverTime(nn.LSTM(3, 4, batch_first=True)), OverTime(DPLSTM(3, 4, batch_first=True))),
        (
            Attending(nn.MultiheadAttention(4, 2, batch_first=True)),
            Attending(Attention(4, 2)),
        ),
    ],
)
def test_layers_over_whole_batches_are_named_with_those_of_opacus(
    model: nn.Module, own: nn.Module
) -> None:
    width = 3 if isinstance(model, OverTime) else 4
    rows = torch.rand(18, 5, width, generator=torch.Generator().manual_seed(0))
    plain, certified = cast(Any, model).layer, cast(Any, own).layer
    with pytest.raises(WardroundError, match=rf"layer \({type(plain).__name__}\)") as caught:
        DPTrainer(task(lambda: model), 0).try_out(rows, in_floats=False)
    assert f"{type(certified).__name__}" in str(caught.value.remedy)
    DPTrainer(task(lambda: own), 0).try_out(rows, in_floats=False)
