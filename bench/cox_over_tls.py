"""An exact Cox model of a large trial, over a federation's own processes and TLS.

    python bench/cox_over_tls.py

A coordinator and four daemons with 10,000 patients of 20 covariates each, processes of their own;
20 public intervals of time. Seconds from the question to the tables, by the one who asks: proposal,
noised counts, an exact sum for each iterate, the fit at every site. A first question of the same
kind, whose processes load what they need, is timed apart.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from client.enrolment import new_site
from launch.demo.consortium import CREDENTIALS
from launch.queries.ask import QueryResult, Where, ask
from launch.queries.exact_analyses import exact_cox
from launch.queries.query_builder import Price
from launch.queries.question import Question
from protocol.statistics.results import Figure
from support.deployment import Deployment
from support.figure import figure, load
from support.tasks import Trial, install
from tasks import registry

BAR = 20.0
"""Seconds."""
COVARIATES = " + ".join(f"x{k}" for k in range(20))


class Allowing(Deployment):
    """Its sites answer queries."""

    def _found(self, site: str, data: Path) -> None:
        super()._found(site, data)
        rules = self.folder / site / new_site.SITE_YAML
        text = rules.read_text()
        rules.write_text(text.replace("queries: []", "queries: [count, histogram, table]"))


def main() -> int:
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        env = install(Path(folder), Trial)
        task = registry.load(Trial.name)
        with Allowing(Path(folder) / "federation", task, env) as deployment:
            where = Where(credentials=deployment.folder / CREDENTIALS)
            first, _ = _timed("x0", where)
            seconds, answered = _timed(COVARIATES, where)
    holds = figure(
        "exact Cox model, 4 sites x 10,000 patients x 20 covariates, over TLS",
        seconds,
        "s",
        BAR,
        first_s=round(first, 1),
        sums=_sums(answered),
        megabytes=round((answered.outcome.bytes_sent + answered.outcome.bytes_received) / 1e6, 2),
        load=load(),
    )
    return 0 if holds else 1


def _timed(formula: str, where: Where) -> tuple[float, QueryResult]:
    question = exact_cox(Question.about(Trial.name), "months:20", "died = 1", formula)
    started = time.perf_counter()
    answered = ask(question, Price(epsilon=5.0, delta=1e-3), where)
    return time.perf_counter() - started, answered


def _sums(answered: QueryResult) -> float:
    if answered.analysis is None:
        raise RuntimeError("The study has no analysis.")
    (cell,) = (
        row.cells[0] for row in answered.analysis.tables[1].rows if row.label == "exact sums"
    )
    return cell.value or 0.0 if isinstance(cell, Figure) else 0.0


if __name__ == "__main__":
    sys.exit(main())
