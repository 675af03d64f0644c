"""The Python interface: its names are there and cost nothing until used; no file hides them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wardround
from wardround.rooms import ROOMS

SCRIPTS = Path(sys.executable).parent


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command as a user in `folder` runs it, whose Python looks there first."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", wardround.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(wardround, name) is not None


def test_types_and_homes_say_the_same_names() -> None:
    tree = ast.parse(Path(wardround.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == set(wardround.__all__) == set(wardround._HOME)


def test_a_name_that_is_not_there_is_said_as_python_says_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = wardround.nonsense


def test_importing_it_loads_nothing_heavy(tmp_path: Path) -> None:
    script = "import sys, wardround; print({'torch', 'flwr', 'hydra', 'pandas'} & {*sys.modules})"
    done = run(tmp_path, sys.executable, "-c", script)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done


@pytest.mark.parametrize("room", ROOMS)
def test_a_users_file_of_a_rooms_name_is_named(tmp_path: Path, room: str) -> None:
    (tmp_path / f"{room}.py").write_text("print('mine')\n")
    for command in (
        (SCRIPTS / "wardround", "tasks"),
        (SCRIPTS / "wardround-site", "--help"),
        (sys.executable, "-m", "wardround", "tasks"),
    ):
        done = run(tmp_path, *command)
        assert done.returncode == 2, done
        assert str(tmp_path / f"{room}.py") in done.stderr
        assert "Rename it" in done.stderr
        assert "Traceback" not in done.stderr
    done = run(tmp_path, sys.executable, "-c", "from wardround import Task")
    assert f"ImportError: {tmp_path / room}.py hides" in done.stderr


def test_a_users_folder_of_a_rooms_name_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("")
    done = run(tmp_path, sys.executable, "-m", "wardround", "tasks")
    assert done.returncode == 2
    assert f"{tmp_path / 'tasks'} hides" in done.stderr


def test_other_files_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("")
    (tmp_path / "tasks.csv").write_text("")
    done = run(tmp_path, sys.executable, "-m", "wardround", "tasks", "--json")
    assert done.returncode == 0, done
    assert "breast_cancer" in done.stdout
