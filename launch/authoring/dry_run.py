"""A task tried out in every privacy mode, on patients of nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never, get_args

from client.training.devices.choice import Device
from client.training.self_check import self_check
from protocol.errors import Code, WardroundError
from protocol.privacy.calibration import sum_rounding
from protocol.study.privacy_mode import Mode, traits_of
from tasks import contract
from tasks.base import Task
from tasks.flat_model import FlatModel

_MEMORY = 1 << 30
"""Bytes for per-patient gradients, as `DPTrainer` has them by default."""


@dataclass(frozen=True)
class ModeResult:
    """A mode, and why a study in it is refused; "" where it is not."""

    mode: str
    problem: str = ""
    remedy: str = ""


def check_task(task: Task) -> None:
    """For a task's own tests. Raises WardroundError(CONFIGURATION) where it breaks its contract, or
    where a study of it would be refused in some mode."""
    for result in results(task):
        if result.problem:
            raise refused(result)


def results(task: Task) -> list[ModeResult]:
    """Each mode, and mode none with a noised evaluation. Raises WardroundError(CONFIGURATION) where
    the task breaks the contract, which no mode is without."""
    contract.check(task)
    found = [ModeResult("none")]
    found.append(_tried("none, evaluation=noised", task, trains=False, in_floats=False))
    for mode in get_args(Mode):
        match traits_of(mode).training:
            case "plain_steps":
                continue
            case "dp_sgd":
                in_floats = True
            case "clipped_sum":
                in_floats = sum_rounding(FlatModel(task, 0).layout.size) == "site"
            case never:
                assert_never(never)
        found.append(_tried(mode, task, trains=True, in_floats=in_floats))
    return found


def _tried(mode: str, task: Task, *, trains: bool, in_floats: bool) -> ModeResult:
    try:
        self_check(task, trains=trains, in_floats=in_floats, devices=(Device(memory=_MEMORY),))
    except WardroundError as error:
        return ModeResult(mode, error.message, error.remedy)
    return ModeResult(mode)


def refused(result: ModeResult) -> WardroundError:
    """The error for a mode that is refused."""
    message = f"Refused with privacy={result.mode}: {result.problem}"
    return WardroundError(Code.CONFIGURATION, message, remedy=result.remedy)
