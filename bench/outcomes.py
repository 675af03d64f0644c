"""What hospitals learn of each kind of outcome: privacy's price, and intervals that hold.

    python bench/outcomes.py                     all figures
    python bench/outcomes.py --part price        regression and several classes beside scikit-learn
    python bench/outcomes.py --part coverage     how often the printed intervals hold the truth

Price: how far the study's model is below scikit-learn's on all data pooled, without privacy, on the
same held-out patients; the mean over splits, with the 95% interval of the paired differences.
The settings were chosen on other splits (seeds from 100). Coverage: see `support.coverage`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from support.coverage import SETTINGS, coverage
from support.cross_validation import Data, Fold, federated
from support.figure import figure, load
from tasks import registry

SHARE = 0.3
LEAST = 0.93


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
            3.0: (("rounds=40", "optimiser.lr=2"), 0.055),
            1.0: (("rounds=40", "optimiser.lr=1"), 0.08),
        },
    ),
)


def pooled(price: Price, fold: Fold) -> npt.NDArray[np.floating]:
    """Scores of scikit-learn's model of all training patients."""
    (features, labels), (held, _) = fold.part(training=True), fold.part(training=False)
    if price.metric == "r2":
        return np.asarray(LinearRegression().fit(features, labels).predict(held))
    model = LogisticRegression(max_iter=1000).fit(features, labels)
    return np.asarray(model.predict_proba(held))


def prices(splits: int, only: str | None) -> Iterator[bool]:
    """One figure for each task and epsilon."""
    for price in (price for price in PRICES if only in (None, price.task)):
        task = registry.load(price.task)
        data = Data(task, task.public_sites(None))
        folds = [data.fold(0, SHARE, seed) for seed in range(splits)]
        for epsilon, (overrides, bar) in price.at.items():
            words = (
                "privacy=distributed",
                f"privacy.epsilon={epsilon}",
                f"privacy.delta={price.delta}",
                "privacy.sampling_rate=1",
                "averaging=last_half",
                "evaluation=off",
                *overrides,
            )
            both = []
            for fold in folds:
                labels = fold.part(training=False)[1].astype(np.float64)
                known = task.outcome.figures_of(pooled(price, fold), labels)[price.metric]
                scores, _ = federated(task, fold, words)
                both.append((known, task.outcome.figures_of(scores, labels)[price.metric]))
            of_pooled, private = np.array(both).T
            lost = of_pooled - private
            reach = float(stats.t.ppf(0.975, splits - 1) * stats.sem(lost)) if splits > 1 else 0.0
            yield figure(
                f"{price.task}: {price.metric} lost at epsilon {epsilon:g}",
                float(lost.mean()),
                price.metric,
                bar,
                low=round(float(lost.mean()) - reach, 4),
                high=round(float(lost.mean()) + reach, 4),
                pooled=round(float(of_pooled.mean()), 4),
                private=round(float(private.mean()), 4),
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
    parser.add_argument("--part", choices=("price", "coverage"))
    parser.add_argument("--task", help="of the price, only this one")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--runs", type=int, default=2000)
    given = parser.parse_args()
    held = []
    if given.part != "coverage":
        held += list(prices(given.splits, given.task))
    if given.part != "price":
        held += list(coverages(given.runs))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
