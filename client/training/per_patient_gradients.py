"""Which way a model's per-patient gradients are made: bookkeeping where it can, Opacus' hooks else.

The choice is tried out on made-up patients before the first real one: what a pass says of each of
them must be what autograd says of their weighted sum. So a layer that is used twice, a weight that
is used beside its layer or a model that mixes patients is found here, and never by a hospital.
Then the blocks are chosen in which no patient changes a bit of another's (`blocks`): the largest
that the memory allows and `independence` finds nothing against. Where only scores are summed with
noise (mode none), the same is done for scores alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor, nn

from client.training.blocks import ALONE, FIXED, LANES, Blocks
from client.training.forbidden_operations import forbidden_operation
from client.training.independence import Computed, dependent_layer
from client.training.layer_gradients import LayerGradient
from client.training.linear_chain import LinearChainGradients
from client.training.needs import Needs, Unsupported
from client.training.sampling import Batch, invented_labels
from protocol.errors import Code, WardroundError
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.random_streams import own_streams

if TYPE_CHECKING:
    from client.training.bookkeeping import BookkeepingModule, HookedModule

Pass: TypeAlias = "LinearChainGradients | BookkeepingModule | HookedModule"  # noqa: S105 (a type)
Outputs = Callable[[Tensor], Tensor]
"""A block's features -> what the model returns."""

_PATIENTS, _DRAWN = 3, 64
_TOLERANCE = 1e-2
"""Of a parameter's gradient, in float32: a mistake would be of the size of the gradient."""


_NARROWER = (Blocks(4, 4), ALONE)
"""What is tried after the widest blocks."""
_ROWS = 1 << 20
"""Values of patients' whole gradients up to which these are compared, too."""
_CHECKED: dict[Hashable, str | None] = {}
"""Results of the check in this process: a site trains many studies of one task."""


