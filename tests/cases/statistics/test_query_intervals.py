"""Noised statistics over four hospitals: 95% intervals of quartiles and of a mean must cover the
truth about 95 times in 100.

Kind of fault: a quantile of a column of whole numbers (age in years) is interpolated within a bin,
while the truth sits at the bin's edge. The interval must know of the bin, not of the noise only.
"""

from __future__ import annotations

import os
import random
from types import SimpleNamespace

import numpy as np
import pytest

from launch.federations.inprocess import InProcessFederation
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from launch.studies.public_data import data_root
from protocol.privacy import randomness
from server.enrolment.roster import banded
from server.rounds.listener import Listeners

RUNS = 60
LEAST = 0.85
"""Of a 95% interval's coverage in 60 runs."""
SEED = 2
"""Any will do; see `coverage`."""
TASK = "heart_disease"
pytestmark = pytest.mark.skipif(
    not (data_root() / TASK).is_dir(), reason="wardround data fetch heart_disease"
)


@pytest.fixture(scope="module")
def coverage() -> dict[str, float]:
    """Share of runs whose interval holds the truth, by statistic.

    Noise is of the operating system's randomness. It comes from a seed here: of sets of 60 runs,
    one in a hundred would find the mean below the bound although its interval is right, and one in
    ten thousand the upper quartile above it although its interval is wrong.
    """
    about = Question.about(TASK)
    tables = about.task.public_sites(data_root())
    patients = {site: banded(len(set(of["patient"].tolist()))) for site, of in tables.items()}
    age = np.concatenate([np.asarray(table["age"], float) for table in tables.values()])
    age = age[~np.isnan(age)]
    truth = {f"q{p}": float(np.quantile(age, p / 100)) for p in (25, 50, 75)}
    truth["mean"] = float(age.mean())
    hits: dict[str, list[bool]] = {}
    for question in (about.quantiles("age"), about.mean("age")):
        study = build_query(question, patients, Price())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(randomness, "os", _seeded_os())
            for _ in range(RUNS):
                federation = InProcessFederation({}, tables)
                outcome = federation.run(study, question.task, Listeners())
                for answer in outcome.answers:
                    for name, value in answer.derived.items():
                        if name in truth:
                            held = value.low <= truth[name] <= value.high
                            hits.setdefault(name, []).append(held)
    return {name: float(np.mean(held)) for name, held in hits.items()}


def _seeded_os() -> SimpleNamespace:
    return SimpleNamespace(urandom=random.Random(SEED).randbytes, getpid=os.getpid)


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["q25", "q50", "q75", "mean"])
def test_an_interval_covers_the_truth(coverage: dict[str, float], statistic: str) -> None:
    assert coverage.get(statistic, 0.0) >= LEAST
