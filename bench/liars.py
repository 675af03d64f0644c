"""How soon a hospital that sends garbage is found, whether anybody is framed, what checks cost.

    python bench/liars.py

One JSON line a figure. Five hospitals of the breast cancer task in one process, at least three in a
sum, mode distributed, real keys and masks. Each of the five in turn sends garbage in every round;
then 200 studies each have one that lies only beside a victim, or now and then, to have another
named. The checks' cost: processor seconds of 300 pairs of rounds that train and evaluate, one with
them and one without, in alternating order.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

from launch.federations.inprocess import InProcessFleet
from protocol.privacy.possible_sums import impossible
from protocol.study.vector_layout import Sections
from server.model.global_model import GlobalModel
from server.rounds import attempt
from server.rounds.attempt import Attempt, Traffic
from support.figure import figure, load
from tasks import registry
from tests.attack.liars import Federation, Lies, run
from tests.attack.simulated import TASK, changed, cohorts, study_of

SITES = 5
RUNS = 200
PAIRS = 300


def sly(seed: int) -> tuple[str, Lies]:
    """A liar, and when it lies: beside its victim only, but for a share of times of its own."""
    drawn = random.Random(seed)
    liar, victim = drawn.sample([f"site{k}" for k in range(SITES)], 2)
    beside, else_ = drawn.choice([1.0, 0.7]), drawn.choice([0.0, 0.0, 0.2])
    return liar, lambda sites: drawn.random() < (beside if victim in sites else else_)


def search() -> bool:
    """A constant liar's losses until it is named; and whether anybody is ever named wrongly."""
    patients = cohorts(SITES)
    words = ("privacy=distributed", "privacy.epsilon=20", "rounds=6")
    study = study_of(patients, *words, "aggregation.spare_attempts=40")
    losses, finished = [], 0
    for liar in patients:
        ended = run(study, patients, {liar: lambda sites: True})
        losses.append(len(ended.heard.losses))
        four = ended.participants[-1:] == (SITES - 1,)
        finished += ended.status == "finished" and ended.left_out == {liar} and four
    wrong = named = 0
    for seed in range(RUNS):
        liar, lies = sly(seed)
        found = run(study, patients, {liar: lies}).left_out
        wrong, named = wrong + bool(found - {liar}), named + (found == {liar})
    return all(
        (
            figure("losses until a constant liar is named", max(losses), "attempts", 4),
            figure("studies of 5 finished by the other four", finished, "", SITES, least=True),
            figure("honest sites named, a liar framing them", wrong, f"of {RUNS}", 0, liars=named),
        )
    )


def cost() -> bool:
    """Processor time of a round with checks, relative to one without."""
    patients = cohorts(SITES)
    planned = study_of(patients, "privacy=distributed", "privacy.epsilon=20", "evaluation.every=1")
    study = changed(planned, "aggregation", attempts=2 * PAIRS + 2)
    federation = Federation.of(patients, {})
    federation.propose(study)
    model = GlobalModel(study, registry.load(TASK))
    sections, sites = Sections(study, train=True, evaluate=True), frozenset(federation.sites)
    fleet = InProcessFleet(federation.sites)
    one = Attempt(study, federation.roster, fleet, Traffic(), 60.0)
    checks: dict[str, Callable[..., str]] = {"with": impossible, "without": lambda *_: ""}
    taken: dict[str, list[float]] = {name: [] for name in checks}
    for number in range(1, 2 * PAIRS + 3):
        name = ("with", "without", "without", "with")[number % 4]
        attempt.impossible = checks[name]  # type: ignore[attr-defined]  # a check is replaced
        start = time.process_time()
        one.run(sites, number, 2, sections, model.body(sections))
        taken[name].append(time.process_time() - start)
    attempt.impossible = impossible  # type: ignore[attr-defined]  # a check is replaced
    # The first pair loads cohorts. Medians, since what else runs here costs some rounds dearly.
    medians = {name: 1000 * statistics.median(of[1:]) for name, of in taken.items()}
    return figure(
        "processor time of the checks", 100 * (medians["with"] / medians["without"] - 1),
        "% of a round", 8.0, pairs=PAIRS, round_ms=round(medians["without"], 2), load=load(),
    )  # fmt: skip


if __name__ == "__main__":
    results = [search(), cost()]
    sys.exit(not all(results))
