"""What hospitals learn of each kind of outcome: privacy's price, and intervals that hold.

    python bench/outcomes.py                     all figures
    python bench/outcomes.py --part price        a study at an epsilon beside scikit-learn's model
    python bench/outcomes.py --part reached      at an epsilon beside a bar or a baseline
    python bench/outcomes.py --part federated    without privacy, beside all data pooled
    python bench/outcomes.py --part coverage     how often the printed intervals hold the truth
    python bench/outcomes.py --part masks        segmentation, without privacy and local; long, and
                                                 only where it is asked for

Price: how far the study's model is below scikit-learn's on all data pooled, without privacy, on the
same held-out patients; the mean over splits, with the 95% interval of the paired differences.
Reached: findings beside the bar; survival beside a Cox model (of the trial's arm and age alone, on
all data pooled without privacy, times by the task's intervals). Federated: how far weights are from
those of the same steps on all data pooled, and with five local steps the interval's farther end of
the paired difference of the figure. The settings were chosen on other splits (seeds from 100).
Coverage: see `support.coverage`. WARDROUND_DATA names the folder of public data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from launch.studies.baselines import pool
from launch.studies.public_data import data_root
from support.coverage import SETTINGS, coverage
from support.cross_validation import Data, Fold, federated, trained
from support.figure import figure, load
from tasks import registry
from tasks.base import Task

Floats = npt.NDArray[np.floating]
SHARE = 0.3
LEAST = 0.93
PARTS = ("price", "reached", "federated", "coverage")
LONG = ("masks",)
FIRST = 0
"""The first split's seed."""


@dataclass(frozen=True)
class Price:
    """A task, its figure, delta, and by epsilon the study's overrides and the most that may be
    lost."""

    task: str
    metric: str
    delta: float
    at: dict[float, tuple[tuple[str, ...], float]]


PRICES = (
    Price(
        "diabetes_progression",
        "r2",
        1e-4,
        {
            3.0: (("rounds=40", "optimiser.lr=3", "privacy.clip_norm=0.3"), 0.03),
            1.0: (("rounds=40", "optimiser.lr=1.5", "privacy.clip_norm=0.3"), 0.04),
        },
    ),
    Price(
        "digits",
        "accuracy",
        1e-5,
        {
            3.0: (("rounds=80", "optimiser.lr=16", "privacy.clip_norm=0.5"), 0.055),
            1.0: (("rounds=40", "optimiser.lr=10", "privacy.clip_norm=0.5"), 0.08),
        },
    ),
    Price(
        "readmission_levels",
        "macro_auc",
        1e-5,
        {3.0: (("rounds=100", "optimiser=fedavgm", "server_lr=4", "privacy.clip_norm=1"), 0.015)},
    ),
)
FINDINGS = ("rounds=40", "optimiser.lr=20", "privacy.clip_norm=1")
SURVIVAL = ("rounds=40", "optimiser.lr=2", "privacy.clip_norm=0.5")
PLAIN = {
    "breast_cancer": "local_lr=1",
    "digits": "local_lr=1",
    "findings": "local_lr=10",
    "readmission_levels": "local_lr=1",
    "diabetes_progression": "local_lr=1",
    "length_of_stay": "local_lr=0.02",
    "trial_survival": "local_lr=0.5",
}
"""A task of each kind of outcome, and its step size without privacy."""
MASKS = ("rounds=12", "local_steps=10", "local_lr=0.5", "evaluation=off")
OVERLAP = 0.92
APART = 0.01
EVERYBODY = ("privacy.sampling_rate=1",)
"""Without it sites and pooled data train on other samples. They also declare exact numbers, by
which updates are weighted, and not bands."""
ROUNDING = 1e-4
"""Of a weight, by fixed-point and float32 arithmetic over a study."""
ARM_AND_AGE = (0, -4, -3, -2, -1)
"""Features of the task trial_survival: the age, and the arms."""


def pooled(price: Price, fold: Fold) -> npt.NDArray[np.floating]:
    """Scores of scikit-learn's model of all training patients."""
    (features, labels), (held, _) = fold.part(training=True), fold.part(training=False)
    if price.metric == "r2":
        return np.asarray(LinearRegression().fit(features, labels).predict(held))
    model = LogisticRegression(max_iter=1000).fit(features, labels)
    return np.asarray(model.predict_proba(held))


