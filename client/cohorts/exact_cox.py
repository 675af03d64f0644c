"""What a site adds to an exact sum of Cox's model, with baseline hazards of its own strata.

The partial likelihood is Breslow's, of times in joined public intervals: whoever departs within an
interval is at risk at its events, and times before the first are left out. Prior weights and an
offset enter as in R's `coxph`. A patient is at risk among those of the same site and stratum only,
so that everything that compares patients is computed here, and its sums over sites are those of
pooled patients in these strata:

- score residuals (Lin and Wei 1989), whose outer products robust standard errors take;
- pairs of whom one has the event while the other is still followed (Harrell 1982), ties of risk
  counting half, in units of PAIRS;
- squared errors of the survival that the model states, and of the Kaplan-Meier curve without
  covariates, weighted by the inverse probability of censoring (Graf 1999), of each patient the mean
  over the joined intervals by their width. No weight is above 20.

In the last two each patient counts once, whatever the prior weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.cohorts.exact_design import ExactDesign, Floats, Places
from protocol.exact.sums import PAIRS, SiteSums
from protocol.study.exact_analysis import COX_TOTALS

_LEAST_FOLLOWED = 0.05
"""The least share of patients not yet censored by which an error is divided."""
_TIE_DIGITS = 9
"""Predictors that agree to so many digits are one risk."""


@dataclass(frozen=True)
class _Stratum:
    """n patients of one stratum. x: (n, P); place: (n,) their joined interval, K beyond the last;
    happened: (n,) whether the event came within one; prior: (n,) weights; predictor: (n,)."""

    x: Floats
    place: Places
    happened: npt.NDArray[np.bool_]
    prior: Floats
    predictor: Floats


def cox_sums(
    design: ExactDesign, at: Floats, joined: tuple[int, ...], widths: Floats
) -> tuple[SiteSums, Floats]:
    """(P,) coefficients; for each public interval its joined one; (K,) widths of these, whose sum
    is 1 -> the site's sums, and (N,) the patients' relative hazards times their prior weights."""
    p, intervals = len(at), len(widths)
    places = np.append(np.array(joined), intervals)  # after the last interval: at risk in all
    gradient, information, outer = np.zeros(p), np.zeros((p, p)), np.zeros((p, p))
    totals, hazards = np.zeros(len(COX_TOTALS)), np.zeros(len(design.outcome))
    for rows in design.strata():
        rows = rows[(design.interval[rows] >= 0) & (design.weights[rows] > 0)]
        if not len(rows):
            continue
        place, x = places[design.interval[rows]], design.covariates[rows]
        of = _Stratum(
            x - x.mean(axis=0),  # moves nothing but the last bits
            place,
            (design.outcome[rows] > 0) & (place < intervals),
            design.weights[rows],
            x @ at + design.offset[rows],
        )
        scores, part, hazard, fitted = _partial(of, intervals)
        gradient += scores.sum(axis=0)
        information += part
        outer += scores.T @ scores
        totals += (*fitted[:2], len(rows), *_fit(of, fitted[2], widths))
        hazards[rows] = hazard
    return SiteSums(gradient, information, outer, tuple(map(float, totals))), hazards


def _partial(
    of: _Stratum, intervals: int
) -> tuple[Floats, Floats, Floats, tuple[float, float, Floats]]:
    """Score residuals (n, P), information (P, P), relative hazards (n,) with their weights; and
    -2 log partial likelihood, its half, and (n, K) the survival that the model states."""
    top = float(of.predictor.max())
    relative = np.exp(of.predictor - top)
    hazard = of.prior * relative
    at_place = np.zeros((intervals + 1, len(hazard)))
    at_place[of.place, np.arange(len(hazard))] = 1.0

    def at_risk(each: Floats) -> Floats:
        return np.cumsum((at_place @ each)[::-1], axis=0)[::-1][:intervals]

    zero, one = at_risk(hazard), at_risk(of.x * hazard[:, None])
    dying = (at_place @ (of.prior * of.happened))[:intervals]
    with np.errstate(divide="ignore", invalid="ignore"):
        increments = np.where(dying > 0, dying / zero, 0.0)
        means = np.where(dying[:, None] > 0, one / zero[:, None], 0.0)
    until = np.minimum(of.place, intervals - 1)
    reached = np.cumsum(increments)
    weighted = np.cumsum(increments[:, None] * means, axis=0)
    scores = -hazard[:, None] * (of.x * reached[until][:, None] - weighted[until])
    happened = of.happened
    scores[happened] += of.prior[happened, None] * (of.x[happened] - means[of.place[happened]])
    information = of.x.T @ (of.x * (hazard * reached[until])[:, None])
    information -= means.T @ (means * dying[:, None])
    some = dying > 0
    likelihood = float((of.prior * of.predictor)[happened].sum())
    likelihood -= float(dying[some] @ (np.log(zero[some]) + top))
    survival = np.exp(-relative[:, None] * reached)
    return scores, information, hazard, (-2 * likelihood, likelihood, survival)


def _fit(
    of: _Stratum, survival: Floats, widths: Floats
) -> tuple[float, float, float, float, float]:
    """Events; pairs in the right order and all pairs, in units of PAIRS; squared errors of the
    model and of the curve without covariates."""
    intervals = len(widths)
    dying = np.bincount(of.place[of.happened], minlength=intervals + 1)[:intervals]
    left = np.bincount(of.place[~of.happened], minlength=intervals + 1)[:intervals]
    at_risk = len(of.place) - np.concatenate([[0], np.cumsum(dying + left)[:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = np.cumprod(np.nan_to_num(1 - dying / at_risk))
        stays = np.nan_to_num(1 - left / (at_risk - dying))
    followed = np.maximum(np.cumprod(stays), _LEAST_FOLLOWED)
    before = np.concatenate([[1.0], followed[:-1]])
    times = np.arange(intervals)
    alive = (of.place[:, None] > times) / followed
    gone = of.happened[:, None] & (of.place[:, None] <= times)
    gone = gone / before[np.minimum(of.place, intervals - 1)][:, None]

    def errors(stated: Floats) -> float:
        return float((alive * (1 - stated) ** 2 + gone * stated**2).sum(axis=0) @ widths)

    right, pairs = _pairs(of, intervals)
    return float(dying.sum()), right / PAIRS, pairs / PAIRS, errors(survival), errors(curve)


def _pairs(of: _Stratum, intervals: int) -> tuple[float, float]:
    """Whoever departs in the interval of another's event is followed beyond it."""
    risk, right, pairs = np.round(of.predictor, _TIE_DIGITS), 0.0, 0
    order = np.argsort(risk)
    risk, place, happened = risk[order], of.place[order], of.happened[order]
    for interval in range(intervals):
        dying = risk[happened & (place == interval)]
        later = (place > interval) | ((place == interval) & ~happened)
        beyond = risk[later]  # in order, as all are
        below = np.searchsorted(beyond, dying, side="left")
        right += float((below + np.searchsorted(beyond, dying, side="right")).sum()) / 2
        pairs += len(dying) * len(beyond)
    return right, float(pairs)
