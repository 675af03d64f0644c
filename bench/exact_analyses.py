"""Exact analyses against statsmodels on pooled data: coefficients and standard errors.

    pip install statsmodels lifelines     # no dependencies of wardround: lifelines pins pandas < 3
    python bench/exact_analyses.py

Data that lifelines ships: NCCTG lung cancer (`load_lung`), GBSG2 (`load_gbsg2`), ACTG 175, and
Rossi's recidivists (`load_rossi`), complete cases, dealt to four sites by row number; and generated
patients whose information matrix has a condition number of 1e6. Each site's sums are rounded to
integers and added as under masks, and iterates follow from the integers (`protocol.exact`); masks,
messages and ledgers are left out, as they change no integer. References: `GLM` with a column for
each site, `PHReg` with strata by site and Breslow's ties, of times rounded up to the same
intervals, polished by Newton's steps; standard errors are of the package's own Hessian at its
estimate. Survival curves and log-rank tests: lifelines' `KaplanMeierFitter` and
`multivariate_logrank_test`, of times rounded up likewise.

The last figure is the computing of a Cox model at four sites of 10,000 patients and 20 covariates,
one after the other, without a network.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from client.cohorts.exact_cox import cox_sums
from client.cohorts.exact_design import ExactDesign
from client.cohorts.exact_sums import glm_sums
from client.cohorts.exact_times import ExactTimes
from protocol.exact.curves import exact_curve
from protocol.exact.newton import FRACTION_BITS, Iterate, advance
from protocol.exact.sums import OpenedSums, SiteSums
from protocol.exact.transcript import Past
from protocol.statistics.survival import chi_squared, log_rank
from protocol.study.condition import Comparison
from protocol.study.exact_analysis import (
    ConditionOutcome,
    ExactAnalysis,
    ExactModel,
    ExactSurvival,
    NumberCovariate,
    NumberOutcome,
    TimeOutcome,
    fraction_bits,
)
from protocol.study.query import Bins, ConditionAxis
from support.figure import figure

Floats = npt.NDArray[np.float64]
SITES = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.parse_args()
    try:
        import pandas as pd
        import statsmodels.api as sm
        from lifelines.datasets import load_gbsg2, load_lung, load_rossi
    except ImportError as error:
        sys.exit(f"{error.name} is not installed: pip install statsmodels lifelines")
    lung = load_lung()[["age", "sex", "ph.ecog", "wt.loss", "time", "status"]].dropna()
    breast = load_gbsg2()
    horm = (breast.horTh == "yes").to_numpy(float)
    trial = pd.read_csv(files("lifelines.datasets") / "ACTG175.csv")
    arms = np.stack([(trial.arms == arm).to_numpy(float) for arm in (1, 2, 3)], axis=1)
    treated = np.column_stack([trial[["age", "cd40", "karnof", "symptom"]].to_numpy(float), arms])
    followed = (0.0, 180.0, 365.0, 545.0, 730.0, 910.0, 1100.0)
    rossi = load_rossi()
    held = [
        _glm(
            "lung, binomial",
            "binomial",
            lung[["age", "sex", "ph.ecog", "wt.loss"]].to_numpy(float),
            (lung.time > 365).to_numpy(float),
            sm.families.Binomial(),
        ),
        _glm(
            "GBSG2, poisson",
            "poisson",
            np.column_stack([breast[["age", "tsize"]].to_numpy(float), horm]),
            breast.pnodes.to_numpy(float),
            sm.families.Poisson(),
        ),
        _glm(
            "GBSG2, gaussian",
            "gaussian",
            np.column_stack([breast[["age", "pnodes", "progrec"]].to_numpy(float), horm]),
            breast.tsize.to_numpy(float),
            sm.families.Gaussian(),
        ),
        _glm("condition number 1e6, binomial", "binomial", *_ill(), sm.families.Binomial()),
        _cox(
            "lung",
            lung[["age", "sex", "ph.ecog", "wt.loss"]].to_numpy(float),
            lung.time.to_numpy(float),
            lung.status.to_numpy() > 0,
            (0.0, 100.0, 200.0, 300.0, 450.0, 700.0),
        ),
        _cox(
            "GBSG2",
            np.column_stack([breast[["age", "tsize", "pnodes"]].to_numpy(float), horm]),
            breast.time.to_numpy(float),
            breast.cens.to_numpy() > 0,
            (0.0, 365.0, 730.0, 1095.0, 1460.0, 1825.0, 2200.0),
        ),
        _glm(
            "ACTG 175, binomial",
            "binomial",
            treated,
            trial.cens.to_numpy(float),
            sm.families.Binomial(),
        ),
        _cox(
            "ACTG 175",
            treated,
            trial.days.to_numpy(float),
            trial.cens.to_numpy() > 0,
            followed,
        ),
        _cox(
            "Rossi",
            rossi[["fin", "age", "race", "wexp", "mar", "paro", "prio"]].to_numpy(float),
            rossi.week.to_numpy(float),
            rossi.arrest.to_numpy() > 0,
            (0.0, 13.0, 26.0, 39.0, 53.0),
        ),
        _survival(
            "ACTG 175, zidovudine alone and the others",
            trial.arms.to_numpy() == 0,
            trial.days.to_numpy(float),
            trial.cens.to_numpy() > 0,
            followed,
        ),
        _survival(
            "lung, by sex",
            lung.sex.to_numpy() == 1,
            lung.time.to_numpy(float),
            lung.status.to_numpy() > 0,
            (0.0, 100.0, 200.0, 300.0, 450.0, 700.0),
        ),
        _survival(
            "GBSG2, by hormonal therapy",
            horm > 0,
            breast.time.to_numpy(float),
            breast.cens.to_numpy() > 0,
            (0.0, 365.0, 730.0, 1095.0, 1460.0, 1825.0, 2200.0),
        ),
        _large(),
    ]
    return 0 if all(held) else 1


def _ill() -> tuple[Floats, Floats]:
    """(4000, 3) covariates of which two nearly agree, and outcomes."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (4000, 2))
    x = np.column_stack([x, x[:, 0] + 2e-3 * x[:, 1] ** 2])
    y = generator.random(4000) < 1 / (1 + np.exp(-x[:, 0] + x[:, 1]))
    return x, y.astype(float)


