"""Studies at a coordinator with four connected hospitals: real TLS, real sites, real restarts."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from client.daemon import site
from launch.demo.child_process import script
from launch.demo.local_ports import free_port
from launch.federations.deployment import RemoteFederation
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.starting_model import StartingModel
from protocol.study.study import Study
from protocol.vectors import Vector
from protocol.wire.messages import Ending
from server.coordinator import service
from server.coordinator.config import FILE, CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.lock import is_running
from server.coordinator.membership import Members
from server.coordinator.service import Coordinator
from server.coordinator.study_transport import StudyFleet
from server.enrolment.roster import Roster
from server.outcome import Outcome, RoundReport
from tests.forked import Python
from tests.server.hospitals import (
    Deployment,
    Hospitals,
    credentials,
    deployed,
    new_coordinator,
    study_of,
)
from tests.waiting import HUNG, Calls, until

SITES = ["east", "north", "south", "west"]


class Noted:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.outcomes: list[Outcome] = []

    def waiting(self, why: str, sites: tuple[str, ...]) -> None:
        pass

    def lost(self, round_: int, attempt: int, why: str) -> None:
        pass

    def round(self, report: RoundReport) -> None:
        self.rounds.append(report.round)

    def finish(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment")) as deployment:
        deployment.connect()
        yield deployment


@pytest.fixture(scope="module")
def alice(here: Deployment) -> Iterator[RemoteFederation]:
    with here.account("alice") as federation:
        until(lambda: len(here.coordinator.link.online()) == 4, "online")
        yield federation


def folder_of(config: CoordinatorConfig, study: Study) -> Path:
    return config.state / "studies" / study.digest


def changed(study: Study, **sections: Any) -> Study:
    return Study.model_validate(study.model_dump() | sections)


def test_a_study_comes_back_as_a_federation_in_one_process_would_return_it(
    here: Deployment, alice: RemoteFederation
) -> None:
    study, configuration = study_of(alice.patients(), "rounds=6", "evaluation.every=1")
    noted = Noted()
    outcome = alice.run(study, configuration, None, noted)
    assert (outcome.status, outcome.study) == ("finished", study)
    assert noted.rounds == [r.round for r in outcome.rounds] == [1, 2, 3, 4, 5, 6]
    assert noted.outcomes == [outcome]
    assert all(report.participants == 4 for report in outcome.rounds)
    assert outcome.metrics["auc"].value > 0.95
    assert outcome.rounds[-1].metrics == outcome.metrics
    folder = folder_of(here.config, study)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)["weights"].numpy()
    np.testing.assert_array_equal(outcome.weights, saved)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metrics"]["auc"]["value"] == outcome.metrics["auc"].value
    assert json.loads((folder / "configuration.json").read_text()) == configuration


def test_events_can_be_read_again_from_any_point(alice: RemoteFederation) -> None:
    study, configuration = study_of(alice.patients(), "rounds=3")
    alice.run(study, configuration, None, Noted())
    every = list(alice.events(study.digest))
    assert [event["n"] for event in every] == list(range(1, len(every) + 1))
    assert every[-1]["type"] == "finished"
    assert list(alice.events(study.digest, after=3)) == every[3:]


def test_several_studies_run_at_once(alice: RemoteFederation) -> None:
    studies = [study_of(alice.patients(), "rounds=4", f"seed={seed}") for seed in range(3)]
    digests = [alice.submit(study, configuration) for study, configuration in studies]
    ends = [list(alice.events(digest))[-1]["type"] for digest in digests]
    assert ends == ["finished"] * 3


def test_submitting_again_starts_nothing_anew(alice: RemoteFederation) -> None:
    study, configuration = study_of(alice.patients(), "rounds=3")
    first = alice.submit(study, configuration)
    assert alice.submit(study, configuration) == first
    ended = list(alice.events(first))
    assert alice.submit(study, configuration) == first
    assert list(alice.events(first)) == ended


def test_a_cancelled_study_ends_at_the_sites_and_for_good(
    here: Deployment, alice: RemoteFederation
) -> None:
    study, configuration = study_of(alice.patients(), "rounds=5000")
    digest = alice.submit(study, configuration)
    events = alice.events(digest)
    while next(events)["type"] != "round":
        pass
    alice.cancel(digest)
    said = len((folder_of(here.config, study) / "events.jsonl").read_text().splitlines())
    assert list(events)[-1]["type"] == "cancelled"
    later = [event["type"] for event in alice.events(digest, after=said)]
    assert later.count("round") <= 1, "what is in hand may end; nothing else begins"
    with pytest.raises(KeyboardInterrupt):
        alice.follow(digest, study, Noted())
    alice.submit(study, configuration)
    assert alice.study(digest)["state"] == "cancelled"
    assert alice.weights(digest).shape == (study.model.parameters,), "unfinished"


def test_what_makes_a_study_impossible_is_refused_and_leaves_nothing(
    here: Deployment, alice: RemoteFederation
) -> None:
    study, configuration = study_of(alice.patients(), "rounds=3")
    other_task = study.task.model_copy(update={"source": "0" * 64})
    other_model = study.model.model_copy(update={"layout": "0" * 64})
    roster = [member.model_dump() for member in study.roster]
    stranger = [*roster, {"name": "zz", "patients": 10}]
    more = [roster[0] | {"patients": 999}, *roster[1:]]
    before = sorted(os.listdir(here.config.state / "studies"))
    for wrong, says in (
        (changed(study, task=other_task.model_dump()), "task breast_cancer installed here differs"),
        (changed(study, model=other_model.model_dump()), "not the one in the study"),
        (
            changed(study, roster=stranger),
            f"Not enrolled at this coordinator: zz. The study names {len(stranger)} sites, "
            f"{len(roster)} are enrolled: ",
        ),
        (changed(study, roster=more), "999 patients for east"),
    ):
        with pytest.raises(WardroundError, match=says) as refused:
            alice.submit(wrong, configuration)
        changed_task = "installed here differs" in says
        assert refused.value.code is (Code.TASK_CHANGED if changed_task else Code.REFUSED_STUDY)
    assert sorted(os.listdir(here.config.state / "studies")) == before


def following(parent: Study, weights: Vector, study: Study, **lie: Any) -> Study:
    """The study, from what `parent` released, but for what is said wrongly of that."""
    start = StartingModel.of("cancer/1", "c" * 64, parent, weights).start
    return changed(study, start=start.model_dump() | lie)


def test_a_study_starts_from_what_another_one_here_released(
    here: Deployment, alice: RemoteFederation
) -> None:
    """From the coordinator's own copy, which the sites compare with the digest in the study."""
    first, configuration = study_of(alice.patients(), "rounds=6")
    made = alice.run(first, configuration, None, Noted()).weights
    still, configuration = study_of(alice.patients(), "rounds=1", "local_lr=1e-9")
    study = following(first, made, still)
    outcome = alice.run(study, configuration, None, Noted())
    assert outcome.study.start is not None
    np.testing.assert_allclose(outcome.weights, made, atol=1e-3)
    assert "no epsilon covers" in outcome.uncovered
    folder = folder_of(here.config, study)
    np.testing.assert_array_equal(np.fromfile(folder / "start.f32", "<f4"), made)


