"""Where this site differs from all sites together, column by column (`wardround query quality`).

The site itself sees it from its own counts (`seen_here`), which never leave. What leaves, masked,
is one word for each column and how far the site lies from all, made of noised counts alone
(`said`): so it says no more of a patient than those counts would, however often and with whatever
references it is asked. Both compare with all sites, this one among them: that makes differences
look smaller, never larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocol import durable_files
from protocol.privacy import query_noise
from protocol.statistics.drift import compare, compare_commonest
from protocol.statistics.drift_tables import Verdict, share_verdict, verdict
from protocol.statistics.harmonisation.between_sites import figures, to_integers
from protocol.statistics.noised_table import NoisedTable
from protocol.study.query import SITES_THAT, Differing
from protocol.study.study import Study
from protocol.terminal.printable import as_html

FOLDER = "comparisons"
"""In the state folder."""
_NO_NOISE = np.zeros(1), np.ones(1)
_PLACES: dict[Verdict, int] = {
    "ALARM": 0,
    "warning": 0,
    "no sign of drift": 1,
    "cannot tell": 2,
}
"""In `SITES_THAT`: whether a difference is a large one is for people to judge."""
Integers = npt.NDArray[np.int64]
Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColumnHere:
    """One column at this site and at all sites: shares by label, and what is said of them."""

    name: str
    says: str
    p: float | None
    """How likely so large a difference is without any; None where there is too little to tell."""
    shares: tuple[tuple[str, float, float], ...]
    """Label, share here, share over all sites (noised)."""


def said(study: Study, counts: Integers) -> Integers:
    """(cells of all histograms,) integers in units of `scale` -> (cells of the query,): for each
    column `scale` at the word that the site says, then its figures, which are 0 where it has too
    few patients for its noise. Draws fresh noise, which the ledger has been debited for."""
    scale = study.evaluation.scale
    noised = (counts + query_noise.own(study, len(counts))) / scale
    cells = []
    for statistic, here, word, _ in _compared(study, noised, query_noise.own_noise(study)):
        cells.append(np.eye(len(SITES_THAT), dtype=np.int64)[word] * scale)
        of_site = figures(statistic, here.counts, here.variance)
        enough = here.enough(float(here.counts.sum()), here.counts.size)
        cells.append(to_integers(of_site if enough else np.zeros_like(of_site)))
    return np.concatenate(cells)


def seen_here(study: Study, counts: Integers) -> list[ColumnHere]:
    """The same without noise at this site: for this site alone."""
    columns = []
    for statistic, here, word, p in _compared(study, counts / study.evaluation.scale, _NO_NOISE):
        everywhere = _shares(np.array(statistic.released.counts))
        shares = zip(statistic.axis.labels, _shares(here.counts), everywhere, strict=True)
        columns.append(ColumnHere(statistic.name, SITES_THAT[word], p, tuple(shares)))
    return columns


def _compared(
    study: Study, counts: Counts, noise: tuple[Counts, Counts]
) -> Iterator[tuple[Differing, NoisedTable, int, float | None]]:
    """Each statistic with its counts, their place in `SITES_THAT`, and p where there is one."""
    query, _ = query_noise.query_and_event(study)
    generator, start = np.random.default_rng(0), 0
    for statistic in query.statistics:
        if isinstance(statistic, Differing):
            here = counts[start : start + len(statistic.axis.labels)]
            start += len(here)
            table = NoisedTable((statistic.axis,), here, *noise, query.least_count)
            yield statistic, table, *_judged(statistic, table, len(query.statistics), generator)


def _judged(
    statistic: Differing, here: NoisedTable, tests: int, generator: np.random.Generator
) -> tuple[int, float | None]:
    released = statistic.released
    then, variances = np.array(released.counts), np.array(released.variances)
    if (found := compare(here, then, variances, generator)) is not None:
        return _PLACES[verdict(found, tests)], found.p
    if (one := compare_commonest(here, then, variances, generator)) is not None:
        return _PLACES[share_verdict(one, tests)], one.p
    return 2, None


def _shares(counts: Counts) -> list[float]:
    whole = max(float(counts.sum()), 1.0)
    return [min(1.0, max(0.0, float(count) / whole)) for count in counts]


def write_page(study: Study, columns: list[ColumnHere], state: Path) -> Path:
    """One HTML file, 0600, in the site's state folder; returns its path. Raises OSError."""
    folder = state / FOLDER
    durable_files.make_folder(folder)
    body = "\n".join(map(_section, sorted(columns, key=lambda one: SITES_THAT.index(one.says))))
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{as_html(study.title)}</title></head><body>
<h1>{as_html(study.title)}</h1>
<p>This site's own counts, without noise: for this site alone. Beside them what all sites have
released together, with noise. Study {study.digest[:12]}.</p>
{body}
</body></html>
"""
    path = folder / f"{study.digest[:12]}.html"
    durable_files.write(path, page.encode())
    return path


def _section(column: ColumnHere) -> str:
    words = {
        "differ": "differs from all sites by more than noise and chance",
        "do not differ": "no difference beyond noise and chance",
        "cannot tell": "too few patients for the noise",
    }
    chance = "" if column.p is None else f" (p = {column.p:.2g})"
    rows = "".join(
        f"<tr><td>{as_html(label)}</td><td>{here:.1%}</td><td>{everywhere:.1%}</td></tr>"
        for label, here, everywhere in column.shares
    )
    return (
        f"<h2>{as_html(column.name)}: {words[column.says]}{chance}</h2><table><tr><th></th>"
        f"<th>here</th><th>all sites</th></tr>{rows}</table>"
    )
