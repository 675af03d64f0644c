"""The usual loss of every kind of outcome; a task may write another."""

from __future__ import annotations

from typing import assert_never

from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
from tasks.losses.base import Loss
from tasks.losses.binary import Logistic
from tasks.losses.events import Poisson
from tasks.losses.hazards import Hazards
from tasks.losses.multiclass import Softmax
from tasks.losses.multilabel import ManyLogistic
from tasks.losses.ordinal import ContinuationRatio
from tasks.losses.regression import SquaredError
from tasks.losses.segmentation import CrossEntropyAndDice


def usual_loss(kind: OutcomeKind) -> Loss:
    """The loss of this kind, whose source is part of every task that predicts it."""
    match kind:
        case Binary():
            return Logistic()
        case Multiclass():
            return Softmax(kind)
        case MultiLabel():
            return ManyLogistic(kind)
        case Ordinal():
            return ContinuationRatio(kind)
        case Regression():
            return SquaredError(kind)
        case EventCount():
            return Poisson(kind)
        case TimeToEvent(intervals=intervals):
            return Hazards(intervals)
        case Segmentation():
            return CrossEntropyAndDice(kind)
    assert_never(kind)