def test_what_a_study_cannot_start_from_is_refused_and_leaves_nothing(
    here: Deployment, alice: RemoteFederation
) -> None:
    first, configuration = study_of(alice.patients(), "rounds=2")
    made = alice.run(first, configuration, None, Noted()).weights
    study, configuration = study_of(alice.patients(), "rounds=1")
    other = changed(first, nonce="f" * 16)
    before = sorted(os.listdir(here.config.state / "studies"))
    for wrong, code, says in (
        (following(other, made, study), Code.REFUSED_STUDY, "has not finished at this coordinator"),
        (following(first, made + 1, study), Code.WEIGHTS, "not those of cancer/1"),
        (
            following(first, made, study, epsilon=1.0, delta=1e-5),
            Code.REFUSED_STUDY,
            "less epsilon comes along",
        ),
    ):
        with pytest.raises(WardroundError, match=says) as refused:
            alice.submit(wrong, configuration)
        assert refused.value.code is code
    weights = folder_of(here.config, first) / "weights.f32"
    weights.rename(weights.with_name("away"))
    with pytest.raises(WardroundError, match="no longer") as refused:
        alice.submit(following(first, made, study), configuration)
    assert refused.value.code is Code.STATE
    weights.with_name("away").rename(weights)
    assert sorted(os.listdir(here.config.state / "studies")) == before