def cox(features: Floats, labels: Floats) -> Floats:
    """(F,) coefficients of the proportional hazards of (N, F) features, by Newton's method on the
    partial likelihood, ties by Breslow's rule (Cox 1972; Breslow 1974). labels: as of the kind."""
    survived, event = labels // 2, labels % 2 == 1
    found = np.zeros(features.shape[1])
    for _ in range(20):
        risk = np.exp(features @ found)
        slope, curve = np.zeros_like(found), 1e-6 * np.eye(len(found))
        for interval in np.unique(survived[event]):
            came = event & (survived == interval)
            here = came | (survived > interval)
            weight = risk[here] / risk[here].sum()
            middle = weight @ features[here]
            away = features[here] - middle
            slope += features[came].sum(axis=0) - came.sum() * middle
            curve += came.sum() * (away.T * weight) @ away
        found = found + np.linalg.solve(curve, slope)
    return found


def private(epsilon: float, delta: float, overrides: Sequence[str]) -> tuple[str, ...]:
    """What all private studies here have in common."""
    return (
        "privacy=distributed",
        f"privacy.epsilon={epsilon}",
        f"privacy.delta={delta}",
        "privacy.sampling_rate=1",
        "averaging=last_half",
        "evaluation=off",
        *overrides,
    )


def folds_of(task: Task, splits: int) -> list[Fold]:
    data = Data(task, task.public_sites(data_root()))
    return [data.fold(0, SHARE, FIRST + seed) for seed in range(splits)]


def reach_of(differences: Floats) -> float:
    """Half the width of the 95% interval of their mean."""
    splits = len(differences)
    return float(stats.t.ppf(0.975, splits - 1) * stats.sem(differences)) if splits > 1 else 0.0


def findings(splits: int) -> bool:
    """The mean over splits of the macro AUC at epsilon 3."""
    task = registry.load("findings")
    reached = []
    for fold in folds_of(task, splits):
        scores, _ = federated(task, fold, private(3, 1e-5, FINDINGS))
        labels = fold.part(training=False)[1].astype(np.float64)
        reached.append(task.outcome.figures_of(scores, labels)["macro_auc"])
    return figure(
        "findings: macro AUC at epsilon 3",
        float(np.mean(reached)),
        "macro_auc",
        0.9,
        least=True,
        lowest=round(min(reached), 4),
        delta=1e-5,
        splits=splits,
        load=load(),
    )


def survival(splits: int) -> bool:
    """How far concordance at epsilon 3 is above that of a Cox model of arm and age: the lower end
    of the interval."""
    task = registry.load("trial_survival")
    intervals, both = len(task.outcome.score_columns), []
    for fold in folds_of(task, splits):
        scores, _ = federated(task, fold, private(3, 1e-4, SURVIVAL))
        features, known = fold.part(training=True)
        held, labels = fold.part(training=False)
        few = np.array(ARM_AND_AGE)
        risk = held[:, few] @ cox(features[:, few].astype(np.float64), known)
        places = np.argsort(np.argsort(-risk)) / len(risk)
        alone = np.repeat(places[:, None], intervals, axis=1)
        both.append(
            [
                task.outcome.figures_of(of, labels.astype(np.float64))["concordance"]
                for of in (scores, alone)
            ]
        )
    reached, of_cox = np.array(both).T
    gain = reached - of_cox
    return figure(
        "trial_survival: concordance at epsilon 3 over a Cox model of arm and age",
        float(gain.mean()) - reach_of(gain),
        "lower end of the interval",
        0.0,
        least=True,
        gain=round(float(gain.mean()), 4),
        private=round(float(reached.mean()), 4),
        cox=round(float(of_cox.mean()), 4),
        delta=1e-4,
        splits=splits,
        load=load(),
    )


def masks(splits: int) -> Iterator[bool]:
    """Dice of the task lung_fields: without privacy beside its bar, and with each hospital's own
    noise at epsilon 8, which has none."""
    task = registry.load("lung_fields")
    folds = folds_of(task, splits)
    for said, bar, words in (
        ("without privacy", OVERLAP, ("privacy=none", "privacy.sampling_rate=0.02")),
        (
            "local DP at epsilon 8",
            0.0,
            (
                *("privacy=local", "privacy.epsilon=8", "privacy.delta=1e-5"),
                *("privacy.sampling_rate=0.1", "privacy.clip_norm=1", "averaging=last_half"),
            ),
        ),
    ):
        reached = []
        for fold in folds:
            scores, _ = federated(task, fold, (*MASKS, *words))
            labels = fold.part(training=False)[1]
            reached.append(task.outcome.figures_of(scores, labels)["dice"])
        yield figure(
            f"lung_fields: Dice {said}",
            float(np.mean(reached)),
            "dice",
            bar,
            least=True,
            lowest=round(min(reached), 4),
            splits=splits,
            load=load(),
        )


