"""A released model that another study may start from: whether it fits, and what it carries along.

Checked three times, by whoever knows more of it each time: when the study is built (its files and
signature), by the coordinator (its own record of the study that made it), and at every site (the
weights of the first round, and the study that made them where it took part in that).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from protocol.errors import Code, WardroundError
from protocol.privacy.epsilon_text import rounded_up
from protocol.study.start import MOST_STUDIES, Start
from protocol.study.study import Study
from protocol.vectors import Vector, weights_digest


@dataclass(frozen=True, eq=False)
class StartingModel:
    """weights: (P,) float32, as `study` released them; `start`: what a study says of them."""

    start: Start
    study: Study
    weights: Vector

    @staticmethod
    def of(model: str, record: str, study: Study, weights: Vector) -> StartingModel:
        """model: NAME/VERSION; record: the digest of its record. Raises WardroundError(USAGE) where
        the study has no model that another could start from."""
        if study.query is not None:
            raise _unfit(model, "it is of a query, which has no model")
        before = study.start
        if before is not None and before.studies >= MOST_STUDIES:
            raise _unfit(model, f"it comes from {MOST_STUDIES} studies already")
        epsilon, delta = carried(study)
        start = Start(
            model=model,
            record=record,
            study=study.digest,
            weights=weights_digest(weights),
            epsilon=epsilon,
            delta=delta,
            studies=1 if before is None else before.studies + 1,
        )
        return StartingModel(start, study, weights)


def carried(study: Study) -> tuple[float, float] | tuple[None, None]:
    """(epsilon, delta) that bound what a patient of a study, and of all that it started from, has
    lost when it has ended; (None, None) where no epsilon covers all of them. That of its whole
    plan, which bounds whatever part of it was used."""
    own, before = study.privacy, study.start
    if not own.traits.private or own.epsilon is None or study.evaluation.exact:
        return None, None
    if before is None:
        return own.epsilon, own.delta
    if before.epsilon is None or before.delta is None:
        return None, None
    return _sum(own.epsilon, before.epsilon), _sum(own.delta, before.delta)


def _sum(one: float, other: float) -> float:
    """Never below the true sum."""
    return math.nextafter(one + other, math.inf)


def check_parent(study: Study, parent: Study) -> None:
    """Raises WardroundError(REFUSED_STUDY) where a study cannot start from what `parent` released,
    or claims to carry less along than that cost. For whoever knows both."""
    start = study.start
    if start is None:
        return
    if start.study != parent.digest:
        raise _unfit(start.model, "another study made it")
    if parent.query is not None:
        raise _unfit(start.model, "it is of a query, which has no model")
    for what, own, its in (
        ("task", study.task.name, parent.task.name),
        ("version of the task", study.task.version, parent.task.version),
        ("kind of outcome", study.outcome, parent.outcome),
        ("parameters or their layout", _layout(study), _layout(parent)),
        ("frozen parameters", study.model.frozen, parent.model.frozen),
    ):
        if own != its:
            raise _unfit(start.model, f"it has another {what}")
    epsilon, delta = carried(parent)
    if _understated(start.epsilon, epsilon) or _understated(start.delta, delta):
        raise _unfit(start.model, "the study says that less epsilon comes along than it cost")
    if start.studies != 1 + (0 if parent.start is None else parent.start.studies):
        raise _unfit(start.model, "the study miscounts the studies that it comes from")


def check_weights(start: Start, weights: Vector) -> None:
    """Raises WardroundError(WEIGHTS) where (P,) float32 are not those that a study starts from."""
    if weights_digest(weights) != start.weights:
        raise WardroundError(
            Code.WEIGHTS,
            f"The first round's weights are not those of {start.model}, from which the study "
            "starts.",
            remedy="Nothing was spent. Ask the coordinator's operator who changed them.",
        )


def in_words(study: Study) -> str:
    """What a study carries along, for every report; "" where it starts from no released model."""
    start = study.start
    if start is None:
        return ""
    more = "" if start.studies == 1 else f", the last of {start.studies} studies one after another"
    said = f"It starts from the model {start.model} (of study {start.study[:12]}{more})"
    if start.epsilon is None or start.delta is None:
        return (
            f"{said}, and no epsilon covers the patients of that: what this study releases may "
            "tell of them whatever that model tells."
        )
    epsilon, delta = carried(study)
    alone = (
        f"{said}, whose patients lost up to epsilon {rounded_up(start.epsilon)} at delta "
        f"{start.delta:g} before"
    )
    if epsilon is None or delta is None:
        return f"{alone}, which this study's releases carry along."
    return (
        f"{alone}, which this study's releases carry along: of a patient of both, at most epsilon "
        f"{rounded_up(epsilon)} at delta {delta:g} in all, if this study's whole plan is used."
    )


def _layout(study: Study) -> tuple[int, str]:
    return study.model.parameters, study.model.layout


def _understated(stated: float | None, true: float | None) -> bool:
    """None is the most that can be stated."""
    return stated is not None and (true is None or stated < true)


def _unfit(model: str, why: str) -> WardroundError:
    return WardroundError(
        Code.REFUSED_STUDY,
        f"The study cannot start from the model {model}: {why}.",
        remedy="Nothing was spent. Start from a model of the same task, version and options "
        "(frozen parameters that are drawn at random also need the same seed), or from none.",
    )
