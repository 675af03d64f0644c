"""What a site tries out, on patients that nobody is, before a study that claims an epsilon.

The claim rests on one patient's part of a sum depending on that patient and the model alone, bit
for bit. A study for which that does not hold on this machine is refused before any privacy is
spent. Results are kept for the process: a site is asked for many studies of one task.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from client.training.dp_trainer import DPTrainer
from client.training.independence import dependent_features
from protocol.errors import Code, WardroundError
from protocol.study.study import Scalar, Study
from tasks import contract
from tasks.base import Task

_VALUES = 1 << 20
"""Of all invented records' features, at most."""
_LEAST, _MOST = 9, 258
"""Invented records."""

Options = tuple[tuple[str, Scalar], ...]


def check_task(task: Task, study: Study, memory: int = 1 << 30) -> None:
    """What a study's task has to pass where it will train: its contract, and where the study claims
    an epsilon, all that the claim rests on. A query asks nothing of a task's methods.

    memory: as `DPTrainer` takes it. Raises WardroundError(CONFIGURATION).
    """
    if study.query is not None:
        return
    contract.check(task)
    if study.privacy.epsilon is not None:
        self_check(
            task,
            trains=study.privacy.traits.private,
            in_floats=study.sums_in_floats,
            memory=memory,
        )


def self_check(task: Task, *, trains: bool, in_floats: bool, memory: int) -> None:
    """trains, in_floats, memory: as `DPTrainer` takes them.

    Raises WardroundError: CONFIGURATION where no claim of privacy could hold, and what
    `Task.features` raises.
    """
    _checked(type(task), _options(task), trains, in_floats, memory, torch.get_num_threads())


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
    kind: type[Task], options: Options, trains: bool, in_floats: bool, memory: int, threads: int
) -> None:
    task = kind(**dict(options))
    learner = DPTrainer(task, 0, memory)
    learner.try_out(invented_features(task), trains=trains, in_floats=in_floats)


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
