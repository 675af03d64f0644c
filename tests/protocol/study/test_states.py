"""One set of states and what may follow each: the drawing in docs/ is the code's."""

import re
from pathlib import Path

import pytest

from protocol.study.states import StudyState

DRAWING = Path(__file__).parents[3] / "docs" / "study_states.md"
TRANSITION = re.compile(r"^ +(\w+) --> (\w+)$", re.MULTILINE)


def test_the_drawing_shows_what_the_code_allows() -> None:
    drawn = {(StudyState(a), StudyState(b)) for a, b in TRANSITION.findall(DRAWING.read_text())}
    assert drawn == {(state, later) for state in StudyState for later in state.following}


def test_only_the_end_and_the_owner_are_for_good() -> None:
    over = {state for state in StudyState if state.over}
    assert over == {StudyState.FINISHED, StudyState.CANCELLED}
    for state in set(StudyState) - over:
        reached, found = {state}, {state}
        while found:
            found = {later for at in found for later in at.following} - reached
            reached |= found
        assert reached >= over, f"{state} can still end"


def test_what_rests_goes_on() -> None:
    for state in StudyState:
        assert state.works + state.rests + state.over == 1
        if state.rests:
            assert StudyState.RUNNING in state.following
            assert state.become(StudyState.RUNNING) is StudyState.RUNNING


def test_what_is_over_becomes_nothing() -> None:
    for state in (StudyState.FINISHED, StudyState.CANCELLED):
        for later in StudyState:
            with pytest.raises(ValueError, match="cannot become"):
                state.become(later)
