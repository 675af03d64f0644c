"""A hospital of five that sends garbage is found, whenever it lies, and nobody else is."""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path

import pytest

from client.data.cohort import Cohort
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.messages import Collect, Frame, Prepare
from server.model.checkpoint import Checkpoint
from tests.attack.hostile import Words
from tests.attack.liars import Federation, Lies, run
from tests.attack.simulated import cohorts, study_of

PARAMETERS = 31
RUNS = 12
"""Of each kind of liar here; `bench/liars.py` makes 200."""


@pytest.fixture(scope="module")
def patients() -> dict[str, Cohort]:
    return cohorts(5)


def planned(patients: dict[str, Cohort], *overrides: str) -> Study:
    words = ("privacy.epsilon=20", "rounds=6", "aggregation.spare_attempts=40", *overrides)
    return study_of(patients, "privacy=distributed", *words)


@pytest.fixture(scope="module")
def study(patients: dict[str, Cohort]) -> Study:
    return planned(patients)


def always(participants: frozenset[str]) -> bool:
    return True


def now_and_then(seed: int) -> Lies:
    drawn = random.Random(seed)
    return lambda participants: drawn.random() < 0.7


def framing(victim: str) -> Lies:
    """Lies only when the victim takes part, so that it is in every lost set."""
    return lambda participants: victim in participants


@pytest.mark.parametrize("liar", [f"site{k}" for k in range(5)])
def test_a_constant_liar_is_named_within_four_losses_and_four_finish(
    study: Study, patients: dict[str, Cohort], liar: str
) -> None:
    ended = run(study, patients, {liar: always})
    assert (ended.status, ended.left_out) == ("finished", frozenset({liar}))
    assert len(ended.heard.losses) <= 4
    assert ended.participants[-1] == 4
    assert liar in ended.heard.losses[-1]


def test_an_intermittent_liar_is_named_or_nobody_is(
    study: Study, patients: dict[str, Cohort]
) -> None:
    named = 0
    for seed in range(RUNS):
        ended = run(study, patients, {"site3": now_and_then(seed)})
        assert ended.left_out <= {"site3"}
        named += bool(ended.left_out)
    assert named >= RUNS / 2


def test_a_liar_that_frames_another_has_nobody_named_wrongly(
    study: Study, patients: dict[str, Cohort]
) -> None:
    """Nor has it the study's model: either it shows itself, or people are told whom to ask."""
    for seed in range(RUNS):
        liar, victim = random.Random(seed).sample(sorted(patients), 2)
        ended = run(study, patients, {liar: framing(victim)})
        assert ended.left_out <= {liar}
        assert ended.left_out or {liar, victim} <= set(ended.heard.suspects[-1])


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_what_lost_attempts_say_outlasts_a_coordinator(
    study: Study, patients: dict[str, Cohort], tmp_path: Path, patience: int
) -> None:
    """One that ends after so many losses in a row, and begins again."""
    federation, checkpoint = Federation.of(patients, {"site0": always}), tmp_path / "checkpoint.pt"
    before = federation.run(study, checkpoint=checkpoint, failures=patience)
    saved = Checkpoint.load(checkpoint, study.digest)
    assert saved is not None
    assert len(saved.lost) == len(before.heard.losses)
    after = federation.run(study, checkpoint=checkpoint)
    assert (after.status, after.left_out) == ("finished", frozenset({"site0"}))
    assert len(before.heard.losses) + len(after.heard.losses) <= 4


@pytest.mark.parametrize("when", [Prepare, Collect])
def test_one_site_that_says_diverged_ends_no_study(
    study: Study, patients: dict[str, Cohort], when: type
) -> None:
    federation = Federation.of(patients, {})
    honest = federation.sites["site4"].answer

    def answer(received: Frame) -> Frame:
        asked = messages.parse(received)
        if isinstance(asked, when):
            return messages.frame(messages.Refusal(study=study.digest, code=Code.DIVERGED))
        return honest(received)

    federation.sites["site4"].answer = answer  # type: ignore[method-assign]  # a hostile site
    ended = federation.run(study)
    assert ended.status == "finished"
    assert set(ended.participants) == {4}
    assert ended.left_out == ({"site4"} if when is Collect else set())


def test_whose_part_does_not_come_is_no_suspect(study: Study, patients: dict[str, Cohort]) -> None:
    federation = Federation.of(patients, {})
    honest = federation.sites["site4"].answer

    def answer(received: Frame) -> Frame:
        if isinstance(messages.parse(received), Collect):
            return messages.frame(messages.Refusal(study=study.digest, code=Code.LEDGER))
        return honest(received)

    federation.sites["site4"].answer = answer  # type: ignore[method-assign]  # a hostile site
    ended = federation.run(study)
    assert ended.status == "finished", "the others go on while it is in trouble"
    assert set(ended.participants) == {4}
    assert (ended.left_out, ended.heard.suspects) == (frozenset(), [])


def test_where_nobody_can_be_left_out_the_suspects_are_shown_and_the_study_ends(
    patients: dict[str, Cohort],
) -> None:
    three = {site: patients[site] for site in sorted(patients)[:3]}
    ended = run(planned(three), three, {"site1": always})
    assert ended.status.startswith(Code.AGGREGATION)
    assert all(site in ended.status for site in three)
    assert ended.heard.suspects == [tuple(three)]
    assert len(ended.heard.losses) == 2


def test_no_part_leaves_a_site_before_it_is_noted_among_whom_the_sum_is(
    study: Study, patients: dict[str, Cohort]
) -> None:
    """One site's policy allows no sum: it says so, and the others go on without it."""
    federation = Federation.of(patients, {})

    def refuse(study: Study, round_: int, participants: Collection[str]) -> None:
        assert sorted(participants) == sorted(patients)
        raise WardroundError(Code.REFUSED_POLICY, "no more sets", rule="participant_sets")

    federation.sites["site2"]._governance.take_part = refuse  # type: ignore[method-assign]  # a hostile site
    ended = federation.run(study)
    assert (ended.status, ended.left_out) == ("finished", frozenset())
    assert ended.heard.losses == ["No share came from site2."]
    assert set(ended.participants) == {4}


def test_a_lie_within_what_is_possible_is_not_noticed(
    study: Study, patients: dict[str, Cohort]
) -> None:
    """As the threat model says: the sum of a few patients more."""

    def a_few_patients(share: Words) -> Words:
        words = share.copy()
        if len(words) > PARAMETERS:  # of an attempt that trains
            words[:PARAMETERS] += share.dtype.type(study.aggregation.scale)
        return words

    ended = run(study, patients, {"site1": always}, lie=a_few_patients)
    assert (ended.status, ended.left_out, ended.heard.losses) == ("finished", frozenset(), [])
