"""What a plan says is what the study then does; a policy file is asked without a daemon."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers as Rules
from launch.config import compose
from launch.studies.plans.plan import StudyPlan, plan, show
from launch.studies.run import run
from protocol.privacy.releases import assumption
from tasks import registry

SMALL = ("rounds=4", "tracking=off")


def planned(*words: str, policies: tuple[str, ...] = ()) -> StudyPlan:
    return plan(compose.load([*SMALL, *words]), policies)


@pytest.mark.parametrize(
    "words",
    [
        ("privacy=none", "evaluation.every=2"),
        ("privacy=none", "algorithm=scaffold", "federation.masked=true"),
        ("privacy=none", "algorithm=scaffold", "aggregation.update_bits=8"),
        ("privacy=distributed", "privacy.epsilon=4"),
    ],
)
def test_bytes_and_privacy_are_those_of_the_study(tmp_path: Path, words: tuple[str, ...]) -> None:
    said = planned(*words)
    outcome = run(compose.load([*SMALL, *words, f"output={tmp_path}"])).outcome
    sites = len(outcome.study.roster)
    assert outcome.bytes_sent == pytest.approx(sites * said.traffic.to_site, rel=0.01)
    assert outcome.bytes_received == pytest.approx(sites * said.traffic.from_site, rel=0.01)
    for planned_, spent in (
        (said.epsilon, outcome.epsilon),
        (said.epsilon_broken, outcome.epsilon_broken),
    ):
        assert (planned_ is None) == (spent is None)
        if planned_ is not None and spent is not None:
            assert 0.95 * planned_ < spent <= planned_
    assert said.study.patients() == outcome.study.patients()


def test_planning_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned("privacy=none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", compose.groups()["task"])
def test_a_step_on_made_up_patients_can_be_timed_for_every_task(task: str) -> None:
    from launch.studies.plans.plan_time import made_up
    from launch.studies.study_builder import build_study

    loaded = registry.load(task)
    cohort = made_up(loaded, 40)
    assert len(cohort.members("train")) == len(cohort.members("evaluation")) == 40
    config = compose.load([f"task={task}", "privacy=none", "rounds=1"])
    assert build_study(config, loaded, {"one": 40, "two": 40, "three": 40}).patients() == 120


def test_what_a_round_costs_whoever_is_there_is_paid_at_every_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from launch.studies.plans import plan_time
    from launch.studies.study_builder import build_study

    task = registry.load("breast_cancer")
    config = compose.load(["task=breast_cancer", "privacy=none", "rounds=9"])
    study = build_study(config, task, {"one": 1000, "two": 300, "three": 100})
    patients = [member.patients for member in study.roster]

    def step(of: object, task: object, patients: int) -> float:
        return 0.01 + 1e-4 * patients

    monkeypatch.setattr(plan_time, "_step", step)
    said = plan_time.seconds(study, task, simulated=True, line=1e6)
    assert said == pytest.approx(10 * (0.033 + 1e-4 * sum(patients)))
    alike = build_study(config, task, {"one": 100, "two": 100, "three": 100})
    said = plan_time.seconds(alike, task, simulated=True, line=1e6)
    assert said == pytest.approx(10 * 3 * (0.011 + 1e-4 * alike.roster[0].patients))


@pytest.mark.parametrize(("rounds", "stated"), [(40, 10 + 2), (3, 3 + 2)])
def test_what_the_coordinator_takes_to_account_for_the_rounds_is_counted(
    rounds: int, stated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch.studies.plans import plan_time
    from launch.studies.study_builder import build_study

    clock = [0.0]

    def account(*attempts: object, **how: object) -> None:
        clock[0] += 1.0

    task = registry.load("breast_cancer")
    config = compose.load(["task=breast_cancer", f"rounds={rounds}"])
    study = build_study(config, task, {"one": 1000, "two": 1000, "three": 1000})
    monkeypatch.setattr(plan_time, "_step", lambda *of: 0.0)
    monkeypatch.setattr(plan_time, "spent_epsilon", account)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    messages = 3 * (rounds + 1) * 0.001
    assert plan_time.seconds(study, task, simulated=True, line=1e6) == stated + messages


def test_a_policy_file_is_asked(tmp_path: Path) -> None:
    (tmp_path / "north.csv").write_text("patient\n")
    rules = Rules(
        site="north",
        data={"breast_cancer": tmp_path / "north.csv"},
        tasks=("breast_cancer",),
        purposes=("research",),
        modes=("distributed",),
        approval="rule",
        delta=1e-4,
        epsilon_per_study=1.0,
        epsilon_lifetime=3.0,
        epsilon_broken=10.0,
    )
    new_site.init(tmp_path / "north", rules)
    path = str(tmp_path / "north" / new_site.SITE_YAML)
    words = ("privacy=distributed", "federation.masked=true")
    ok = planned(*words, "privacy.epsilon=0.9", policies=(path,))
    assert ok.policies == {path: ()}
    much = planned(*words, "privacy.epsilon=2", "privacy.delta=1e-3", policies=(path,))
    assert much.policies[path] == ("delta", "epsilon_per_study")
    bare = planned("privacy=none", policies=(path,))
    assert set(bare.policies[path]) == {
        "modes",
        "unmasked",
        "exact_evaluation",
        "exact_releases",
    }


def test_the_tables_say_who_refuses_and_never_where(capsys: pytest.CaptureFixture[str]) -> None:
    show(planned("privacy=distributed", "privacy.epsilon=1"), Console(width=100))
    said = capsys.readouterr().out
    for word in ("epsilon", "1.000 at delta 1e-05", "noise multiplier", "kB", "have no policies"):
        assert word in said
    assert "is above 1/" not in said
    few = planned("privacy=none", "aggregation.spare_attempts=1", "aggregation.loss=0.1")
    show(few, Console(width=100))
    assert "1 spare (enough in " in capsys.readouterr().out
    assert few.enough == few.as_json()["enough"] < 0.9
    assert json.loads(json.dumps(planned("privacy=none").as_json()))["answers"] is None


def test_at_how_many_sites_a_patient_may_be_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    twice = planned("privacy=distributed", "privacy.epsilon=5", "privacy.sites_per_patient=2")
    show(twice, Console(width=200))
    told = assumption(twice.study)
    assert "no more than 2 of the sites" in told
    assert told in capsys.readouterr().out
    plain = twice.as_json()
    assert (plain["sites_per_patient"], plain["assumption"]) == (2, told)


def test_without_masks_a_plan_counts_every_share() -> None:
    words = ("privacy=distributed", "privacy.epsilon=1", "rounds=5")
    masked, seen = planned(*words), planned(*words, "federation.masked=false")
    assert masked.study.aggregation.masked
    assert seen.epsilon == pytest.approx(seen.epsilon_broken)
    more = seen.study.privacy.noise_multiplier / masked.study.privacy.noise_multiplier
    assert more == pytest.approx(math.sqrt(len(seen.study.roster) - 1), rel=2e-3)


def test_a_delta_above_one_in_the_patients_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    loose = planned("privacy=distributed", "privacy.epsilon=1", "privacy.delta=0.01")
    show(loose, Console(width=200))
    assert f"delta 0.01 is above 1/{loose.study.patients()}" in capsys.readouterr().out
