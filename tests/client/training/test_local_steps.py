"""Which steps a site takes: private ones wherever the study's mode is private, or none at all."""

from typing import Any

import numpy as np
import pytest

from client.training.local_steps import RoundSteps, SiteContext
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.vectors import Vector
from tests.client.hospital import study

START = np.zeros(31, np.float32)
NONE: dict[str, Any] = {
    "privacy": {"mode": "none", "sampling_rate": 0.5},
    "evaluation": {"release": "exact"},
}


class Recording:
    """In the place of learner and patients: notes which steps were taken, and draws a number."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.drawn: list[float] = []

    def private_steps(self, start: Vector, sample: Any, *_: Any) -> Vector:
        self.taken.append("private")
        return start

    def plain_steps(self, start: Vector, sample: Any, *_: Any, mixed: bool = False) -> Vector:
        self.taken.append("plain")
        sample()
        return start

    def plain_sample(self, rate: float, generator: np.random.Generator) -> None:
        self.drawn.append(generator.random())


def steps(of: Study, round_: int = 1) -> tuple[RoundSteps, Recording]:
    seen = Recording()
    context = SiteContext(of, "alpha", seen, seen)  # type: ignore[arg-type]  # one recorder stands for both
    return RoundSteps(context, round_), seen


def test_the_studys_steps_are_those_of_its_mode() -> None:
    for of, kind in ((study(), "private"), (study(**NONE), "plain")):
        made, seen = steps(of)
        made.of_study(START)
        assert seen.taken == [kind]


def test_a_mode_of_one_sum_has_no_steps() -> None:
    made, seen = steps(study(privacy__mode="distributed"))
    with pytest.raises(WardroundError) as refused:
        made.of_study(START)
    assert refused.value.code is Code.INTERNAL
    assert not seen.taken


def test_a_mode_that_nobody_knows_takes_no_step() -> None:
    known = study()
    privacy = known.privacy.model_copy(update={"mode": "shuffled"})
    made, seen = steps(known.model_copy(update={"privacy": privacy}))
    with pytest.raises(AssertionError, match="unreachable"):
        made.of_study(START)
    with pytest.raises(AssertionError, match="unreachable"):
        made.of_site(START, 1, 0.1, lambda w: w)
    assert not seen.taken


def test_a_sample_can_be_foreseen_only_where_nothing_is_private() -> None:
    drawn: dict[str, list[float]] = {}
    for name, of in (("private", study()), ("none", study(**NONE))):
        for _ in range(2):
            made, seen = steps(of, round_=3)
            made.of_site(START, 1, 0.1, lambda w: w)
            drawn.setdefault(name, []).extend(seen.drawn)
    assert drawn["none"][0] == drawn["none"][1]
    assert drawn["private"][0] != drawn["private"][1]
    made, seen = steps(study(**NONE), round_=3)
    made.of_study(START)
    assert seen.drawn != drawn["none"][:1]
