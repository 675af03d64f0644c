"""From an invitation to a site that is ready for pictures, by the five commands of the README."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from launch.demo import synthetic_radiographs
from launch.demo.child_process import script
from launch.demo.local_ports import free_port, is_listening
from launch.demo.synthetic_radiographs import SCANNER_MODELS, Radiograph
from server.coordinator.config import CoordinatorConfig
from server.enrolment.invitations import Invitations
from tests import forked
from tests.debian import program
from tests.waiting import HUNG, until

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/site_data.md")
PATIENTS, SIDE, SENDER = 24, 64, "DCMTK"
OTHERS = ("south", "west")
MACHINE = ("user", "ledger and clock", "disk", "processors")
"""Checks of the machine that a test runs on."""


def commands(folder: Path, port: int) -> list[list[str]]:
    """Those of both pages, for another folder, port and sender."""
    found = r"```\n(wardround-site join [^`]*cache fill[^`]*)```"
    (block,) = {text for page in PAGES for text in re.findall(found, (ROOT / page).read_text())}
    text = block.replace("/srv/wardround", str(folder)).replace(
        "0.0.0.0:11112", f"127.0.0.1:{port}"
    )
    text = text.replace("--pacs PACS", f"--pacs {SENDER}")
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [[script(name), *rest] for name, *rest in words]


def coordinator(folder: Path) -> None:
    (folder / "consortium.yaml").write_text(
        f"coordinator: {{hosts: [127.0.0.1], port: {free_port()}}}\n"
        "hospitals: {north: 150, south: 257, west: 90}\n"
        "data_scientists: [ada]\n"
        "rules: {tasks: [chest_xray], purposes: [research], modes: [distributed],\n"
        "  epsilon_per_study: 1, epsilon_lifetime: 5, epsilon_broken: 10}\n"
    )
    ran(folder, script("wardround"), "coordinator", "setup", "consortium.yaml", "coord", "--yes")


def ran(folder: Path, *words: str) -> str:
    done = forked.run(words, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def started(folder: Path, log: str, *words: str) -> forked.Python:
    return forked.Python(words, folder, folder / log, folder / log)


def test_from_a_pacs_to_a_site_that_is_ready(tmp_path: Path) -> None:
    drawn = [Radiograph(f"P{k}", f"A{k}", k % 2 == 0, SCANNER_MODELS[0]) for k in range(PATIENTS)]
    pacs = tmp_path / "pacs"
    synthetic_radiographs.write(drawn, SIDE, 3, pacs)
    rows = [f"{one.accession},{int(one.ill)}" for one in drawn]
    (tmp_path / "labels.csv").write_text("\n".join(["accession_number,pneumonia", *rows]) + "\n")
    coordinator(tmp_path)
    config, port = CoordinatorConfig.load(tmp_path / "coord"), free_port()
    join, receive, index, fill, check = commands(tmp_path / "north", port)  # five, no more
    join[2] = f"invitations/{join[2]}"
    more = [
        [each.replace("north", site) for each in join] for site in OTHERS
    ]  # they come in as well, or north would wait for them
    serving = [script("wardround"), "coordinator", "start", "--config", "coord"]
    running = [started(tmp_path, "coordinator.log", *serving)]
    try:
        assert is_listening("127.0.0.1", int(config.address.rpartition(":")[2]), HUNG)
        joining = [
            started(tmp_path, f"join{number}.log", *words, "--yes")
            for number, words in enumerate([join, *more])
        ]
        running += joining
        cards = Invitations(config.invitations)
        until(lambda: all(invited.card for invited in cards.all().values()), "the cards")
        ran(
            tmp_path,
            script("wardround"),
            "coordinator",
            "setup",
            "consortium.yaml",
            "coord",
            "--yes",
        )
        until(lambda: not any(process.running for process in joining), "the joins")
        running.append(started(tmp_path, "receiver.log", *receive))
        assert is_listening("127.0.0.1", port, HUNG)
        sending: list[str | Path] = [
            program("storescu", "dcmtk"),
            "+sd",
            "-aet",
            SENDER,
            "-aec",
            "WARDROUND",
        ]
        subprocess.run([*sending, "127.0.0.1", str(port), pacs], timeout=HUNG, check=True)
        indexed = json.loads(ran(tmp_path, *index, "--json"))
        assert (indexed["ready"], indexed["kept_out"]) == (PATIENTS, {})
        assert f"{PATIENTS} rows" in ran(tmp_path, *fill)
        findings: list[dict[str, Any]] = json.loads(ran(tmp_path, *check, "--json"))["checks"]
    finally:
        for process in reversed(running):
            process.stop()
    passed = {each["name"]: each["passed"] for each in findings if each["name"] not in MACHINE}
    assert {"receiver", "pictures", "data of chest_xray", "sign-in"} <= passed.keys()
    assert [
        each for each in findings if each["name"] in passed and each["passed"] is not True
    ] == []