def test_a_study_from_before_a_rule_of_texts_goes_on(
    here: Deployment, alice: RemoteFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, configuration = study_of(alice.patients(), "rounds=300")
    study = changed(study, title="[bold]from 0.1.0")
    with monkeypatch.context() as earlier:
        for module in (service, site):
            earlier.setattr(module, "check_texts", lambda study: None)
        digest = alice.submit(study, configuration)
        until(lambda: alice.study(digest)["round"], "a round")
        alice.pause(digest)
        until(lambda: alice.study(digest)["state"] == "paused", "it rests")
    rounds = alice.study(digest)["round"]
    until(lambda: answered(lambda: alice.resume(digest)), "its sites are told that it rests")
    until(lambda: alice.study(digest)["round"] > rounds, "it goes on")
    alice.submit(study, configuration)  # as `--resume` does
    alice.cancel(digest)
    until(lambda: alice.study(digest)["state"] == "cancelled", "it ends")
    with pytest.raises(WardroundError, match="has markup"):
        alice.submit(changed(study, title="[bold]from now"), configuration)


def answered(call: Callable[[], object]) -> bool:
    try:
        call()
    except WardroundError as error:
        if error.code is not Code.USAGE:
            raise
        return False
    return True


def test_an_expelled_site_is_shut_out_while_the_coordinator_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployed(tmp_path) as deployment, deployment.account("alice") as alice:
        deployment.connect()
        link = deployment.coordinator.link
        until(lambda: len(link.online()) == 4, "online")
        Roster(deployment.config.roster).remove("west")
        until(lambda: "west" not in link.online(), "expelled")
        assert sorted(alice.patients()) == ["east", "north", "south"]
        new = {"identity": Identity.generate().public_key.hex()}
        card = deployment.hospitals.card("west").model_copy(update=new)
        Roster(deployment.config.roster).add(card, 54)
        until(lambda: "west" in link.online(), "let in again")
        roster = deployment.config.roster
        content = roster.read_bytes()
        looks = Calls(monkeypatch, Members, "follow_roster")
        roster.write_bytes(b"{")
        looks.until_one_more()
        assert len(link.online()) == 4, "a roster that cannot be read is no order to expel"
        with pytest.raises(WardroundError) as refused:
            alice.federation()
        assert refused.value.code is Code.CONFIGURATION
        roster.write_bytes(content)
        assert len(alice.patients()) == 4


def test_a_study_says_whom_it_waits_for_and_can_be_cancelled_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployed(tmp_path) as deployment, deployment.account("alice") as alice:
        deployment.connect(["east", "north"])
        until(lambda: len(deployment.coordinator.link.online()) == 2, "online")
        study, configuration = study_of(alice.patients(), "rounds=3")
        digest = alice.submit(study, configuration)
        events = alice.events(digest)
        event = next(event for event in events if event["type"] == "waiting")
        assert (event["why"], event["sites"]) == ("offline", ["south", "west"])
        assert alice.studies()[0]["waiting"] == {"offline": ["south", "west"]}
        Calls(monkeypatch, StudyFleet, "online").until_one_more()
        alice.cancel(digest)
        assert [e["type"] for e in events] == ["cancelled"], "it repeats itself while it waits"


def test_where_mlflow_is_down_a_study_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    config = new_coordinator(tmp_path / "coordinator")
    values = yaml.safe_load((config.folder / FILE).read_text())
    values["tracking"] = {"uri": f"http://127.0.0.1:{free_port()}"}
    (config.folder / FILE).write_text(yaml.safe_dump(values))
    config = CoordinatorConfig.load(config.folder)
    hospitals = Hospitals(tmp_path / "hospitals")
    hospitals.enrol(Roster(config.roster))
    with Coordinator(config, Journal(None, console=None)) as coordinator:
        path = credentials(config, coordinator.address, "alice")
        with RemoteFederation(path) as alice:
            study, configuration = study_of(alice.patients(), "rounds=3")
            with pytest.raises(WardroundError) as refused:
                alice.submit(study, configuration)
            assert refused.value.code is Code.TRACKING
            assert refused.value.remedy
            assert alice.studies() == []
    assert os.listdir(config.state / "studies") == []


def impatient(folder: Path) -> CoordinatorConfig:
    """A coordinator that waits a second for sites to come online."""
    config = new_coordinator(folder)
    values = yaml.safe_load((config.folder / FILE).read_text())
    values["waiting"]["join"] = 1
    (config.folder / FILE).write_text(yaml.safe_dump(values))
    return CoordinatorConfig.load(config.folder)


def test_a_study_that_failed_goes_on_where_its_submitter_submits_it_again(tmp_path: Path) -> None:
    config = impatient(tmp_path / "coordinator")
    hospitals = Hospitals(tmp_path / "hospitals")
    hospitals.enrol(Roster(config.roster))
    with Coordinator(config, Journal(None, console=None)) as coordinator:
        paths = [credentials(config, coordinator.address, name) for name in ("alice", "bob")]
        with RemoteFederation(paths[0]) as alice, RemoteFederation(paths[1]) as bob:
            study, configuration = study_of(alice.patients(), "rounds=3")
            noted = Noted()
            with pytest.raises(WardroundError) as failed:
                alice.run(study, configuration, None, noted)
            assert failed.value.code is Code.TOO_FEW_SITES
            assert [outcome.status for outcome in noted.outcomes] == ["failed"]
            hospitals.connect(coordinator.address, config.pki.ca_certificate)
            until(lambda: len(coordinator.link.online()) == 4, "online")
            with pytest.raises(WardroundError, match="Somebody else"):
                bob.submit(study, configuration)
            assert alice.run(study, configuration, None, Noted()).status == "finished"
            types = [event["type"] for event in alice.events(study.digest)]
            assert [t for t in types if t not in ("waiting", "round")] == [
                "submitted", "started", "failed", "submitted", "resumed", "finished",
            ]  # fmt: skip
            assert list(alice.events(study.digest, after=len(types))) == []
        hospitals.disconnect()


def test_a_study_that_failed_goes_on_without_a_site_that_was_expelled_meanwhile(
    tmp_path: Path,
) -> None:
    """An exact one cannot, and says so by name."""
    config = impatient(tmp_path / "coordinator")
    hospitals = Hospitals(tmp_path / "hospitals")
    hospitals.enrol(Roster(config.roster))
    with Coordinator(config, Journal(None, console=None)) as coordinator:
        path = credentials(config, coordinator.address, "alice")
        with RemoteFederation(path) as alice:
            words = ("privacy=local", "privacy.epsilon=20", "privacy.delta=1e-3", "local_steps=1",
                     "evaluation=off")  # fmt: skip
            private = study_of(alice.patients(), "rounds=3", *words)
            exact = study_of(alice.patients(), "rounds=3", "privacy=none")
            for study, configuration in (private, exact):
                with pytest.raises(WardroundError):
                    alice.run(study, configuration, None, Noted())
            Roster(config.roster).remove("west")
            hospitals.connect(coordinator.address, config.pki.ca_certificate, SITES[:3])
            until(lambda: len(coordinator.link.online()) == 3, "online")
            outcome = alice.run(*private, None, Noted())
            assert (outcome.status, outcome.rounds[-1].participants) == ("finished", 3)
            with pytest.raises(WardroundError) as refused:
                alice.run(*exact, None, Noted())
            assert refused.value.code is Code.IDENTITY
            assert "west" in refused.value.message
        hospitals.disconnect()


def told(deployment: Deployment, study: Study) -> set[Ending | None]:
    """What the sites were told last about a study."""
    return {site.told.get(study.digest) for site in deployment.hospitals.governance.values()}


def attempts(config: CoordinatorConfig, study: Study) -> int:
    """Attempts that were begun."""
    return int(json.loads((folder_of(config, study) / "attempts.json").read_bytes())["made"])


def test_a_paused_study_goes_on_where_it_stood(tmp_path: Path) -> None:
    with deployed(tmp_path) as deployment, deployment.account("alice") as alice:
        deployment.connect(SITES)
        until(lambda: len(deployment.coordinator.link.online()) == 4, "online")
        study, configuration = study_of(alice.patients(), "rounds=5000", "evaluation.every=5000")
        digest = alice.submit(study, configuration)
        until(lambda: alice.study(digest)["round"] > 2, "some rounds")
        alice.pause(digest)
        until(lambda: alice.study(digest)["state"] == "paused", "paused")
        until(lambda: told(deployment, study) == {"paused"}, "the sites know")
        reached = alice.study(digest)["round"]
        asked = attempts(deployment.config, study)
        assert alice.resume(digest).works
        assert alice.resume(digest).works, "twice is once"
        until(lambda: alice.study(digest)["round"] > reached, "it goes on")
        said = (folder_of(deployment.config, study) / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in said]
        rounds = [event["round"] for event in events if event["type"] == "round"]
        assert rounds == list(range(1, len(rounds) + 1)), "each round once"
        assert attempts(deployment.config, study) > asked
        sites = deployment.hospitals.governance.values()
        assert not [error for site in sites for error in site.errors], "none is asked for twice"
        alice.pause(digest)
        until(lambda: alice.study(digest)["state"] == "paused", "paused again")
        alice.cancel(digest, wait=HUNG)
        until(lambda: told(deployment, study) == {"cancelled"}, "all know")
        with pytest.raises(WardroundError) as refused:
            alice.resume(digest)
        assert refused.value.code is Code.USAGE
        with pytest.raises(WardroundError) as refused:
            alice.pause(digest)
        assert refused.value.code is Code.USAGE


def test_a_site_that_missed_the_end_is_told_once_it_is_back(tmp_path: Path) -> None:
    with deployed(tmp_path) as deployment, deployment.account("alice") as alice:
        study, configuration = study_of(alice.patients(), "rounds=3")
        digest = alice.submit(study, configuration)
        alice.cancel(digest, wait=HUNG)
        assert alice.study(digest)["state"] == "cancelled", "nobody was there to be told"
        for site in deployment.hospitals.governance.values():
            site.studies[digest] = study  # as one that accepted it before it left
        deployment.connect(SITES)
        until(lambda: told(deployment, study) == {"cancelled"}, "all know")
        untold = folder_of(deployment.config, study) / "untold.json"
        until(lambda: not untold.exists(), "nobody is left to be told")


def test_two_coordinators_cannot_share_a_folder(tmp_path: Path) -> None:
    config = new_coordinator(tmp_path / "coordinator")
    journal = Journal(None, console=None)
    with Coordinator(config, journal):
        assert is_running(config)
        with pytest.raises(WardroundError) as refused:
            Coordinator(config, journal).start()
        assert refused.value.code is Code.STATE
    assert not is_running(config)


class Process:
    """`wardround coordinator start` as a process of its own, which says in `out` what happens."""

    def __init__(self, folder: Path, out: Path) -> None:
        words = [script("wardround"), "coordinator", "start", str(folder), "--json"]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        self._out = out
        self.process = Python(words, folder, out, out.with_suffix(".err"), env)

    def has_said(self, event: str) -> bool:
        lines = self._out.read_text().split("\n")[:-1] if self._out.exists() else []
        return any(json.loads(line)["event"] == event for line in lines)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(HUNG)


def test_a_study_outlives_a_coordinator_that_ends_in_good_order(tmp_path: Path) -> None:
    rounds = 10
    config = new_coordinator(tmp_path / "coordinator", free_port())
    hospitals = Hospitals(tmp_path / "hospitals")
    hospitals.enrol(Roster(config.roster))
    hospitals.hold(5)
    path = credentials(config, config.address, "alice")
    journal, noted = Journal(None, console=None), Noted()
    outcome: list[Outcome] = []
    try:
        with RemoteFederation(path) as alice:
            with Coordinator(config, journal):
                hospitals.connect(config.address, config.pki.ca_certificate)
                study, configuration = study_of(alice.patients(), f"rounds={rounds}")
                digest = alice.submit(study, configuration)
                following = threading.Thread(
                    target=lambda: outcome.append(alice.follow(digest, study, noted))
                )
                following.start()
                assert hospitals.holding.wait(HUNG)
                until(lambda: len(noted.rounds) >= 3, "told")
            hospitals.let_go()
            assert not any(governance.errors for governance in hospitals.governance.values())
            with Coordinator(config, journal):
                following.join(HUNG)
    finally:
        hospitals.disconnect()
    assert outcome, "the study did not go on"
    assert noted.rounds == sorted(set(noted.rounds)), "a round was run again"
    assert len(noted.rounds) >= rounds - 1, "only the report of the round under way may be lost"


@pytest.mark.timeout(600)
def test_a_study_outlives_a_coordinator_that_is_killed(tmp_path: Path) -> None:
    rounds = 10
    config = new_coordinator(tmp_path / "coordinator", free_port())
    hospitals = Hospitals(tmp_path / "hospitals")
    hospitals.enrol(Roster(config.roster))
    hospitals.hold(5)
    path = credentials(config, config.address, "alice")
    first = Process(config.folder, tmp_path / "first")
    second = None
    try:
        until(lambda: first.has_said("coordinator"), "the coordinator listens")
        hospitals.connect(config.address, config.pki.ca_certificate)
        with RemoteFederation(path) as alice:
            study, configuration = study_of(alice.patients(), f"rounds={rounds}")
            noted = Noted()
            outcome: list[Outcome] = []
            digest = alice.submit(study, configuration)
            following = threading.Thread(
                target=lambda: outcome.append(alice.follow(digest, study, noted))
            )
            following.start()
            assert hospitals.holding.wait(HUNG)
            until(lambda: len(noted.rounds) >= 3, "told")
            assert first.end(signal.SIGKILL) == -signal.SIGKILL
            assert not is_running(config)
            hospitals.let_go()
            second = Process(config.folder, tmp_path / "second")
            following.join(HUNG)
            assert outcome, "the study did not go on"
            events = list(alice.events(digest))
            assert second.end(signal.SIGTERM) == 0
    finally:
        hospitals.disconnect()
        for process in filter(None, (first, second)):
            process.process.kill()
    assert [e["type"] for e in events].count("resumed") == 1
    assert outcome[0].status == "finished"
    assert [r.round for r in outcome[0].rounds] == noted.rounds
    missing = set(range(1, rounds + 1)) - set(noted.rounds)
    assert len(missing) <= 1, "only the report of the round that was under way may be lost"
    assert len(noted.rounds) == len(set(noted.rounds)), "a round was run again"
    lost = [event for event in events if event["type"] == "lost"]
    assert len(lost) <= 2


def test_a_coordinator_that_waits_for_a_study_has_not_loaded_pytorch() -> None:
    code = "import sys, server.coordinator.service; print({'torch', 'mlflow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
