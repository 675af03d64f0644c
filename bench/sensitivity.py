"""How far one patient moves a sum without noise, searched with the weights of an audit's attacks.

    python bench/sensitivity.py [--minutes 2] [--only resnet18]

Every model of every task that ships, in every way that a mode makes its sums (`by site`: mode local
and, of larger models, mode distributed; `by patient`: mode distributed of smaller ones), with
weights inside the range that a site accepts and far outside of it, where the learner is called
directly. All have the same share of the time. Patients are invented: some ordinary, some alike,
some as large as a task's features never are. Sums have the finest scale, so that what is seen is
the clipping and not the rounding; a bar is the clip norm and what accounting adds to it.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, assert_never

import numpy as np
import torch
from torchvision.models import resnet18

from client.data.cohort import Cohort
from client.privacy_audit.neighbours import ATTACKS, BEYOND, Attack, Neighbours
from client.privacy_audit.released_sums import AuditedStudy, Part, cohort_of
from launch.config import compose
from launch.studies.study_builder import build_study
from protocol.secagg.fixed_point import MAX_SCALE
from protocol.study.study import Scalar
from protocol.vectors import LARGEST_WEIGHT
from support.figure import figure, load
from tasks import registry
from tasks.models import backbone, hog

Kind = Literal["by site", "by patient", "histogram"]
PATIENTS = 48


@dataclass(frozen=True)
class Model:
    """A task with options, and the shape of one patient's features."""

    task: str
    shape: tuple[int, ...]
    options: Mapping[str, Scalar]

    @property
    def name(self) -> str:
        return " ".join([self.task, *map(str, self.options.values())])

    @property
    def pictures(self) -> bool:
        return len(self.shape) > 1


MODELS = (
    Model("breast_cancer", (30,), {}),
    Model("heart_disease", (26,), {}),
    Model("icu_mortality", (42,), {}),
    Model("readmission", (210,), {}),
    Model("deterioration", (35,), {}),
    Model("diabetes_progression", (10,), {}),
    Model("digits", (64,), {}),
    Model("findings", (256,), {}),
    Model("length_of_stay", (62,), {}),
    Model("readmission_levels", (209,), {}),
    Model("trial_survival", (18,), {}),
    Model("lung_fields", (32, 32), {}),
    Model("nodules", (8, 16, 16), {}),
    Model("no_show", (33,), {}),
    Model("icu_timeseries", (45,), {"model": "summary"}),
    Model("icu_timeseries", (1299,), {"model": "tcn"}),
    Model("chest_xray", (hog.WIDTH,), {"model": "hog"}),
    Model("chest_xray", (backbone.WIDTH,), {"model": "backbone"}),
    Model("chest_xray", (28, 28), {"model": "cnn"}),
    Model("chest_xray", (28, 28), {"model": "resnet18"}),
    Model("fusion", (hog.WIDTH + 17,), {"picture": "hog"}),
    Model("fusion", (28 * 28 + 17,), {"picture": "cnn"}),
)


