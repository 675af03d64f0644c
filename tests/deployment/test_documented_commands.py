"""The commands of the README, of the page on tasks and of the handbook, as they stand there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from launch.demo.child_process import script
from launch.demo.local_ports import free_port, is_listening
from server.coordinator.config import CoordinatorConfig
from server.enrolment.invitations import Invitations
from tasks import registry
from tests.deployment.test_pictures_in_five_commands import MACHINE
from tests.forked import Python, run
from tests.test_documents import command_blocks
from tests.waiting import HUNG, until

SITES = ("north", "south", "west")
RULES = (
    "coordinator: {{hosts: [127.0.0.1], port: {port}}}\n"
    "hospitals: {{north: 150, south: 150, west: 150}}\n"
    "data_scientists: [ada]\n"
    "rules: {{tasks: [heart_disease], purposes: [research], modes: [distributed],\n"
    "  epsilon_per_study: 3, epsilon_lifetime: 6, epsilon_broken: 300}}\n"
)
ASKED = (
    "task=heart_disease privacy.epsilon=3 privacy.delta=1e-5 rounds=1 evaluation=off tracking=off "
    "federation=deployment federation.credentials=invitations/ada.credentials.json"
)

ASKING = 3.0
"""Seconds between two questions that are a command each: it would take what others wait for."""


def ran(folder: Path, words: list[str]) -> str:
    done = run([script(words[0]), *words[1:]], folder)
    assert done.returncode == 0, (words, done.stdout[-500:] + done.stderr[-1500:])
    return done.stdout


def lines(document: str, program: str) -> list[list[str]]:
    """Those of a document's commands that are of this program."""
    told = [shlex.split(line) for line in command_blocks(document)]
    return [words for words in told if words and words[0] == program]


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/add_a_task.md"])
def test_what_a_data_scientist_is_told_to_type_runs(document: str, tmp_path: Path) -> None:
    told = lines(document, "wardround")
    assert len(told) > 2
    for words in told:
        assert ran(tmp_path, words)


class Hospital:
    """The handbook's commands for one hospital, in `folder` in place of the machine's own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        (folder / "backup").mkdir(exist_ok=True)
        self.commands: dict[str, list[str]] = {}
        for words in lines("docs/hospital.md", "wardround-site"):
            here = [self._here(word) for word in words]
            self.commands[here[1]] = here
        table = registry.load("heart_disease").schema.made_up(150, SITES.index(name))
        pd.DataFrame(dict(table)).to_csv(folder / f"{name}.csv", index=False)

    def _here(self, word: str) -> str:
        for there, here in (
            ("north.invitation.json", f"invitations/{self.name}.invitation.json"),
            ("/srv/wardround", self.name),
            ("heart.csv", f"{self.name}.csv"),
            ("/backup/", "backup/"),
        ):
            word = word.replace(there, here)
        return word

    def runs(self, command: str, *more: str) -> str:
        return ran(self.folder, [*self.words(command), *more])

    def words(self, command: str) -> list[str]:
        words = self.commands[command]
        return words if "--config" in words else [*words, "--config", self.name]

    def starts(self, command: str, *more: str) -> Python:
        program, *rest = self.words(command)
        log = self.folder / f"{command}-{self.name}.log"
        return Python([script(program), *rest, *more], self.folder, log, log)

    def studies(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.runs("studies", "--json"))
        return listed


@pytest.fixture(scope="module")
def north(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A hospital that has joined and started by the handbook, in a federation where a study waits
    for its approval."""
    folder, port = tmp_path_factory.mktemp("handbook"), free_port()
    (folder / "consortium.yaml").write_text(RULES.format(port=port))
    setup = ["wardround", "coordinator", "setup", "consortium.yaml", "coord", "--yes"]
    ran(folder, setup)
    hospitals = [Hospital(folder, name) for name in SITES]
    with ExitStack() as running:
        coordinator = [script("wardround"), "coordinator", "start", "--config", "coord"]
        log = folder / "coordinator.log"
        started = Python(coordinator, folder, log, log)
        running.callback(started.stop)
        assert is_listening("127.0.0.1", port, HUNG)
        joining = [hospital.starts("join", "--yes") for hospital in hospitals]
        for process in joining:
            running.callback(process.stop)
        cards = Invitations(CoordinatorConfig.load(folder / "coord").invitations)
        until(lambda: all(invited.card for invited in cards.all().values()), "the cards")
        ran(folder, setup)
        until(lambda: not any(process.running for process in joining), "the joins")
        for hospital in hospitals:
            running.callback(hospital.starts("start").stop)
        status = ["wardround", "coordinator", "status", "--config", "coord", "--json"]
        until(lambda: online(ran(folder, status)) == len(SITES), "the daemons", pause=ASKING)
        asking = [script("wardround"), "run", *ASKED.split()]
        log = folder / "asking.log"
        running.callback(Python(asking, folder, log, log).stop)
        until(lambda: all(hospital.studies() for hospital in hospitals), "the study", pause=ASKING)
        yield hospitals[0]


def online(status: str) -> int:
    return sum(site["online"] for site in json.loads(status)["sites"].values())


@pytest.mark.slow
def test_the_check_of_the_handbook_passes(north: Hospital) -> None:
    checks = json.loads(north.runs("check", "--json"))["checks"]
    found = {each["name"]: each["passed"] for each in checks if each["name"] not in MACHINE}
    assert "data of heart_disease" in found
    assert [name for name, passed in found.items() if passed is not True] == []


@pytest.mark.slow
def test_a_study_is_approved_by_the_commands_of_the_handbook(north: Hospital) -> None:
    (study,) = north.studies()
    for command in ("show", "approve"):
        words = north.commands[command]
        assert words[-1] == "3f1c2a9b"
        words[-1] = study["digest"][:8]
    shown = north.runs("show")
    for asked in ("Who asks", "What leaves", "How private", "What it costs", "Budget with it"):
        assert asked in shown, shown
    north.runs("approve", "--yes")
    assert (study["state"], north.studies()[0]["state"]) == ("waiting", "accepted")


@pytest.mark.slow
def test_the_backup_of_the_handbook_is_written(north: Hospital) -> None:
    north.runs("backup")
    assert (north.folder / "backup" / "north-monday.tar.gz").stat().st_mode & 0o077 == 0
