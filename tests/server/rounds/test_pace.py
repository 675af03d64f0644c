"""A site that holds everybody up is asked less often, and never left out of what has begun."""

import itertools
from typing import Any

import pytest

from launch.config import compose
from launch.studies.study_builder import build_study
from protocol.study.study import Study
from server.rounds.pace import REST, SHORT, Pace
from tasks.shipped.breast_cancer import BreastCancer

SITES = {"east": 110, "north": 150, "south": 72, "west": 47}
QUICK = {"east": 20.0, "north": 30.0, "south": 25.0}


def study(*words: str) -> Study:
    deployed = ["federation=deployment", "privacy.epsilon=5", "privacy=local", *words]
    return build_study(compose.load(deployed), BreastCancer(), SITES)


def asked(pace: Pace, west: float, rounds: int) -> list[int]:
    """The rounds in which west is asked, where it takes so many seconds each time."""
    taken = []
    for round_ in range(1, rounds + 1):
        times: dict[str, Any] = dict(QUICK)
        if "west" not in pace.resting(round_):
            taken.append(round_)
            times["west"] = west
        pace.note(round_, times)
    return taken


def test_a_slow_site_rests_twice_as_long_each_time() -> None:
    assert asked(Pace(study("aggregation.slow=4")), 101.0, 40) == [1, 3, 6, 11, 20, 37]


def test_after_many_times_it_still_comes_back() -> None:
    taken = asked(Pace(study("aggregation.slow=4")), 1e6, 400)
    assert max(later - sooner for sooner, later in itertools.pairwise(taken)) == REST + 1


@pytest.mark.parametrize(
    ("words", "west"),
    [(("aggregation.slow=4",), 100.0), ((), 1e6)],
    ids=["within the factor", "no rule"],
)
def test_others_are_asked_in_every_round(words: tuple[str, ...], west: float) -> None:
    assert asked(Pace(study(*words)), west, 5) == [1, 2, 3, 4, 5]


def test_nobody_is_slow_in_seconds() -> None:
    pace = Pace(study("aggregation.slow=4"))
    pace.note(1, {"east": 0.1, "north": 0.1, "south": 0.1, "west": SHORT})
    assert not pace.resting(2)
    pace.note(2, {"east": 0.1, "north": 0.1, "south": 0.1, "west": SHORT + 0.1})
    assert pace.resting(3) == {"west"}
    assert not pace.resting(4)
    pace.note(4, {"east": 0.1, "north": 0.1, "south": 0.1, "west": 0.1})
    pace.note(5, {"east": 0.1, "north": 0.1, "south": 0.1, "west": 1e3})
    assert not pace.resting(7), "it had kept pace once, so it begins with one round"


def test_an_exact_sum_waits_for_everybody() -> None:
    exact = build_study(
        compose.load(["federation=deployment", "privacy=none", "evaluation=exact"]),
        BreastCancer(),
        SITES,
    )
    ruled = exact.model_copy(
        update={"aggregation": exact.aggregation.model_copy(update={"slow": 2.0})}
    )
    assert asked(Pace(ruled), 1e6, 5) == [1, 2, 3, 4, 5]
