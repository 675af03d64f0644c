"""Titles, names and reasons that another party chose are text in a data scientist's terminal and in
an operator's: no markup, no escape sequence, no line of their own."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from launch.cli.main import main
from launch.demo.demo import Demo
from launch.queries import ask, result_view
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from launch.studies.plans import plan
from launch.studies.plans.plan_bytes import traffic
from launch.studies.progress import StudyProgress
from launch.studies.result_view import show
from launch.studies.run import FinishedStudy
from launch.studies.sweeps.result import SweepResult, SweepRow
from protocol.metrics.query_answers import Answer
from protocol.study.study import Study
from server.coordinator.journal import Journal
from server.coordinator.setup import create
from server.coordinator.study_events import Event, deliver
from server.tracking.tracker import TrackingReceipt
from tasks import registry
from tests.protocol.terminal.hostile_text import ALL_OF_IT, faults
from tests.server import outcomes

View = Callable[[Console], None]
"""Prints something of which a field is ALL_OF_IT. The console reads markup, as a notebook's does:
what is printed must be safe whatever prints it."""


def finished_study(console: Console) -> None:
    done = replace(outcomes.outcome(outcomes.study(title=ALL_OF_IT)), uncovered=ALL_OF_IT)
    show(FinishedStudy(done, Path("outputs"), TrackingReceipt()), console)


def receipt_of_the_coordinator(console: Console) -> None:
    receipt = TrackingReceipt(ALL_OF_IT, "m", (ALL_OF_IT,), ALL_OF_IT)
    show(FinishedStudy(outcomes.outcome(outcomes.study()), Path("outputs"), receipt), console)


def planned_study(console: Console) -> None:
    study = outcomes.study(title=ALL_OF_IT)
    show_plan(study.title, {}, console)


def rules_of_the_sites(console: Console) -> None:
    show_plan("A study", {ALL_OF_IT: 2}, console)


def show_plan(title: str, codes: dict[str, int], console: Console) -> None:
    study = outcomes.study(title=title)
    answers = plan.DryRunAnswers(0, 0, 2, 1, {}, codes)
    found = plan.StudyPlan(
        study, False, None, None, traffic(study), 1.0, answers, {"[site].yaml": ()}
    )
    plan.show(found, console)


def lost_attempt(console: Console) -> None:
    follow({"type": "lost", "round": 1, "attempt": 1, "why": ALL_OF_IT}, console)


def awaited_site(console: Console) -> None:
    follow({"type": "waiting", "why": "offline", "sites": [ALL_OF_IT, "north"]}, console)


def follow(event: Event, console: Console) -> None:
    with StudyProgress(outcomes.study(), console) as shown:
        deliver(event, shown)


def awaited_site_of_a_query(console: Console) -> None:
    with ask.QueryProgress(query_study(), console) as shown:
        shown.waiting("approval", (ALL_OF_IT,))


def lost_attempt_of_a_query(console: Console) -> None:
    with ask.QueryProgress(query_study(), console) as shown:
        shown.lost(1, 1, ALL_OF_IT)


def query_study() -> Study:
    question = Question.about("breast_cancer").count()
    return build_query(question, {"east": 90, "north": 90, "south": 90}, Price())


def receipt_of_a_query(console: Console) -> None:
    study = query_study()
    assert study.query is not None
    answer = Answer(study.query.statistics[0].name, (12.0,), 1.0, {})
    done = replace(outcomes.outcome(outcomes.study()), study=study, answers=(answer,))
    receipt = TrackingReceipt(ALL_OF_IT, "", (ALL_OF_IT,), ALL_OF_IT)
    result_view.show(ask.QueryResult(done, receipt), console)


def swept_value(console: Console) -> None:
    row = SweepRow({"title": ALL_OF_IT}, metrics={"auc": 0.9})
    console.print(SweepResult(["title=a,b"], ["title"], [row]).table())


VIEWS: list[View] = [
    finished_study,
    receipt_of_the_coordinator,
    planned_study,
    rules_of_the_sites,
    lost_attempt,
    awaited_site,
    awaited_site_of_a_query,
    lost_attempt_of_a_query,
    receipt_of_a_query,
    swept_value,
]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_it_is_shown_as_text(view: View, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = io.StringIO()
    view(Console(file=text, force_terminal=terminal, width=900, color_system="standard"))
    assert faults(unsplit(text.getvalue())) == []


def unsplit(printed: str) -> str:
    """Without what Live writes to redraw its own lines."""
    return re.sub(r"\r(?!right)|\x1b\[2K", "", printed)


def test_an_operator_sees_them_as_text_and_status_never_fails_over_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = create(tmp_path / "coordinator", ["127.0.0.1"], 9092, None, "Test")
    study = {"study": ALL_OF_IT, "state": "running", "round": 1, "rounds": 2}
    noted = {"studies": [study | {"title": ALL_OF_IT, "account": ALL_OF_IT}]}
    (config.state / "status.json").write_text(json.dumps(noted))
    monkeypatch.setenv("COLUMNS", "900")
    monkeypatch.setenv("FORCE_COLOR", "1")
    words = ["wardround", "coordinator", "status", "--config", str(config.folder)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0
    assert faults(capsys.readouterr().out) == []


def test_the_coordinators_log_has_them_as_text() -> None:
    text = io.StringIO()
    Journal(None, console=text).write("study-starts", title=ALL_OF_IT, account="ada")
    assert faults(text.getvalue()) == []
    assert len(text.getvalue().splitlines()) == 1


def test_the_demo_takes_a_tasks_title_as_text(tmp_path: Path) -> None:
    text = io.StringIO()

    class Titled(type(registry.load("breast_cancer"))):  # type: ignore[misc]  # a base known at run time
        title = ALL_OF_IT

        def public_sites(self, root: Path | None) -> None:
            raise RuntimeError("no further")

    demo = Demo(tmp_path / "demo", Titled())
    with pytest.raises(RuntimeError, match="no further"):
        demo.run(Console(file=text, width=900))
    assert faults(text.getvalue()) == []
