"""What each number of a model's prediction is, in words, by its task's kind of outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from client.data.dicom.results.structured_report import Finding
from client.prediction.allowed_model import AllowedModel
from client.prediction.predictions import Prediction
from protocol.outcomes.binary import Binary
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.regression import Regression

PROBABILITY, EXPECTED = "Probability of", "Predicted"


def in_full(of: str, model: AllowedModel) -> str:
    """What a finding is of, with what the task's label means."""
    return f"{of} ({model.task.schema.label_meaning})"


def findings(model: AllowedModel, one: Prediction) -> Sequence[Finding]:
    """One for each number: the probability of the outcome, that of each class, or the value that
    is expected."""
    outcome, of = model.task.outcome, model.task.title
    match outcome:
        case Binary():
            return [Finding(PROBABILITY, of, one.scores[0])]
        case Multiclass():
            return [Finding(PROBABILITY, f"{k}: {of}", p) for k, p in enumerate(one.scores)]
        case Regression():
            return [Finding(EXPECTED, of, one.scores[0])]
        case never:
            assert_never(never)
