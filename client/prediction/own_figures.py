"""How well a released model does at this site, by subgroup, beside all sites together.

For this site alone: its figures are exact, never leave, and are compared with the pooled ones that
the model's card holds, not with any other site's. There is no rank: none could be told from sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from client.cohorts.evaluation_counts import counted
from client.data.cohort import Cohort
from client.data.stored_rows import Features, read_rows
from protocol.document import finite
from protocol.metrics.subgroup_figures import SubgroupFigures, subgroup_figures
from protocol.models.bundle import Bundle
from protocol.outcomes.base import Labels, Scores
from protocol.outcomes.estimates import Estimate, shown
from protocol.study.study import Study
from tasks.base import Task
from tasks.scoring import ScoringModel, with_weights

_POOLED = ("## How well it does", "## For whom it fails")
"""Sections of a card (`server.report.model_card`) with figures of all sites."""


@dataclass(frozen=True)
class OwnFigures:
    """metrics: of all of this site's evaluation patients; subgroups: by the study's partitions;
    pooled: what the card says of all sites, Markdown."""

    study: Study
    patients: int
    metrics: dict[str, Estimate]
    subgroups: tuple[SubgroupFigures, ...]
    pooled: str

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "study": self.study.digest,
            "patients": self.patients,
            "metrics": {name: finite(asdict(of)) for name, of in self.metrics.items()},
            "subgroups": [finite(asdict(of)) for of in self.subgroups],
            "pooled": self.pooled,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        kind = self.study.outcome
        yield f"At this site: {self.patients} evaluation patients, counted exactly"
        for name, of in self.metrics.items():
            yield f"  {kind.metrics[name].label or name}: {_in_words(of)}"
        for by in self.subgroups:
            for level in by.levels:
                if level.patients is None:
                    yield f"  {by.name} {level.level}: nobody"
                    continue
                figures = ", ".join(
                    f"{kind.metrics[name].label or name} {_in_words(level.metrics[name])}"
                    for name in kind.compared
                    if name in level.metrics
                )
                said = figures or "too few to tell"
                yield f"  {by.name} {level.level}: {level.patients.value:.0f} patients, {said}"
        yield ""
        yield "At all sites together, as the model's card says:"
        yield self.pooled or "The card says nothing: the study did not evaluate."


def own_figures(bundle: Bundle, task: Task, cohort: Cohort, site: str) -> OwnFigures:
    """The bundle's model on the patients of the study's evaluation part. cohort: loaded for
    `bundle.study.evaluation`. Raises what `with_weights` raises."""
    study = bundle.study
    seed, noted = study.optimisation.seed, study.model.frozen
    model = with_weights(task, seed, bundle.weights_by_name, bundle.frozen, noted)
    rows = cohort.first(cohort.members("evaluation"), "evaluation")
    low, high = study.outcome.score_range
    scoring, shape = ScoringModel(task, model), study.outcome.scores_of_one

    def blocks() -> Iterator[tuple[Scores, Labels]]:
        for row in rows:
            said = scoring.said_of(_read(cohort.features, row)[0])
            score = np.clip(np.nan_to_num(said, nan=(low + high) / 2), low, high)
            yield score.reshape(1, *shape).astype(np.float32), _read(cohort.labels, row)

    levels = None if cohort.levels is None else cohort.levels[rows]
    counts = counted(study, site, blocks(), len(rows), levels).astype(np.float64)
    everybody = counts[: study.outcome.cells(study.evaluation.bins)]
    everyone = study.model_copy(
        update={"evaluation": study.evaluation.model_copy(update={"least_count": 1})}
    )
    return OwnFigures(
        study,
        len(rows),
        study.outcome.pooled(everybody, study.evaluation.bins),
        subgroup_figures(everyone, counts, 0.0),
        _sections(bundle.card),
    )


def _read(stored: Features, row: int) -> npt.NDArray[np.float32]:
    """(1, ...) one row of what may lie in a file."""
    out = np.empty((1, *stored.shape[1:]), stored.dtype)
    read_rows(stored, np.array([row]), out)
    return out.astype(np.float32)


def _sections(card: str) -> str:
    """The card's pooled figures, as far as the bundle holds them."""
    parts = [f"## {part}".strip() for part in f"\n{card}".split("\n## ")[1:]]
    return "\n\n".join(part for part in parts if part.startswith(_POOLED))


def _in_words(of: Estimate) -> str:
    return f"{shown(of.value)} ({shown(of.low)} to {shown(of.high)})"
