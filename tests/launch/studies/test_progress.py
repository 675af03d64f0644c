"""What a person sees of a study: a table in a terminal, lines in a pipe, and how long it takes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from launch.config.compose import load
from launch.studies.progress import StudyProgress, time_left
from launch.studies.study_builder import build_study
from protocol.outcomes.estimates import Estimate
from protocol.study.study import Study
from server.outcome import RoundReport
from tasks import registry


@pytest.fixture(scope="module")
def study() -> Study:
    words = ["privacy=local", "privacy.epsilon=8", "rounds=40"]
    task = registry.load("breast_cancer")
    return build_study(load(words), task, {"east": 900, "north": 900, "south": 900})


def report(round_: int, *, seconds: float = 2.0, auc: float | None = None) -> RoundReport:
    metrics = {} if auc is None else {"auc": Estimate(auc, auc - 0.01, auc + 0.01)}
    return RoundReport(round_, round_, 2, seconds, 1000, 2000, round_ / 10, metrics)


def shown(study: Study, *, terminal: bool) -> tuple[StudyProgress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None)
    return StudyProgress(study, console), text


def test_a_pipe_gets_plain_lines_with_what_matters(study: Study) -> None:
    progress, text = shown(study, terminal=False)
    with progress:
        progress.waiting("approval", ("north", "south"))
        progress.waiting("approval", ())
        progress.round(report(1))
        progress.lost(2, 2, "2 sites were ready, 3 are needed")
        progress.round(report(2, auc=0.912))
        progress.round(report(3))
        progress.round(report(40, auc=0.95))
    lines = text.getvalue().splitlines()
    assert lines[0] == "waiting for approval at: north, south"
    assert "attempt 2 was lost (2 sites were ready, 3 are needed)" in lines[2]
    assert "once they are spent" in lines[3]
    assert lines[4] == "round 2/40 AUC 0.912 epsilon 0.200 2/3 sites 2.00 s, 76 s left"
    assert lines[-1].startswith("round 40/40 AUC 0.950")
    assert "left" not in lines[-1]
    assert "\x1b" not in text.getvalue()


def test_a_terminal_gets_one_table_that_stays(study: Study) -> None:
    progress, text = shown(study, terminal=True)
    with progress:
        for round_ in range(1, 21):
            progress.round(report(round_, auc=0.9 + round_ / 1000))
        progress.waiting("offline", ("east",))
    final = text.getvalue().rpartition("round")[0].rpartition("epsilon of 8")[2]
    assert "2/3" in final
    rows = [line.split()[0] for line in final.splitlines()[1:] if line.strip()]
    assert rows[:12] == [str(n) for n in range(9, 21)], "the last twelve stay in view"
    assert "40 s left" in text.getvalue()
    assert "waiting for sites to come online: east" in text.getvalue()


@pytest.mark.parametrize(
    ("seconds", "left"), [(0.01, "0 s left"), (5.0, "3 min left"), (60.0, "38 min left")]
)
def test_time_left_follows_the_last_rounds(seconds: float, left: str) -> None:
    rounds = [report(1, seconds=900.0), report(2, seconds=seconds), report(2, seconds=seconds)]
    assert time_left(rounds, 40) == left
    assert time_left([report(40)], 40) == ""
    assert time_left([report(1, seconds=3600.0)], 40).endswith(" h left")
