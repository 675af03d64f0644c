"""Whether two noised histograms of the same cells are shared out alike.

With shares q of now and p of then, d = q - p, the population stability index (Siddiqi 2006)
sum (q - p) ln(q / p) is, but for terms of third order in d, the sum of d^2 over the pooled shares:
the form that is used here, since it is defined where noise makes a count negative. If nothing has
changed, d has a known covariance: of patients, (1/N + 1/M) (diag s - s s'), and of noise. A
chi-square with that covariance knows of the noise; its p-value is simulated, since noise has longer
tails than a normal distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.statistics.noised_table import NoisedTable

Floats = npt.NDArray[np.float64]
DRAWS = 20_000
"""Of histograms in which nothing has changed: for p-values, limits and intervals. So many that a
p-value may be below 1% of the most histograms that a query has."""
_LEAST_PATIENTS, _LEAST_SIGNAL = 5.0, 2.0
_SMALL = 1e-12


@dataclass(frozen=True)
class Comparison:
    """patients, reference: noised numbers of patients. index: the stability index, without what
    chance and noise add to it on average; low, high: its interval of at least 95%; limit: what 95%
    of indices stay below while nothing changes. degrees, chi_square, p: the test of no change."""

    patients: float
    reference: float
    index: float
    low: float
    high: float
    limit: float
    degrees: int
    chi_square: float
    p: float


@dataclass(frozen=True)
class OneShare:
    """The share of the commonest cell. index: the stability index of that cell and all others
    together, without what chance and noise add to it on average; limit: what 95% of differences
    stay below while nothing changes; p: the test of no change."""

    patients: float
    reference: float
    index: float
    limit: float
    p: float


def compare(
    now: NoisedTable, then: Floats, variances: Floats, generator: np.random.Generator
) -> Comparison | None:
    """(B,) noised counts `then`, and the variance of each one's noise. None where there are too few
    patients for their noise, now or then, to compare anything.

    Neighbouring cells are joined until each holds enough by `then` alone, so that what happens now
    does not choose the cells.
    """
    if not _enough(now, then, variances):
        return None
    patients, reference = float(now.counts.sum()), float(then.sum())
    starts = _joined(then, variances, patients / reference, now.variance)
    if len(starts) < 2:
        return None
    widths = np.diff([*starts, len(then)])
    q, p = (np.add.reduceat(counts, starts) for counts in (now.counts, then))
    shares = np.maximum((q + p) / (patients + reference), _SMALL)
    shares = shares / shares.sum()
    noise_now = widths * now.variance
    noise_then = np.add.reduceat(variances, starts)
    difference = q / patients - p / reference
    centred = np.eye(len(shares)) - shares[:, None]  # the noise moves the number of patients too
    covariance = (1 / patients + 1 / reference) * (np.diag(shares) - np.outer(shares, shares))
    covariance += centred @ np.diag(noise_now / patients**2 + noise_then / reference**2) @ centred.T
    precision = np.linalg.inv(covariance[:-1, :-1])
    drawn = _drawn(now, widths, shares, patients, noise_then, reference, generator)

    def chi_squares(of: Floats) -> Floats:
        return np.asarray(np.einsum("...i,ij,...j->...", of[..., :-1], precision, of[..., :-1]))

    def indices(of: Floats) -> Floats:
        return np.asarray((of**2 / shares).sum(axis=-1))

    chi_square, seen = float(chi_squares(difference)), float(indices(difference))
    by_chance = indices(drawn)
    limit = float(np.quantile(by_chance, 0.95))
    # ||d|| differs from the true difference's length by the error's length at most
    low, high = max(0.0, seen**0.5 - limit**0.5) ** 2, (seen**0.5 + limit**0.5) ** 2
    return Comparison(
        patients=patients,
        reference=reference,
        index=max(0.0, seen - float(by_chance.mean())),
        low=low,
        high=high,
        limit=limit,
        degrees=len(shares) - 1,
        chi_square=chi_square,
        p=float((1 + (chi_squares(drawn) >= chi_square).sum()) / (1 + len(drawn))),
    )


def compare_commonest(
    now: NoisedTable, then: Floats, variances: Floats, generator: np.random.Generator
) -> OneShare | None:
    """As `compare`, of one cell against all others together: for a column that has hardly anything
    but one value, where `compare` finds no two groups. None where there are too few patients."""
    if not _enough(now, then, variances):
        return None
    patients, reference, top = float(now.counts.sum()), float(then.sum()), int(then.argmax())
    q, p = (np.array([of[top], of.sum() - of[top]]) for of in (now.counts, then))
    noise_then = np.array([variances[top], variances.sum() - variances[top]])
    shares = np.maximum((q + p) / (patients + reference), _SMALL)
    shares, widths = shares / shares.sum(), np.array([1, len(then) - 1])
    drawn = _drawn(now, widths, shares, patients, noise_then, reference, generator)
    by_chance, seen = np.abs(drawn[:, 0]), abs(q[0] / patients - p[0] / reference)
    at_least = np.maximum(shares, 1 / (patients + reference))
    excess = float(seen**2 - (by_chance**2).mean()) * float((1 / at_least).sum())
    return OneShare(
        patients=patients,
        reference=reference,
        index=max(0.0, excess),
        limit=float(np.quantile(by_chance, 0.95)),
        p=float((1 + (by_chance >= seen).sum()) / (1 + len(drawn))),
    )


def _enough(now: NoisedTable, then: Floats, variances: Floats) -> bool:
    """Whether there are patients enough for their noise, now and then."""
    spread = float(np.sqrt(variances.sum()))
    few = float(then.sum()) < _LEAST_SIGNAL * max(spread, 1.0)
    return now.enough(float(now.counts.sum()), now.counts.size) and not few


def _joined(then: Floats, variances: Floats, ratio: float, noise: float) -> list[int]:
    """The first cell of each group; ratio: patients now for each one then."""
    starts, begun = [0], 0
    for at in range(1, len(then) + 1):
        count, width = float(then[begun:at].sum()), at - begun
        spread = float(np.sqrt(variances[begun:at].sum()))
        noisy = _LEAST_SIGNAL * float(np.sqrt(noise * width))
        if count >= max(_LEAST_PATIENTS, _LEAST_SIGNAL * spread) and (
            count * ratio >= max(_LEAST_PATIENTS, noisy)
        ):
            starts.append(at)
            begun = at
    return starts[:-1] if len(starts) > 1 else starts


def _drawn(
    now: NoisedTable,
    widths: npt.NDArray[np.int64],
    shares: Floats,
    patients: float,
    noise_then: Floats,
    reference: float,
    generator: np.random.Generator,
) -> Floats:
    """(DRAWS, groups) differences of shares while nothing changes."""
    of_now = generator.multinomial(max(1, round(patients)), shares, size=DRAWS).astype(np.float64)
    for group, width in enumerate(widths):
        of_now[:, group] += now.noise(generator, (DRAWS, int(width))).sum(axis=1)
    of_then = generator.multinomial(max(1, round(reference)), shares, size=DRAWS)
    noised = of_then + generator.normal(size=of_then.shape) * np.sqrt(noise_then)
    ends = [np.maximum(of.sum(axis=1, keepdims=True), 1.0) for of in (of_now, noised)]
    return np.asarray(of_now / ends[0] - noised / ends[1])
