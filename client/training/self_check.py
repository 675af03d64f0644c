"""What a site tries out, on patients that nobody is, before a study that claims an epsilon.

The claim rests on one patient's part of a sum depending on that patient and the model alone, bit
for bit. A study for which that does not hold on this machine is refused before any privacy is
spent. Results are kept for the process: a site is asked for many studies of one task.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from client.training.devices.choice import CPU, Device
from client.training.dp_trainer import DPTrainer
from client.training.independence import dependent_features
from client.training.sampling import Batch
from protocol.errors import Code, WardroundError
from protocol.study.study import Scalar, Study
from tasks import contract
from tasks.base import Task

_VALUES = 1 << 20
"""Of all invented records' features, at most."""
_LEAST, _MOST = 9, 258
"""Invented records."""

_log = logging.getLogger("wardround.site")

Options = tuple[tuple[str, Scalar], ...]


def check_task(task: Task, study: Study, devices: Sequence[Device] = (Device(),)) -> Device:
    """What a study's task has to pass where it will train: its contract, and where the study claims
    an epsilon, all that the claim rests on. A query asks nothing of a task's methods.

    devices: those to try, in this order. Returns the first one where the task passes. Raises
    WardroundError(CONFIGURATION) of the last one, where it passes on none.
    """
    if study.query is not None:
        return devices[-1]
    contract.check(task)
    if study.privacy.epsilon is not None:
        return self_check(
            task,
            trains=study.privacy.traits.private,
            in_floats=study.sums_in_floats,
            devices=devices,
        )
    return _first(task, devices, lambda device: None)


def self_check(
    task: Task, *, trains: bool, in_floats: bool, devices: Sequence[Device] = (Device(),)
) -> Device:
    """trains, in_floats: as `DPTrainer.try_out` takes them. Returns the first of `devices` where no
    bit of one patient's part depends on another.

    Raises WardroundError: CONFIGURATION where no claim of privacy could hold on any, and what
    `Task.features` raises.
    """
    options, threads = _options(task), torch.get_num_threads()
    return _first(
        task,
        devices,
        lambda device: _checked(type(task), options, trains, in_floats, device, threads),
    )


def _first(task: Task, devices: Sequence[Device], check: Callable[[Device], None]) -> Device:
    """The first device on which the task computes and passes."""
    for device in devices:
        try:
            if device.device != CPU:
                _computes(type(task), _options(task), device)
            check(device)
            return device
        except WardroundError as error:
            if device is devices[-1]:
                raise
            _log.warning("task %s not on %s: %s", task.name, device.device, error.message)
    raise WardroundError(Code.INTERNAL, "There is no device to compute on.")


def invented_features(task: Task) -> Tensor:
    """(N, ...) float32, features of patients that nobody is.

    Raises WardroundError: CONFIGURATION where they depend on one another, and what `Task.features`
    raises.
    """
    return _invented(type(task), _options(task), torch.get_num_threads())


def _options(task: Task) -> Options:
    return tuple(sorted(task.options.items()))


@functools.cache
def _checked(
    kind: type[Task], options: Options, trains: bool, in_floats: bool, device: Device, threads: int
) -> None:
    task = kind(**dict(options))
    learner = DPTrainer(task, 0, device.memory, device.device)
    learner.try_out(invented_features(task), trains=trains, in_floats=in_floats)


@functools.cache
def _computes(kind: type[Task], options: Options, device: Device) -> None:
    """Raises WardroundError(CONFIGURATION) where a task's code knows the processor alone, or needs
    an operation of which the device has no kernel that gives the same bits twice."""
    task = kind(**dict(options))
    few = invented_features(task)[:_LEAST]
    try:
        learner = DPTrainer(task, 0, device.memory, device.device)
        weights = learner.model.weights()
        learner.plain_steps(weights, lambda: Batch(few, torch.zeros(len(few))), 1, 1e-6)
        learner.scores(weights, few)
    except (RuntimeError, TypeError) as error:  # of torch, on records of nobody
        raise WardroundError(
            Code.CONFIGURATION,
            f"Task {task.name} does not compute on {device.device}: {str(error).splitlines()[0]}",
            remedy="Let its model and loss make tensors on the device of what they are given, from "
            "operations that torch knows as deterministic there, or set policy.device to cpu.",
        ) from error


@functools.cache
def _invented(kind: type[Task], options: Options, threads: int) -> Tensor:
    task = kind(**dict(options))
    width = math.prod(task.features(task.schema.made_up(1)).shape)
    table = task.schema.made_up(max(_LEAST, min(_MOST, _VALUES // width)))
    if dependent_features(task.features, table):
        raise WardroundError(
            Code.CONFIGURATION,
            f"The features of task {task.name} that one record gets depend on which other records "
            "there are, on this machine: no claim of privacy holds.",
            remedy="Let `Task.features` make each row of its own record alone, or choose a study "
            "that claims no epsilon.",
        )
    return torch.from_numpy(task.features(table)).float()
