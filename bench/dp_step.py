"""What one step of DP-SGD costs: plain SGD, Opacus' hooks, its fast gradient clipping, ours.

    python bench/dp_step.py [CASE ...]
    python bench/dp_step.py --device cuda resnet18-224-b16    on a machine with a GPU

Two threads. Every variant does whole steps on the same batch: forward, backward, clipping and noise
where there is privacy, update. Variants take turns, in an order drawn anew each time, since one
that gives gigabytes back slows the next; a figure is the ratio of medians. Noise of Opacus' two is
torch.normal's, ours comes from a cipher that the operating system's randomness keys. Memory is the
peak of a process of its own above what it held before the first step.

`hooks`: Opacus' `GradSampleModule`, which makes every patient's gradient. `ghost`: its
`GradSampleModuleFastGradientClipping`, which makes norms alone where it has a rule for a layer
(Linear, Embedding), and weighs the losses of a second backward pass (Li et al. 2022, section 4).

Bars are of a step of DP-SGD (mode local, `DPTrainer.private_steps`). Beside it, in the same turns,
is one `DPTrainer.clipped_sum` of mode distributed (`sum_times`): rounded by site, and without the
noise, which is added once a round. Norms and sums of both are in float64, as their proof asks.

With `--device` everything but noise and the cipher is on that device, prepared as a site prepares
it (no TF32, deterministic kernels), and memory is the device's. Beside the ratios, a device is
asked whether the self-check of a claim of privacy passes there, bit for bit, and how far its sum of
the same patients is from the processor's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn

from client.config.policy import Policy
from client.training.devices.choice import CPU, candidates
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Batch
from protocol.errors import WardroundError
from protocol.study.study import Privacy
from support.figure import figure, load
from tasks.base import Task
from tasks.models.adapters import with_lora
from tasks.models.networks import of_torchvision, resnet18
from tasks.schema import Column, Schema

LR, CLIP, NOISE = 1e-4, 1.0, 1.0
APART = 1e-2
"""Of its norm, by float32 terms made in another order; a mistake would be as large as the sum."""
VARIANTS = ("sgd", "hooks", "ghost", "ours", "sum")


def vit_tiny_lora() -> nn.Module:
    """LoRA of rank 8 on queries and values, and the last layer: 74,000 of 5.6 million weights."""
    network = of_torchvision("vit_tiny")
    return with_lora(network, "query", "value", rank=8, trained=("heads",))


def perceptron(inputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """One model and batch; `steps` in a turn, `turns` in all."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    steps: int
    turns: int
    seconds: float
    memory: float | None = None


CASES = (
    Case("mlp13-b32", partial(perceptron, 13), (32, 13), 20, 41, 1.2),
    Case("mlp100-b256", partial(perceptron, 100), (256, 100), 20, 41, 1.3),
    Case("resnet18-64-b64", resnet18, (64, 64, 64), 1, 7, 1.9, 2.0),
    Case("resnet18-224-b16", resnet18, (16, 224, 224), 1, 5, 2.0),
    Case("vit-tiny-lora-224-b16", vit_tiny_lora, (16, 3, 224, 224), 1, 5, 2.0),
)


class Made(Task):
    """A case as a task."""

    name = "dp_step"
    title = "a model of the benchmark"
    schema = Schema((Column("a", "a number"),), "y", "a label")

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def model(self) -> nn.Module:
        return self.case.build()


def turn(case: Case, variant: str, where: torch.device) -> Callable[[], None]:
    """Something that takes `case.steps` steps and is done when it returns."""
    torch.manual_seed(0)
    batch = Batch(torch.randn(case.shape), (torch.arange(case.shape[0]) % 2).float())
    task = Made(case)
    if variant in ("ours", "sum"):
        return ours(task, batch, variant, where)
    backward, optimiser = passes(task, batch.on(where), variant, where)

    def steps() -> None:
        for _ in range(case.steps):
            optimiser.zero_grad()
            backward()
            optimiser.step()
        if where.type == "cuda":
            torch.cuda.synchronize(where)

    return steps


def passes(
    task: Made, batch: Batch, variant: str, where: torch.device
) -> tuple[Callable[[], None], torch.optim.Optimizer]:
    """Forward and backward, and what steps then, of plain SGD or of Opacus."""
    model = task.case.build().to(where)
    optimiser = torch.optim.SGD(model.parameters(), lr=LR)

    def losses(through: nn.Module) -> Tensor:
        return task.losses(through(batch.features), batch.labels)

    if variant == "sgd":
        return lambda: losses(model).mean().backward(), optimiser
    plan = {
        "noise_multiplier": NOISE,
        "max_grad_norm": CLIP,
        "expected_batch_size": len(batch),
    }
    if variant == "hooks":
        hooked = GradSampleModule(model, loss_reduction="sum")
        return lambda: losses(hooked).sum().backward(), DPOptimizer(optimiser, **plan)
    fast = GradSampleModuleFastGradientClipping(model, loss_reduction="sum", max_grad_norm=CLIP)
    stepper = DPOptimizerFastGradientClipping(optimiser, **plan)

    def twice() -> None:
        DPTensorFastGradientClipping(fast, stepper, losses(fast), "sum").backward()

    return twice, stepper


