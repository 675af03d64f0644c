"""The benchmarks' own logic: what they install, what they answer, how a figure is printed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from coordinator_memory import STUDY, LightSite, resident
from launch.config.compose import load
from launch.federations.inprocess import InProcessFleet
from launch.studies.study_builder import build_study
from protocol.identity import Identity
from protocol.study.vector_layout import Sections
from protocol.wire import messages
from server.rounds.attempt import Attempt, Traffic
from support.figure import figure
from support.tasks import NoOp, install

BENCH = Path(__file__).resolve().parent.parent / "bench"


def test_a_figure_is_one_json_line_and_says_whether_it_holds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert figure("a", 2.0, "s", 2.0)
    assert not figure("b", 19.0, "times", 20.0, least=True, load=1.5)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"figure": "a", "value": 2.0, "unit": "s", "bar": 2.0, "holds": True}
    assert (second["holds"], second["load"]) == (False, 1.5)


@pytest.mark.parametrize("path", sorted(BENCH.rglob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_finds_the_tests_helpers_by_itself(path: Path) -> None:
    """`support` makes `tests` importable, so it comes first (as names sort, too)."""
    taken = [
        node.module.partition(".")[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module is not None
    ]
    if "tests" in taken and path.parent == BENCH:
        assert "support" in taken[: taken.index("tests")]


def test_the_tasks_are_installed_as_plug_ins_for_children_too(tmp_path: Path) -> None:
    env = install(tmp_path)
    sys.path.remove(str(tmp_path))
    code = "from tasks import registry; print(registry.load('bench_noop').model().weight.numel())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=BENCH.parent, capture_output=True, text=True
    )
    assert done.stdout.strip() == "13", done.stderr


def test_the_coordinator_opens_what_light_sites_answer() -> None:
    config = load([f"task.name={NoOp.name}", "federation=deployment", *STUDY])
    study = build_study(config, NoOp(), {"a": 100, "b": 100, "c": 100})
    keys = {site: Identity.generate() for site in study.sites}
    roster = {site: key.public_key.hex() for site, key in keys.items()}
    sites = {site: LightSite(site, keys[site], roster) for site in study.sites}
    fleet = InProcessFleet(cast(Any, sites))  # they answer: no more is asked of them
    propose = messages.frame(messages.Propose(document=study.document.decode()))
    for _, answer in fleet.ask(dict.fromkeys(study.sites, propose), 1.0):
        assert answer is not None
        assert messages.parse(answer) == messages.Standing(study=study.digest, state="accepted")
    attempt = Attempt(study, roster, fleet, Traffic(), 1.0)
    sections = Sections(study, train=True, evaluate=True)
    weights = np.zeros(study.model.parameters, np.float32)
    opened = attempt.run(frozenset(study.sites), 1, 1, sections, weights)
    assert not opened.total[sections.update].any()
    counts = opened.total[sections.histogram]
    assert (counts[-1], counts.sum()) == (3 * study.evaluation.scale,) * 2


def test_resident_memory_is_read_in_bytes() -> None:
    assert 2**20 < resident(os.getpid(), "VmRSS") <= resident(os.getpid(), "VmHWM") < 2**40
