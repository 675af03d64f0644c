"""Death in intensive care, four regions: private models beside what needs no training at all; and
deterioration, at landmarks of the same stays, beside NEWS2.

    python bench/icu.py            the figures: five folds by patient, two repetitions (net: one)
    python bench/icu.py --search   how the recipes were found, on training patients alone

Delta 1e-4. Beside each private model, on the same patients: the public score from which it starts
(APACHE III's published points), all regions' training patients pooled without privacy, and each
region's own model without privacy, with regularisation chosen on training patients. The gain over
the public score is what the hospitals' data has taught; the bare AUC is not. Its interval is of the
tested patients drawn again (`gain_interval`).
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV

from launch.studies.public_data import data_root
from protocol.errors import WardroundError
from protocol.study.study import Scalar
from support.cross_validation import Data, Fold, federated, gain_interval, within
from support.figure import figure
from support.linear_search import Recipe, search
from tasks import registry

FOLDS, SEEDS, DELTA = 5, (0, 1), 1e-4
BARS = {1.0: 0.78, 3.0: 0.80, 8.0: 0.81}
SERIES_BAR = 0.76
DETERIORATION_BARS = {1.0: 0.75, 3.0: 0.76, 8.0: 0.77}
RECIPES = {
    1.0: Recipe(rounds=60, clip_norm=1.0, step=1.0),
    3.0: Recipe(rounds=60, clip_norm=1.0, step=3.0),
    8.0: Recipe(rounds=60, clip_norm=1.0, step=10.0),
}
"""By epsilon; of `--search`'s best, those that share a schedule."""
SERIES_RECIPES = {
    "summary": Recipe(rounds=60, clip_norm=1.0, step=0.1),
    "tcn": Recipe(rounds=30, clip_norm=1.0, step=0.1),
}
"""On validation parts of the training patients (30 deaths) no larger step did better than the
public score from which both start: at this epsilon there is next to nothing to learn from them."""


@dataclass(frozen=True)
class Task:
    """A task with its folds, of all repetitions."""

    name: str
    options: dict[str, Scalar]
    folds: list[Fold]

    @staticmethod
    def load(name: str, seeds: Sequence[int] = SEEDS, **options: Scalar) -> Task:
        task = registry.load(name, options)
        data = Data(task, task.public_sites(data_root()))
        return Task(name, options, [fold for seed in seeds for fold in data.folds(FOLDS, seed)])

    @property
    def labels(self) -> list[npt.NDArray[np.float32]]:
        return [fold.part(training=False)[1] for fold in self.folds]

    def public(self) -> float:
        """AUC of the public score."""
        return within(self.labels, [f.public for f in self.folds if f.public is not None])

    def private(
        self, epsilon: float, recipe: Recipe
    ) -> tuple[list[float], float, list[npt.NDArray[np.float32]]]:
        """One distributed study a fold -> (AUC of every repetition, epsilon spent, scores)."""
        overrides = [
            "privacy=distributed",
            f"privacy.epsilon={epsilon}",
            f"privacy.delta={DELTA}",
            f"privacy.clip_norm={recipe.clip_norm}",
            "privacy.sampling_rate=1.0",
            f"rounds={recipe.rounds}",
            f"server_lr={recipe.lr}",
            "averaging=last_half",
        ]
        task = registry.load(self.name, self.options)
        runs = [federated(task, fold, overrides) for fold in self.folds]
        scores, labels = [scores for scores, _ in runs], self.labels
        parts = [slice(start, start + FOLDS) for start in range(0, len(runs), FOLDS)]
        aucs = [within(labels[p], scores[p]) for p in parts]
        return aucs, max(spent for _, spent in runs), scores

    def pooled(self, boosted: bool = False) -> float:
        """AUC of one model of all training patients, without privacy."""
        return within(self.labels, [_fitted(fold, None, boosted) for fold in self.folds])

    def alone(self) -> dict[str, float]:
        """Region -> AUC, on all regions' evaluation patients, of what it learns alone."""
        return {
            site: within(self.labels, [_fitted(fold, site) for fold in self.folds])
            for site in self.folds[0].cohorts
        }


def _fitted(fold: Fold, site: str | None, boosted: bool = False) -> npt.NDArray[np.float64]:
    features, labels = fold.part(training=True, sites=None if site is None else [site])
    model = LogisticRegressionCV(Cs=(0.01, 0.03, 0.1, 0.3, 1.0), cv=3, scoring="neg_log_loss")
    if boosted:
        model = GradientBoostingClassifier(
            n_estimators=150, max_depth=2, learning_rate=0.05, subsample=0.5, random_state=0
        )
    with warnings.catch_warnings():
        # Announcements of scikit-learn 1.10, and regions with two deaths in a fold.
        warnings.simplefilter("ignore", (ConvergenceWarning, FutureWarning, UserWarning))
        model.fit(features, labels)
    scores: npt.NDArray[np.float64] = model.predict_proba(fold.part(training=False)[0])[:, 1]
    return scores


def report(task: Task, figures: dict[str, tuple[float, float, Recipe]]) -> int:
    """Prints one line a figure; how many miss their bar. figures: name -> epsilon, bar, recipe."""
    alone = task.alone()
    beside = {
        "public_score": round(task.public(), 4),
        "pooled": round(task.pooled(), 4),
        "pooled_boosting": round(task.pooled(boosted=True), 4),
        "region_alone": round(float(np.mean(list(alone.values()))), 4),
        **{f"alone_{site}": round(value, 4) for site, value in alone.items()},
    }
    missed = 0
    for name, (epsilon, bar, recipe) in figures.items():
        aucs, spent, scores = task.private(epsilon, recipe)
        low, high = gain_interval(task.folds, scores)
        value = float(np.mean(aucs))
        missed += not figure(
            name,
            value,
            "AUC within 5 folds by patient",
            bar,
            least=True,
            gain_over_public_score=round(value - beside["public_score"], 4),
            gain_low=round(low, 4),
            gain_high=round(high, 4),
            epsilon=spent,
            delta=DELTA,
            least_of_repetitions=round(min(aucs), 4),
            most_of_repetitions=round(max(aucs), 4),
            **beside,
        )
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--search", action="store_true", help="search the recipes again")
    if parser.parse_args().search:
        console = Console(stderr=True)
        for name in ("icu_mortality", "icu_timeseries", "deterioration"):
            task = Task.load(name)
            for epsilon in BARS:
                for value, recipe in search(task.folds, epsilon, DELTA)[:5]:
                    console.print(f"{name}, epsilon {epsilon:g}: {value:.4f} {recipe}")
        return 0
    mortality = Task.load("icu_mortality")
    missed = report(
        mortality,
        {
            f"icu_mortality_auc_eps{epsilon:g}": (epsilon, bar, RECIPES[epsilon])
            for epsilon, bar in BARS.items()
        },
    )
    missed += report(
        Task.load("deterioration"),
        {
            f"deterioration_auc_eps{epsilon:g}": (epsilon, bar, RECIPES[epsilon])
            for epsilon, bar in DETERIORATION_BARS.items()
        },
    )
    for model, recipe in SERIES_RECIPES.items():
        series = Task.load(
            "icu_timeseries", SEEDS if model == "summary" else SEEDS[:1], model=model
        )
        name = "icu_timeseries_auc_eps3" + ("" if model == "summary" else f"_{model}")
        missed += report(series, {name: (3.0, SERIES_BAR, recipe)})
    return 1 if missed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        sys.exit(main())
    except WardroundError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
