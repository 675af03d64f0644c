"""Site and coordinator without optional parts; a part that is missing is named with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from client.enrolment import new_site
from protocol.extras import IMPORTED, Extra
from support.deployment import Deployment
from support.environment import closure, extras, modules
from tasks import registry
from tests.absent_packages import without_optional_parts

BIN = Path(sys.executable).parent
STUDY = ("privacy=distributed", "privacy.epsilon=8", "evaluation=off", "rounds=2")


def test_the_parts_are_those_of_pyproject() -> None:
    assert {*extras()} == {*Extra, "all"}
    core = modules(closure())
    for module, part in IMPORTED.items():
        assert module in modules(closure([part]))
        assert module not in core


def run(env: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / command[0], *command[1:]], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_coordinator_and_sites_train_without_them(tmp_path: Path) -> None:
    env = without_optional_parts(tmp_path / "bare")
    with Deployment(tmp_path / "ours", registry.load("breast_cancer"), env) as ours:
        assert len(ours.run(*STUDY)) == 1
        loaded = "\n".join(
            Path(f"/proc/{ours.program(name)}/maps").read_text()
            for name in ("coordinator", *registry.load("breast_cancer").public_sites(None))
        )
    assert "torch" in loaded
    for package in ("ray", "mlflow", "gdcm", "duckdb_extension"):
        assert f"site-packages/{package}" not in loaded


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "command"),
    [
        (Extra.RAY, ("wardround", "run", "task=breast_cancer", "federation=ray", "tracking=off")),
        (Extra.MLFLOW, ("wardround", "mlflow", "{folder}/mlflow")),
        (Extra.IMAGING, ("wardround-site", "start", "--config", "{folder}/north")),
        (Extra.IMAGING, ("wardround-site", "index", "--config", "{folder}/north")),
    ],
)
def test_what_is_missing_is_one_line_with_the_remedy(
    part: Extra, command: tuple[str, ...], tmp_path: Path
) -> None:
    env = without_optional_parts(tmp_path / "bare")
    if part is Extra.IMAGING:
        hospital(tmp_path / "north")
    done = run(env, *(word.format(folder=tmp_path) for word in command))
    said = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2, done.stderr
    assert said == [
        f"error (configuration): This needs the optional part {part} of wardround, which is not "
        "installed here."
    ]
    assert f'pip install "wardround[{part}]"' in done.stderr
    assert "Traceback" not in done.stderr


def hospital(folder: Path) -> None:
    """One whose site.yaml has pictures."""
    from client.enrolment.site_template import SiteAnswers
    from tests.client.daemon_federation import RULES, TASK

    new_site.init(folder, SiteAnswers("north", **{"data": {TASK: folder.parent}} | RULES))
    file = folder / new_site.SITE_YAML
    rules = yaml.safe_load(file.read_text())
    pictures = folder / "pictures"
    pictures.mkdir()
    file.write_text(yaml.safe_dump(rules | {"imaging": {"folders": [str(pictures)]}}))
    os.chmod(file, 0o600)
