"""What each number of a model's prediction is, in words, by its task's kind of outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from client.data.dicom.results.structured_report import Finding
from client.prediction.allowed_model import AllowedModel
from client.prediction.predictions import Prediction
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent

PROBABILITY, EXPECTED, AREA = "Probability of", "Predicted", "Share of the picture"


def in_full(of: str, model: AllowedModel) -> str:
    """What a finding is of, with what the task's label means."""
    return f"{of} ({model.task.schema.label_meaning})"


def findings(model: AllowedModel, one: Prediction) -> Sequence[Finding]:
    """One for each number: the probability of the outcome, that of each class, level or label, that
    of the event by the end of each interval, the area of each class, or the value expected."""
    task, of = model.task, model.task.title
    match task.outcome:
        case Binary():
            return [Finding(PROBABILITY, of, one.scores[0])]
        case Multiclass() | Ordinal():
            return [Finding(PROBABILITY, f"{k}: {of}", p) for k, p in enumerate(one.scores)]
        case MultiLabel():
            named = zip(task.schema.label_columns, one.scores, strict=True)
            return [Finding(PROBABILITY, f"{label}: {of}", p) for label, p in named]
        case TimeToEvent(ends=ends):
            survived = zip(ends, one.scores, strict=True)
            return [Finding(PROBABILITY, f"by {end:g}: {of}", 1 - p) for end, p in survived]
        case Segmentation():
            areas = enumerate(one.scores, start=1)
            return [Finding(AREA, f"{k}: {of}", share) for k, share in areas]
        case Regression() | EventCount():
            return [Finding(EXPECTED, of, one.scores[0])]
        case never:
            assert_never(never)