def patients_of(model: Model, seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    rows = rng.random((PATIENTS, *model.shape), dtype=np.float32)
    third = PATIENTS // 3
    rows[third : 2 * third] = rows[third : third + 1].mean()
    outcome = registry.load(model.task, model.options).outcome
    low, high = outcome.extremes
    labels = rng.integers(int(low), int(high) + 1, size=(PATIENTS, *outcome.label_shape))
    if model.pictures:
        return cohort_of((rows * 255).astype(np.uint8), labels, "training")
    rows[2 * third :] *= np.exp2(rng.integers(1, 60, (third, 1))).astype(np.float32)
    return cohort_of(rows, labels, "training")


def audited(model: Model) -> AuditedStudy:
    words = ["privacy=distributed", "privacy.epsilon=3", "privacy.delta=1e-6", "rounds=1"]
    config = compose.load([f"task={model.task}", *words, "tracking=off"])
    task = registry.load(model.task, model.options)
    return AuditedStudy.of(build_study(config, task, dict.fromkeys("abc", 1000)), task)


def invent_backbone() -> None:
    """A drawn backbone in place of the published one: patients' features are invented as they
    stand behind it, and a study's check of its task wants some file of weights."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    drawn = folder / backbone.WEIGHTS.name
    torch.save(resnet18(weights=None).state_dict(), drawn)
    os.environ["WARDROUND_WEIGHTS"] = str(folder)
    digest = hashlib.sha256(drawn.read_bytes()).hexdigest()
    invented = dataclasses.replace(backbone.WEIGHTS, sha256=digest)
    backbone.features = partial(backbone.features, weights=invented)


def kinds(study: AuditedStudy) -> tuple[Kind, ...]:
    small = study.study.aggregation.rounding == "patient"
    return ("by site", "by patient", "histogram") if small else ("by site", "histogram")


def summed(study: AuditedStudy, kind: Kind) -> AuditedStudy:
    """The same study as it makes this kind of sum."""
    match kind:
        case "by site":
            return study.changed(aggregation={"rounding": "site", "scale": MAX_SCALE})
        case "by patient":
            return study.changed(aggregation={"rounding": "patient", "scale": MAX_SCALE})
        case "histogram":
            return study
    assert_never(kind)


def tried(
    study: AuditedStudy, patients: Cohort, part: Part, largest: float
) -> Iterator[Neighbours]:
    """One of every attack in turn, with ever new seeds."""

    def endless(attack: Attack) -> Iterator[Neighbours]:
        for seed in itertools.count():
            found = None
            for found in attack(study, patients, part, seed, largest):
                yield found
            if found is None:  # the model has no layer for this attack
                return

    turns = [endless(attack) for attack in ATTACKS]
    while turns:
        for turn in list(turns):
            if (found := next(turn, None)) is None:
                turns.remove(turn)
            else:
                yield found


def searched(
    study: AuditedStudy,
    model: Model,
    kind: Kind,
    largest: float,
    seconds: float = 0.0,
    least: int = len(ATTACKS),
) -> tuple[float, int]:
    """The farthest that a patient moved the sum, in clip norms or counts, and among how many
    neighbours: `least` of them, and as many as there is time for."""
    part: Part = "evaluation" if kind == "histogram" else "training"
    until, farthest = time.monotonic() + seconds, 0.0
    for number, found in enumerate(tried(study, patients_of(model), part, largest), 1):
        farthest = max(farthest, found.moved)
        if number >= least and time.monotonic() > until:
            break
    return farthest * accounted(study, kind), number


def accounted(study: AuditedStudy, kind: Kind) -> float:
    """The most that accounting says, in clip norms or counts."""
    if kind == "histogram":
        return study.twin.spent("evaluation").sensitivity.l2 / study.study.evaluation.scale
    return study.twin.spent("training").sensitivity.l2 / study.study.aggregation.scale


def figures(model: Model, seconds: float) -> list[bool]:
    """Of one model, in so many seconds; whether each holds."""
    until, whole = time.monotonic() + seconds, audited(model)
    holds, left = [], 2 * len(kinds(whole))
    for kind in kinds(whole):
        study, found = summed(whole, kind), {}
        for place, largest in (("inside", LARGEST_WEIGHT), ("outside", BEYOND)):
            share = (until - time.monotonic()) / left
            found[place] = searched(study, model, kind, largest, share)
            left -= 1
        (inside, some), (outside, others) = found["inside"], found["outside"]
        holds.append(
            figure(
                f"most that one patient moves a sum, {model.name}, {kind}",
                max(inside, outside),
                "counts" if kind == "histogram" else "clip norms",
                accounted(study, kind),
                inside=round(inside, 4),
                outside=round(outside, 4),
                neighbours=some + others,
                load=load(),
            )
        )
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--only", default="", help="models whose name holds this")
    arguments = parser.parse_args()
    invent_backbone()
    until = time.monotonic() + 60 * arguments.minutes
    models = [model for model in MODELS if arguments.only in model.name]
    holds = []
    for number, model in enumerate(models):
        holds += figures(model, (until - time.monotonic()) / (len(models) - number))
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