def ours(task: Made, batch: Batch, variant: str, where: torch.device) -> Callable[[], None]:
    learner, case = DPTrainer(task, 0, 1 << 34, where), task.case
    weights = learner.model.weights()
    plan = Privacy(mode="local", clip_norm=CLIP, noise_multiplier=NOISE, epsilon=1.0)

    def steps() -> None:
        if variant == "ours":
            learner.private_steps(weights, lambda: batch, case.steps, LR, len(batch), plan)
            return
        for _ in range(case.steps):
            learner.clipped_sum(weights, batch, CLIP, 2**20, "site")

    return steps


def seconds(case: Case, where: torch.device) -> dict[str, float]:
    """Median seconds of a turn, by variant."""
    turns = {variant: turn(case, variant, where) for variant in VARIANTS}
    taken: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for steps in turns.values():
        steps()
    order = random.Random(0)
    for _ in range(case.turns):
        for variant, steps in order.sample(list(turns.items()), len(turns)):
            started = time.perf_counter()
            steps()
            taken[variant].append(time.perf_counter() - started)
    return {variant: statistics.median(found) for variant, found in taken.items()}


def peak(case: Case, variant: str, where: torch.device) -> float:
    """MiB above what the process held before its first step."""
    asked = [sys.executable, __file__, case.name, "--peak", variant, "--device", str(where)]
    return float(json.loads(subprocess.run(asked, check=True, capture_output=True).stdout))


def one_peak(case: Case, variant: str, where: torch.device) -> None:
    steps = turn(dataclasses.replace(case, steps=1), variant, where)
    before = _most(where)
    steps()
    steps()
    print(json.dumps((_most(where) - before) / 1024))


def _most(where: torch.device) -> int:
    """KiB. Not getrusage's: a process begins with the peak of whoever started it there."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where) // 1024
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def same(case: Case, where: torch.device) -> Iterator[bool]:
    """Whether a claim of privacy holds on a device, and its sums are those of the processor."""
    task, (size, *shape) = Made(case), case.shape
    drawn = torch.Generator().manual_seed(0)
    features = torch.randn(size, *shape, generator=drawn)
    learner = DPTrainer(task, 0, 1 << 34, where)
    try:
        learner.try_out(features, in_floats=True)
        why = ""
    except WardroundError as error:
        why = f"{error.message} {error.remedy}"
    passed = f"dp_step {case.name}: the self-check passes on {where}"
    yield figure(passed, float(not why), "of 1", 1.0, least=True, why=why)
    if why:
        return
    batch = Batch(features, (torch.arange(size) % 2).float())
    weights = learner.model.weights()
    there, here = (
        one.clipped_sum(weights, batch, CLIP, 2**20, "site").astype(float)
        for one in (learner, DPTrainer(task, 0, 1 << 34))
    )
    yield figure(
        f"dp_step {case.name}: a sum on {where} from the processor's",
        float(np.linalg.norm(there - here) / np.linalg.norm(here)),
        "of its norm",
        APART,
    )


def main(names: list[str], where: torch.device) -> int:
    holds: list[bool] = []
    for case in (case for case in CASES if not names or case.name in names):
        if where != CPU:
            holds += same(case, where)
        taken = seconds(case, where)
        times = {variant: round(found / taken["sgd"], 2) for variant, found in taken.items()}
        holds.append(
            figure(
                f"dp_step {case.name}: a private step over plain SGD",
                taken["ours"] / taken["sgd"],
                "times",
                case.seconds,
                hooks_times=times["hooks"],
                ghost_times=times["ghost"],
                sum_times=times["sum"],
                sgd_ms=round(1000 * taken["sgd"] / case.steps, 3),
                load=load(),
            )
        )
        if case.memory is not None:
            peaks = {variant: peak(case, variant, where) for variant in VARIANTS}
            holds.append(
                figure(
                    f"dp_step {case.name}: peak memory of a private step over plain SGD",
                    peaks["ours"] / peaks["sgd"],
                    "times",
                    case.memory,
                    hooks_times=round(peaks["hooks"] / peaks["sgd"], 2),
                    ghost_times=round(peaks["ghost"] / peaks["sgd"], 2),
                    sum_times=round(peaks["sum"] / peaks["sgd"], 2),
                    sgd_mib=round(peaks["sgd"]),
                )
            )
    return 0 if all(holds) else 1


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    by_name = {case.name: case for case in CASES}
    parser = argparse.ArgumentParser(description="What one step of DP-SGD costs.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(by_name)}; all")
    parser.add_argument("--peak", choices=VARIANTS, help="print the memory of one variant alone")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    given = parser.parse_args()
    if unknown := set(given.cases) - set(by_name):
        parser.error(f"no case is called {', '.join(sorted(unknown))}")
    try:
        where = candidates(Policy(device=given.device))[0].device
    except (WardroundError, ValueError) as error:
        parser.error(str(error))
    if given.peak:
        one_peak(by_name[given.cases[0]], given.peak, where)
    else:
        sys.exit(main(given.cases, where))
