"""The model that the federation learns: weights, server optimiser, average of iterates, and what
else its algorithms carry from round to round (control variate, schedule, early stopping)."""

from __future__ import annotations

from dataclasses import asdict
from typing import assert_never

import numpy as np
import torch

from protocol.errors import Code, WardroundError
from protocol.models.starting_model import check_weights
from protocol.study.algorithms import (
    DittoOptions,
    FedAvgOptions,
    FedBNOptions,
    FedProxOptions,
    ScaffoldOptions,
)
from protocol.study.schedules import factor
from protocol.study.study import Study
from protocol.study.vector_layout import Sections, uses_control_variates
from protocol.vectors import LARGEST_WEIGHT, Vector, in_range
from server.model import optimisers
from server.model.attempts import Attempts
from server.model.checkpoint import Checkpoint
from server.model.early_stopping import EarlyStopping
from server.model.suspects import Suspects
from server.outcome import RoundReport
from tasks.base import Task
from tasks.flat_model import FlatModel


class GlobalModel:
    """After `round` rounds. Holds opened sums only."""

    def __init__(self, study: Study, task: Task, start: Vector | None = None) -> None:
        """Arguments and errors are those of `initial_weights`."""
        self.study = study
        self._weights = torch.from_numpy(initial_weights(study, task, start))
        self._optimiser = optimisers.build(self._weights, study.optimisation.server)
        self._average: torch.Tensor | None = None
        self._averaged = 0
        self._control = (
            np.zeros(study.model.parameters, np.float32) if uses_control_variates(study) else None
        )
        self.stopping = EarlyStopping(study.optimisation.stop)
        self.round = 0

    @property
    def iterate(self) -> Vector:
        """(P,) float32, what the next round starts from; a view."""
        weights: Vector = self._weights.numpy()
        return weights

    @property
    def released(self) -> Vector:
        """(P,) float32, what the study releases: the average of iterates where it asks for it, the
        best model scored where early stopping chose."""
        if self.stopping.over and self.stopping.best is not None:
            best: Vector = self.stopping.best.numpy()
            return best
        if self._average is None:
            return self.iterate
        average: Vector = self._average.numpy()
        return average

    def body(self, sections: Sections) -> Vector:
        """(sections.body,) float32, what sites are sent: the iterate where they train (and the
        server's control variate behind it, with SCAFFOLD), else the model to be released. Where
        they score another model than the iterate, that one stands at the end."""
        if not sections.train:
            return self.released
        scored_too = sections.scored.start > 0
        return np.concatenate([self._start(), self.released]) if scored_too else self._start()

    def _start(self) -> Vector:
        return self.iterate if self._control is None else np.r_[self.iterate, self._control]

    def step(self, gradient: Vector, control: Vector | None = None) -> None:
        """One step of the server optimiser at the schedule's rate. control: (P,) float32, what the
        server's control variate moves by. Raises WardroundError(DIVERGED)."""
        plan = self.study.optimisation
        rate = plan.server.lr * factor(plan.schedule, self.round + 1, plan.rounds)
        self._optimiser.options["lr"] = rate
        if control is not None and self._control is not None:
            self._control += control
        self._optimiser.step(torch.from_numpy(gradient))
        self.round += 1
        if not in_range(self._start()):
            raise diverged(self.study, self.round)
        self._average_iterates()

    def _average_iterates(self) -> None:
        """The mean of the last half of the iterates (Polyak and Juditsky 1992): under noise it is
        the better model, at no privacy cost. Before, of the second quarter, the second eighth and
        so on, so that what is scored or released on the way is a mean, too."""
        optimisation = self.study.optimisation
        if not optimisation.averages:
            return
        if self.round - 1 in halvings(optimisation.rounds):
            self._average, self._averaged = None, 0
        iterate = self._weights
        self._averaged += 1
        if self._average is None:
            self._average = iterate.clone()
        else:
            self._average.add_(iterate - self._average, alpha=1 / self._averaged)

    def checkpoint(
        self, attempts: Attempts, suspects: Suspects, pending: RoundReport | None
    ) -> Checkpoint:
        """Everything that the study needs to resume. pending: the last round's report, where its
        metrics are still to come."""
        return Checkpoint(
            study=self.study.digest,
            round=self.round,
            attempt=attempts.made,
            trainings=attempts.trainings,
            evaluations=attempts.evaluations,
            weights=self._weights,
            average=self._average,
            averaged=self._averaged,
            optimiser=self._optimiser.state_dict(),
            control=None if self._control is None else torch.from_numpy(self._control),
            lost=list(attempts.lost),
            stopping=(self.stopping.value, self.stopping.best, self.stopping.stale),
            pending=None if pending is None else asdict(pending),
            suspected=suspects.to_plain(),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Takes the model's part of a checkpoint of the same study."""
        self.round = saved.round
        self._weights.copy_(saved.weights)
        self._average, self._averaged = saved.average, saved.averaged
        self._optimiser.load_state_dict(saved.optimiser)
        self._control = None if saved.control is None else saved.control.numpy()
        self.stopping = EarlyStopping(self.study.optimisation.stop, *saved.stopping)


def halvings(rounds: int) -> set[int]:
    """Rounds after which an average of iterates begins anew: a half of all, a quarter, an eighth
    and so on, rounded down."""
    return {rounds >> k for k in range(1, rounds.bit_length())}


def initial_weights(study: Study, task: Task, start: Vector | None = None) -> Vector:
    """The model that round 1 starts from; the same everywhere for one study. A query has none.

    start: (P,) float32, those of the released model that the study names, where it names one.
    Raises WardroundError: REFUSED_STUDY where the installed task's model is not the study's,
    WEIGHTS where those to start from are not the study's.
    """
    if study.query is not None:
        return np.zeros(0, np.float32)
    model = FlatModel(task, study.optimisation.seed)
    if not model.fits(study.model) or task.outcome != study.outcome:
        raise WardroundError(
            Code.REFUSED_STUDY,
            f"The model of the installed task {task.name} is not the one in the study.",
            remedy="Install the same version of the task here and at every site, with the same "
            "files of pretrained weights.",
        )
    if study.start is None:
        return model.weights()
    given = np.zeros(0, np.float32) if start is None else np.array(start, np.float32)
    check_weights(study.start, given)
    return given


def diverged(study: Study, round_: int) -> WardroundError:
    """What to try depends on what the sites' steps are made of."""
    match study.optimisation.local:
        case FedAvgOptions():
            remedy = "Lower local_lr or the server's learning rate (optimiser.lr)."
        case FedProxOptions():
            remedy = "Lower local_lr; local_lr times algorithm.mu has to stay below 2."
        case ScaffoldOptions():
            remedy = "Lower local_lr or optimiser.lr: control variates grow with both."
        case FedBNOptions():
            remedy = "Lower local_lr or optimiser.lr."
        case DittoOptions():
            remedy = (
                "Lower local_lr or algorithm.lr; algorithm.lr times algorithm.attraction has to "
                "stay below 2."
            )
        case never:
            assert_never(never)
    return WardroundError(
        Code.DIVERGED,
        f"The model diverged in round {round_}: its weights are no longer between "
        f"-{LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}.",
        remedy=remedy,
    )
