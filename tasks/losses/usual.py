"""The usual loss of every kind of outcome; a task may write another."""

from __future__ import annotations

from typing import assert_never

from protocol.outcomes.binary import Binary
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.regression import Regression
from tasks.losses.base import Loss
from tasks.losses.binary import Logistic
from tasks.losses.multiclass import Softmax
from tasks.losses.regression import SquaredError


def usual_loss(kind: OutcomeKind) -> Loss:
    """The loss of this kind, whose source is part of every task that predicts it."""
    match kind:
        case Binary():
            return Logistic()
        case Multiclass():
            return Softmax(kind)
        case Regression():
            return SquaredError(kind)
    assert_never(kind)
