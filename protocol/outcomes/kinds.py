"""The closed set of what a task can predict of a patient."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from protocol.outcomes.binary import Binary
from protocol.outcomes.classes import MOST_CLASSES
from protocol.outcomes.events import EventCount
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import MOST_CLASSES as MOST_STRUCTURES
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent

OutcomeKind = Annotated[
    Binary
    | Multiclass
    | MultiLabel
    | Ordinal
    | Regression
    | EventCount
    | TimeToEvent
    | Segmentation,
    Field(discriminator="kind"),
]
"""Whoever depends on which it is matches all of them."""
_ALL: tuple[OutcomeKind, ...] = (
    Binary(),
    Regression(low=0, high=1),
    Multiclass(classes=MOST_CLASSES),
    MultiLabel(labels=2),
    Ordinal(levels=3),
    EventCount(most=2),
    TimeToEvent(ends=(1, 2)),
    Segmentation(classes=MOST_STRUCTURES, rows=1, columns=1),
)
METRICS = frozenset({"calibration_error", *(name for kind in _ALL for name in kind.metrics)})
"""Every name that a pooled metric can have, that of 0.1.0 among them: none can name a hospital."""
COMPARED = frozenset(
    name
    for kind in _ALL
    for first, second in [kind.compared]
    for name in (first, second, f"lowest_{first}", f"highest_{first}")
)
"""Every figure of a baseline."""
FIRST = tuple(kind.compared[0] for kind in _ALL)
"""The figure by which models of each kind are compared: more is better."""
HEADLINES: dict[str, str] = {
    name: metric.label
    for kind in reversed(_ALL)
    for name, metric in kind.metrics.items()
    if metric.short or name in kind.compared
}
"""The figures that a few columns have room for, and their names in full."""
HEADINGS: dict[str, str] = {
    name: kind.metrics[name].short or name.replace("_", " ")
    for kind in _ALL
    for name in kind.compared
}
"""Those by which models are compared, where there is little room."""
CURVES: dict[str, str] = {
    name: metric.label
    for kind in _ALL
    for name, metric in kind.metrics.items()
    if metric.short and metric.better == "more"
}
"""Those of a picture of the rounds or of a sweep: about 1 at best."""
