"""What a public host reads: templates, workflow, hooks and citation say what is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def commands() -> list[str]:
    jobs = read(GITHUB / "workflows" / "ci.yml")["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_the_public_workflow_runs_what_is_there() -> None:
    ran = commands()
    assert ".ci/run" in ran
    for command in ran:
        program, *words = shlex.split(command)
        assert set(words) <= TARGETS if program == "make" else (ROOT / program).is_file(), command


def test_the_workflow_may_read_only() -> None:
    assert read(GITHUB / "workflows" / "ci.yml")["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("name", ["fault", "wish"])
def test_a_form_has_fields_with_names_of_their_own(name: str) -> None:
    form = read(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    fields = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(fields)) == len(fields) > 2


def test_every_target_that_a_template_names_is_there() -> None:
    text = (GITHUB / "pull_request_template.md").read_text()
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= TARGETS


def test_hooks_use_the_pinned_tools() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert all(hook["entry"].startswith(".venv/bin/") for hook in repository["hooks"])


def test_the_citation_is_of_this_release() -> None:
    cited = read(ROOT / "CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