def beside_pooled(splits: int, only: str | None) -> Iterator[bool]:
    """Without privacy, for a task of every kind: weights after one local step a round, and the
    figure after five."""
    alone = (
        "federation.masked=false",
        "aggregation.least_sites=1",
        "aggregation.colluding_sites=0",
    )
    for name, rate in PLAIN.items():
        if only not in (None, name):
            continue
        task, apart, both = registry.load(name), 0.0, []
        metric = task.outcome.compared[0]
        for fold in folds_of(task, splits):
            whole = replace(fold, cohorts={"pooled": pool(fold.cohorts)})
            labels = fold.part(training=False)[1].astype(np.float64)
            words = ["privacy=none", "rounds=40", "evaluation=off", rate, *EVERYBODY]
            once = [*words, "local_steps=1"]
            one = [
                trained(task, fold, once, counted=int)[0],
                trained(task, whole, [*once, *alone], counted=int)[0],
            ]
            apart = max(apart, float(np.abs(one[0] - one[1]).max()))
            several = [*words, "local_steps=5"]
            scored = [
                federated(task, fold, several, counted=int),
                federated(task, whole, [*several, *alone], counted=int),
            ]
            both.append([task.outcome.figures_of(scores, labels)[metric] for scores, _ in scored])
        difference = np.subtract(*np.array(both).T)
        away, reach = float(difference.mean()), reach_of(difference)

        yield figure(
            f"{name}: weights from pooled", apart, "largest", ROUNDING, splits=splits, load=load()
        )
        yield figure(
            f"{name}: {metric} from pooled, five local steps",
            max(abs(away - reach), abs(away + reach)),
            metric,
            APART,
            low=round(away - reach, 4),
            high=round(away + reach, 4),
            federated=round(float(np.mean([a for a, _ in both])), 4),
            splits=splits,
            load=load(),
        )


def prices(splits: int, only: str | None) -> Iterator[bool]:
    """One figure for each task and epsilon."""
    for price in (price for price in PRICES if only in (None, price.task)):
        task = registry.load(price.task)
        folds = folds_of(task, splits)
        for epsilon, (overrides, bar) in price.at.items():
            words = private(epsilon, price.delta, overrides)
            both = []
            for fold in folds:
                labels = fold.part(training=False)[1].astype(np.float64)
                known = task.outcome.figures_of(pooled(price, fold), labels)[price.metric]
                scores, _ = federated(task, fold, words)
                both.append((known, task.outcome.figures_of(scores, labels)[price.metric]))
            of_pooled, of_study = np.array(both).T
            lost = of_pooled - of_study
            reach = reach_of(lost)
            yield figure(
                f"{price.task}: {price.metric} lost at epsilon {epsilon:g}",
                float(lost.mean()),
                price.metric,
                bar,
                low=round(float(lost.mean()) - reach, 4),
                high=round(float(lost.mean()) + reach, 4),
                pooled=round(float(of_pooled.mean()), 4),
                private=round(float(of_study.mean()), 4),
                delta=price.delta,
                splits=splits,
                load=load(),
            )


def coverages(runs: int) -> Iterator[bool]:
    """The worst metric of each setting, and every metric's share."""
    for setting in SETTINGS:
        shares = dict(coverage(setting, runs))
        worst = min(shares, key=lambda name: shares[name])
        beside = {name: round(share, 4) for name, share in shares.items()}
        yield figure(
            f"coverage: {setting.name}",
            shares[worst],
            "share of intervals",
            LEAST,
            least=True,
            worst=worst,
            runs=runs,
            all=str(beside),
        )


def main() -> int:
    """Exit status 1 where a figure misses its bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--part", choices=(*PARTS, *LONG))
    parser.add_argument("--task", help="only this one, of those that a part has")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--runs", type=int, default=2000)
    given = parser.parse_args()
    held = []
    for part in PARTS if given.part is None else (given.part,):
        match part:
            case "price":
                held += list(prices(given.splits, given.task))
            case "reached":
                if given.task in (None, "findings"):
                    held.append(findings(given.splits))
                if given.task in (None, "trial_survival"):
                    held.append(survival(given.splits))
            case "federated":
                held += list(beside_pooled(given.splits, given.task))
            case "coverage":
                held += list(coverages(given.runs))
            case "masks":
                held += list(masks(min(given.splits, 3)))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