def _analysis(model: ExactModel, x: Floats, y: Floats, intervals: int = 1) -> ExactAnalysis:
    event = ConditionAxis(condition=Comparison(column="y", order=">", value=0.0))
    edges = tuple(float(edge) for edge in range(intervals + 1))
    outcomes: dict[ExactModel, Any] = {
        "binomial": ConditionOutcome(axis=event),
        "gaussian": NumberOutcome(column="y", low=0.0, high=float(y.max())),
        "poisson": NumberOutcome(column="y", low=0.0, high=float(y.max())),
        "cox": TimeOutcome(event=event, time=Bins(column="t", edges=edges, outside=True)),
    }
    covariates = tuple(
        NumberCovariate(column=f"x{at}", low=0.0, high=float(np.abs(column).max()))
        for at, column in enumerate(x.T)
    )
    analysis = ExactAnalysis(
        model=model,
        outcome=outcomes[model],
        covariates=covariates,
        terms=tuple((at,) for at in range(len(covariates))),
        coefficient_range=1000.0,
        iterates=15,
        fraction_bits=8,
    )
    bits = fraction_bits(analysis, -(-len(x) // SITES), SITES)
    return analysis.model_copy(update={"fraction_bits": bits})


def _fitted(
    analysis: ExactAnalysis,
    sums: Callable[[ExactDesign, Floats], SiteSums],
    designs: Sequence[ExactDesign],
) -> tuple[Iterate, int]:
    """The last iterate, and how many sums it took. sums: of one site, at coefficients."""
    iterate, taken = Iterate.first(analysis), 0
    while not iterate.converged:
        at = np.array([value / 2**FRACTION_BITS for value in iterate.at])
        parts = [
            np.rint(sums(one, at).flat(analysis) * 2.0**analysis.fraction_bits).astype(np.int64)
            for one in designs
        ]
        total = [int(value) for value in np.sum(parts, axis=0)]
        iterate, taken = advance(analysis, iterate, OpenedSums.read(analysis, total)), taken + 1
    return iterate, taken


def _designs(x: Floats, y: Floats, interval: npt.NDArray[np.int64]) -> list[ExactDesign]:
    """By row number."""
    return [
        ExactDesign(
            x[at::SITES],
            y[at::SITES],
            interval[at::SITES],
            np.zeros(len(x[at::SITES]), np.int64),
            np.zeros(len(x[at::SITES])),
            np.ones(len(x[at::SITES])),
        )
        for at in range(SITES)
    ]


def _found(analysis: ExactAnalysis, iterate: Iterate, dispersion: float) -> tuple[Floats, Floats]:
    """Coefficients and standard errors in the arithmetic's units."""
    assert iterate.sums is not None
    information = np.array(iterate.sums.information, float) * 2.0**-analysis.fraction_bits
    scale = np.sqrt(np.diag(information))
    inverse = np.linalg.inv(information / np.outer(scale, scale)) / np.outer(scale, scale)
    beta = np.array([value / 2**FRACTION_BITS for value in iterate.at])
    return beta, np.sqrt(np.diag(inverse) * dispersion)


def _glm(name: str, family: Any, x: Floats, y: Floats, reference: Any) -> bool:
    import statsmodels.api as sm

    x = x / np.abs(x).max(axis=0)
    analysis = _analysis(family, x, y)
    scaled = y / y.max() if family == "gaussian" else y
    designs = _designs(x, scaled, np.zeros(len(x), np.int64))
    iterate, taken = _fitted(analysis, lambda of, at: glm_sums(family, of, at)[0], designs)
    dispersion = 1.0
    if family == "gaussian" and iterate.sums is not None:
        left = len(y) - x.shape[1] - SITES
        dispersion = iterate.sums.deviance * 2.0**-analysis.fraction_bits / left
    beta, errors = _found(analysis, iterate, dispersion)
    site = np.arange(len(y))[:, None] % SITES == np.arange(SITES)
    full = np.column_stack([x, site.astype(float)])
    model = sm.GLM(scaled, full, family=reference)
    wanted, p = model.fit(tol=1e-14, maxiter=200), x.shape[1]
    # its own standard errors are of the weights before the last step
    hessian = model.hessian(wanted.params, scale=wanted.scale)
    theirs = np.sqrt(np.diag(np.linalg.inv(-hessian)))
    off = [beta / wanted.params[:p] - 1, errors / theirs[:p] - 1]
    return _figure(f"exact regression, {name}", off, taken)


def _cox(
    name: str,
    x: Floats,
    until: Floats,
    event: npt.NDArray[np.bool_],
    edges: tuple[float, ...],
) -> bool:
    from statsmodels.duration.hazard_regression import PHReg

    x = x / np.abs(x).max(axis=0)
    last = len(edges) - 1
    interval = np.minimum(np.searchsorted(np.array(edges), until, side="right") - 1, last)
    analysis, joined = _analysis("cox", x, np.ones(1), last), tuple(range(last))
    designs, widths = (
        _designs(x, event.astype(float), interval.astype(np.int64)),
        np.full(last, 1 / last),
    )
    iterate, taken = _fitted(analysis, lambda of, at: cox_sums(of, at, joined, widths)[0], designs)
    beta, errors = _found(analysis, iterate, 1.0)
    happened = (event & (interval < last)).astype(int)
    strata = np.arange(len(x)) % SITES
    model = PHReg(interval + 1.0, x, status=happened, strata=strata, ties="breslow")
    wanted = np.asarray(model.fit().params)
    for _ in range(20):
        wanted = wanted - np.linalg.solve(model.hessian(wanted), model.score(wanted))
    theirs = np.sqrt(np.diag(np.linalg.inv(-model.hessian(wanted))))
    return _figure(f"exact Cox model, {name}", [beta / wanted - 1, errors / theirs - 1], taken)


def _survival(
    name: str,
    group: npt.NDArray[np.bool_],
    until: Floats,
    event: npt.NDArray[np.bool_],
    edges: tuple[float, ...],
) -> bool:
    """Counts of each site, added up, against the pooled patients; no interval is joined."""
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import multivariate_logrank_test

    last = len(edges) - 1
    interval = np.minimum(np.searchsorted(np.array(edges), until, side="right") - 1, last)
    condition = ConditionAxis(condition=Comparison(column="y", order=">", value=0.0))
    analysis = ExactSurvival(
        outcome=TimeOutcome(event=condition, time=Bins(column="t", edges=edges, outside=True)),
        groups=ConditionAxis(condition=Comparison(column="g", order=">", value=0.0)),
    )
    past = Past("", 1, None, intervals=tuple(range(last)))
    places = [np.where(of, 0, 1).astype(np.int64) for of in (group, event)]
    parts = [
        ExactTimes(
            analysis,
            places[0][at::SITES],
            np.zeros(len(interval[at::SITES]), np.int64),
            places[1][at::SITES],
            interval[at::SITES],
        ).counts(past)[0]
        for at in range(SITES)
    ]
    counted = np.sum(parts, axis=0).reshape(analysis.shape)
    cells = np.concatenate([counted, np.zeros((*counted.shape[:-1], 1))], axis=-1)
    rounded = np.append(np.array(edges[1:]), edges[-1] + 1)[interval]
    happened = event & (interval < last)
    off = []
    for cell, of in zip(cells[:, 0], (group, ~group), strict=True):
        curve = exact_curve(cell, np.array(edges))
        fitted = KaplanMeierFitter().fit(rounded[of], happened[of])
        wanted = fitted.survival_function_at_times(edges[1:]).to_numpy()
        off += [curve.survival - wanted]
        bounds = fitted.confidence_interval_.reindex(edges[1:], method="ffill").to_numpy().T
        off += [curve.low - bounds[0], curve.high - bounds[1]]
    test = chi_squared(*log_rank(cells))
    pooled = multivariate_logrank_test(rounded, group, happened)
    off += [np.array([test.statistic / pooled.test_statistic - 1, test.p / pooled.p_value - 1])]
    largest = float(max(np.abs(part).max() for part in off))
    return figure(
        f"exact Kaplan-Meier and log-rank, {name}: largest error of curves, bands and test",
        largest,
        "",
        1e-9,
        exactly=f"{largest:.1e}",
        sums=1,
    )


def _figure(name: str, off: Sequence[Floats], taken: int) -> bool:
    largest = float(max(np.abs(part).max() for part in off))
    return figure(
        f"{name}: largest error of coefficients and standard errors",
        largest,
        "relative",
        1e-8,
        exactly=f"{largest:.1e}",
        sums=taken,
    )


def _large(patients: int = 10_000, covariates: int = 20) -> bool:
    generator = np.random.default_rng(1)
    x = generator.uniform(-1, 1, (SITES * patients, covariates))
    hazard = np.exp(x @ generator.normal(0, 0.3, covariates))
    until = generator.exponential(1 / hazard)
    interval = np.minimum((until * 10).astype(np.int64), 20)
    analysis, joined = _analysis("cox", x, np.ones(1), 20), tuple(range(20))
    designs = _designs(x, (interval < 20).astype(float), interval)
    started, widths = time.perf_counter(), np.full(20, 1 / 20)
    _, taken = _fitted(analysis, lambda of, at: cox_sums(of, at, joined, widths)[0], designs)
    return figure(
        "computing of an exact Cox model, 4 sites x 10,000 x 20, without a network",
        time.perf_counter() - started,
        "s",
        20.0,
        sums=taken,
    )


if __name__ == "__main__":
    sys.exit(main())
