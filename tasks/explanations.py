"""What a model's prediction rests on: of records by column, of pictures by place.

What is explained is one number: of a probability its log odds, of several classes, levels or labels
the log odds of the likeliest, of a time to an event those that it comes by the last end, of a
number that number. An explanation is of the model, not of the
patient: it says what would change the score, not what caused the illness.
"""

from __future__ import annotations

from itertools import pairwise
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
from tasks.base import Task
from tasks.schema import Image, Table
from tasks.scoring import ScoringModel

Floats = npt.NDArray[np.float64]
ORDERS = 8
"""Orders of the columns, each also backwards, over which contributions are averaged."""
_SMALLEST = 1e-12
_ACROSS, _STEPS = 4, 2
"""A patch is a fourth of a picture's side, and moves by half of itself."""


def has_contributions(task: Task) -> bool:
    """Whether each feature of the task's model is of one column."""
    return type(task).features is Task.features and not task.schema.images


def contributions(model: ScoringModel, table: Table) -> Floats:
    """(N, columns) float64: how much each column adds to what is explained, beyond a record whose
    columns are all missing, in the middle of their range or usual (features of 0). A row adds up to
    the whole difference.

    Shapley values, by permutations drawn once and taken forwards and backwards (Strumbelj and
    Kononenko 2014; Mitchell et al. 2022), so that a record always has the same; exact for a linear
    model. Raises WardroundError(MALFORMED_DATA) as `Schema.features` does."""
    columns = model.task.schema.columns
    ends = np.cumsum([0, *(column.width for column in columns)])
    slices = [slice(start, end) for start, end in pairwise(ends)]
    generator = np.random.default_rng(0)
    drawn = [generator.permutation(len(columns)) for _ in range(ORDERS)]
    orders = [order for one in drawn for order in (one, one[::-1])]
    features = model.task.features(table)
    found = np.zeros((len(features), len(columns)))
    for record, whole in zip(found, features, strict=True):
        steps = np.zeros((len(orders), len(columns) + 1, len(whole)), dtype=np.float32)
        for path, order in zip(steps, orders, strict=True):
            for place, column in enumerate(order):
                path[place + 1 :, slices[column]] = whole[slices[column]]
        (class_,) = _likeliest(model, whole[None])
        values = explained(model, steps.reshape(-1, len(whole)), class_).reshape(steps.shape[:2])
        for order, added in zip(orders, np.diff(values, axis=1), strict=True):
            record[order] += added / len(orders)
    return found


def occlusion_map(model: ScoringModel, table: Table, image: Image) -> Floats:
    """(rows, columns) float64 of the one record of a table: by how much what is explained falls
    where a patch of the picture is covered with its mean (Zeiler and Fergus 2014), at each pixel
    the mean over all patches that cover it.

    Raises WardroundError(MALFORMED_DATA) as `Task.features` does."""
    (picture,) = table[image.name]
    high, wide = (max(1, -(-side // _ACROSS)) for side in picture.shape[:2])
    tops = _starts(picture.shape[0], high)
    lefts = _starts(picture.shape[1], wide)
    places = [(slice(top, top + high), slice(left, left + wide)) for top in tops for left in lefts]
    covered = np.repeat(picture[None], len(places), axis=0)
    for one, place in zip(covered, places, strict=True):
        one[place] = picture.mean(axis=(0, 1)).astype(np.uint8)
    repeated = {name: np.repeat(column, len(places), axis=0) for name, column in table.items()}
    whole = model.task.features(table)
    (class_,) = _likeliest(model, whole)
    before = float(explained(model, whole, class_)[0])
    after = explained(model, model.task.features(repeated | {image.name: covered}), class_)
    fall, times = np.zeros(picture.shape[:2]), np.zeros(picture.shape[:2])
    for place, value in zip(places, after, strict=True):
        fall[place] += before - value
        times[place] += 1
    return np.asarray(fall / times)


def explained(model: ScoringModel, features: npt.NDArray[np.float32], class_: int) -> Floats:
    """(N, F) features -> (N,) what is explained of each; class_: of several."""
    scores = model.scores_of(features)
    outcome: OutcomeKind = model.task.outcome
    match outcome:
        case Binary() | Multiclass() | MultiLabel() | Ordinal():
            return _log_odds(scores[:, class_])
        case TimeToEvent():
            return _log_odds(1 - scores[:, -1])
        case Regression() | EventCount():
            return scores[:, 0]
        case Segmentation():
            return scores[:, class_]
        case never:
            assert_never(never)


def _log_odds(chance: Floats) -> Floats:
    within = np.clip(chance, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(within) - np.log1p(-within))


def _likeliest(model: ScoringModel, features: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return np.asarray(model.scores_of(features).argmax(axis=1))


def _starts(side: int, patch: int) -> list[int]:
    return [*range(0, side - patch, max(1, patch // _STEPS)), side - patch]