class PatientGradients:
    """Gradients of a block, patient by patient."""

    def __init__(self, task: Task, model: FlatModel, memory: int = 1 << 30) -> None:
        """memory: bytes that a block may take, where one of a single patient takes less."""
        self._task, self._model, self._memory = task, model, memory
        self._module: Pass | None = None
        self._hooks = False
        self._needs = Needs(0, 1)
        self._blocks = ALONE
        self._dependent: str | None = None
        self._scoring: tuple[Outputs, Blocks] | None = None
        self._choose: Callable[[tuple[Blocks, ...]], tuple[Blocks, str | None]] | None = None

    @property
    def bookkeeping(self) -> bool:
        """Whether the bookkeeping pass is what was chosen."""
        return self._module is not None and not self._hooks

    def of(self, block: Batch) -> list[LayerGradient]:
        """Of a block, from float32 activations.

        Raises WardroundError(CONFIGURATION) where the model cannot be trained per patient.
        """
        try:
            return self._pass(self._settled(block.shape), block.on(self._model.device))
        except Unsupported:
            raise _untrainable(self._task, self._model.module) from None

    def scoring(self) -> tuple[Outputs, Blocks]:
        """The model's outputs for a block's features, and the blocks: those that gradients are made
        in, once that is settled, or those that `dependent_scores` found. Before, no claim of
        privacy rests on them."""
        outputs, blocks = self._scoring or self._widest_scoring()
        return partial(self._outputs, outputs), blocks

    def _widest_scoring(self) -> tuple[Outputs, Blocks]:
        try:
            return LinearChainGradients(self._model.module).outputs, LANES
        except Unsupported:
            return self._model.module, FIXED

    @torch.no_grad()
    def _outputs(self, outputs: Outputs, features: Tensor) -> Tensor:
        """As a model that is used, and no longer trained, returns them."""
        self._model.module.eval()
        try:
            return outputs(features.to(self._model.device))
        finally:
            self._model.module.train()

    def blocks(self, shape: tuple[int, ...]) -> Blocks:
        """In which features of this shape, of one patient, are to be computed."""
        self._settled(shape)
        return self._blocks

    def needs(self, shape: tuple[int, ...]) -> Needs:
        """What one patient with features of this shape takes."""
        self._settled(shape)
        return self._needs

    def forbidden(self, invented: Tensor, *, trains: bool) -> str | None:
        """What the model does with features of nobody, (N, ...), while it trains or else while it
        scores, that no patient's term may be made of; None where there is nothing."""
        task, module = self._task, self._model.module
        few = self._few(invented).on(self._model.device)

        def train() -> None:
            losses = task.losses(module(few.features), few.labels)
            torch.autograd.grad(losses.sum(), self._model.parameters, allow_unused=True)

        def score() -> None:
            task.scores(self._outputs(module, few.features))

        found = forbidden_operation(module, train) if trains else None
        return found or forbidden_operation(module, score)

    def settle(self, invented: Tensor) -> str | None:
        """Chooses pass and blocks by features of nobody, (N, ...). Returns the layer in which one
        patient's numbers depend on other patients', in whatever blocks; None where there is none.

        Raises WardroundError(CONFIGURATION) where the model cannot be trained per patient.
        """
        if self._module is not None:
            return self._dependent
        self._module = module = self._tried(invented) or self._hooked(invented)
        widest = LANES if isinstance(module, LinearChainGradients) else FIXED
        self._choose = partial(
            self._largest_blocks,
            type(module).__name__,
            partial(self._computed, module),
            invented,
        )
        self._blocks, self._dependent = self._choose((widest, *_NARROWER))
        self._scoring = module.outputs, self._blocks
        return self._dependent

    def narrow(self) -> bool:
        """Chooses blocks of another, smaller shape, as `settle` did, for whatever is computed from
        now on; False where there are none. A patient's bits may be others in them."""
        outputs, blocks = self._scoring or self._widest_scoring()
        narrower = tuple(one for one in _NARROWER if one.multiple < blocks.multiple)
        if not narrower:
            return False
        chosen, dependent = self._choose(narrower) if self._choose else (narrower[0], None)
        if dependent is not None:
            return False
        self._blocks, self._scoring = chosen, (outputs, chosen)
        return True

    def settle_scores(self, invented: Tensor) -> str | None:
        """The same for scores alone, of a model that is asked for no per-patient gradient."""
        outputs, widest = self._widest_scoring()
        compute = partial(self._scored, outputs)
        self._choose = partial(self._largest_blocks, "scores", compute, invented)
        blocks, dependent = self._choose((widest, *_NARROWER))
        self._scoring = outputs, blocks
        return dependent

    def _settled(self, shape: tuple[int, ...]) -> Pass:
        """Settles by numbers drawn in this shape of a patient's features where nothing is settled:
        no claim of privacy rests on that."""
        if self._module is None:
            self.settle(drawn_features(shape))
        return cast(Pass, self._module)

    def _pass(self, module: Pass, batch: Batch) -> list[LayerGradient]:
        task, labels = self._task, batch.labels
        if isinstance(module, LinearChainGradients):
            return module.gradients(batch.features, lambda out: task.slopes(out, labels))
        return module.gradients(batch.features, lambda out: task.losses(out, labels))

    def _largest_blocks(
        self, kind: str, compute: Computed, invented: Tensor, families: tuple[Blocks, ...]
    ) -> tuple[Blocks, str | None]:
        """kind: names `compute`, among all that a task may be asked. families: the widest first."""
        dependent: str | None = None
        for blocks in families:
            if blocks.multiple > 1 and blocks.multiple * self._needs.bytes > self._memory:
                continue
            fitting = blocks.within(self._memory // max(1, self._needs.bytes))
            dependent = self._found_dependent(kind, compute, fitting, invented)
            if dependent is None:
                return fitting, None
        return ALONE, dependent

    def _found_dependent(
        self, kind: str, compute: Computed, blocks: Blocks, invented: Tensor
    ) -> str | None:
        shape, model = tuple(invented.shape[1:]), self._model
        options, threads = tuple(sorted(self._task.options.items())), torch.get_num_threads()
        where = (blocks, shape, threads, str(model.device))
        key = (type(self._task), options, kind, repr(model.module), *where)
        if key not in _CHECKED:
            with own_streams():
                _CHECKED[key] = dependent_layer(
                    compute, blocks, model.flat, invented, self._task.outcome.label_shape
                )
        return _CHECKED[key]

    def _computed(self, module: Pass, block: Batch) -> Mapping[str, Tensor]:
        """All that a patient's term of a sum, score and histogram is made of."""
        block = block.on(self._model.device)
        gradients = {id(one.parameters[0]): one for one in self._pass(module, block)}
        forward: dict[str, Tensor] = {}
        backward: dict[str, Tensor] = {}
        for name, parameter in self._model.module.named_parameters():
            if (layer := gradients.get(id(parameter))) is None:
                continue
            forward[name], *parts = layer.terms()
            parts += [layer.square_norms()[:, None], layer.amplitudes()[:, None]]
            if len(block) * sum(p.numel() for p in layer.parameters) <= _ROWS:
                parts += layer.rows()
            backward |= {f"{name} {number}": part for number, part in enumerate(parts)}
        return forward | self._scored(module.outputs, block) | backward

    def _scored(self, outputs: Outputs, block: Batch) -> dict[str, Tensor]:
        """All that a score is made of."""
        of_block = self._outputs(outputs, block.features)
        return {"outputs": of_block, "scores": self._task.scores(of_block)[:, None]}

    def _tried(self, invented: Tensor) -> LinearChainGradients | BookkeepingModule | None:
        for kind in (LinearChainGradients, _bookkeeping):
            try:
                module: LinearChainGradients | BookkeepingModule = kind(self._model.module)
            except Unsupported:
                continue
            if self._agrees(module, invented):
                return module
            module.to_standard_module()
        return None

    def _hooked(self, invented: Tensor) -> HookedModule:
        from client.training.bookkeeping import HookedModule

        self._hooks = True
        try:
            module = HookedModule(self._model.module)
        except NotImplementedError:
            raise _untrainable(self._task, self._model.module) from None
        if not self._agrees(module, invented):
            module.to_standard_module()
            raise _untrainable(self._task, self._model.module)
        return module

    def _few(self, invented: Tensor) -> Batch:
        """A few of these patients."""
        places = torch.arange(_PATIENTS)
        labels = invented_labels(places, self._task.outcome.label_shape)
        return Batch(invented[places % len(invented)], labels)

    def _agrees(self, module: Pass, invented: Tensor) -> bool:
        """Whether a pass over patients that nobody is says what autograd says."""
        with own_streams(0):
            before = self._model.flat.clone()
            device = self._model.device
            self._model.flat.add_(torch.randn(before.shape).to(device), alpha=0.01)
            try:
                factors = torch.tensor([0.5, 2.0, 1.0], device=device)
                return self._compared(module, self._few(invented).on(device), factors)
            except Exception:  # hooks of layers that they cannot do fail in any way
                return False
            finally:
                self._model.flat.copy_(before)

    def _compared(self, module: Pass, batch: Batch, factors: Tensor) -> bool:
        parameters = self._model.parameters
        torch.default_generator.manual_seed(1)
        losses = self._task.losses(self._model.module(batch.features), batch.labels)
        expected = torch.autograd.grad((losses * factors).sum(), parameters)
        torch.default_generator.manual_seed(1)
        sums = {id(parameter): torch.zeros_like(parameter).double() for parameter in parameters}
        for layer in self._pass(module, batch):
            layer.add_to([sums[id(parameter)] for parameter in layer.parameters], factors.double())
        self._needs = module.needs(batch.features, lambda out: self._task.losses(out, batch.labels))
        size = float(torch.stack([one.norm() for one in expected]).norm())
        return all(
            float((sums[id(parameter)] - one).norm())
            <= _TOLERANCE * float(one.norm()) + 1e-5 * size
            for parameter, one in zip(parameters, expected, strict=True)
        )


def _bookkeeping(module: nn.Module) -> BookkeepingModule:
    """Where the chain does not do. It loads Opacus, for longer than the rest of a small study."""
    from client.training.bookkeeping import BookkeepingModule

    return BookkeepingModule(module)


def drawn_features(shape: tuple[int, ...]) -> Tensor:
    """(_DRAWN, *shape) uniform in [0, 1): where no task says what features of nobody are."""
    return torch.rand(_DRAWN, *shape, generator=torch.Generator().manual_seed(0))


_REPLACEMENTS: dict[type[nn.Module], str] = {
    nn.RNN: "opacus.layers.DPRNN with batch_first=True",
    nn.GRU: "opacus.layers.DPGRU with batch_first=True",
    nn.LSTM: "opacus.layers.DPLSTM with batch_first=True",
    nn.MultiheadAttention: "tasks.models.per_patient.Attention",
}
"""Layers of torch that compute whole batches in one piece -> those of which each part has gradients
of one patient."""


def replacement(module: nn.Module) -> tuple[str, str] | None:
    """(layer, what to take instead) of the first layer for which there is another."""
    for name, layer in module.named_modules():
        if (own := _REPLACEMENTS.get(type(layer))) is not None:
            return (
                f"{name} ({type(layer).__name__})".strip(),
                f"Take {own}, which computes the same.",
            )
    return None


def _untrainable(task: Task, module: nn.Module) -> WardroundError:
    what, remedy = replacement(module) or (
        "the whole",
        "The first dimension of every layer's input must be the patient; Opacus' ModuleValidator "
        "names layers that cannot do it and replacements.",
    )
    return WardroundError(
        Code.CONFIGURATION,
        f"The model of task {task.name} has no gradients that are one patient's each: {what}.",
        remedy=remedy,
    )
