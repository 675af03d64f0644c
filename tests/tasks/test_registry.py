"""Which tasks are there, and what a broken one says."""

from __future__ import annotations

import linecache
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from torch import nn

from launch.config import compose
from protocol.errors import Code, WardroundError
from tasks import registry
from tasks.base import Task
from tasks.shipped.breast_cancer import BreastCancer

SOURCE = '''"""A task in a file."""

from torch import nn

from tasks.shipped.breast_cancer import BreastCancer


class Mine(BreastCancer):
    name = "{name}"

    def model(self) -> nn.Module:
        return nn.Linear(self.schema.width, 1)
'''


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers or imports is there for that test alone."""
    monkeypatch.setattr(registry, "_registered", {})
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


class Mine(BreastCancer):
    name = "mine"


def file(folder: Path, text: str = SOURCE.format(name="mine"), name: str = "my_task") -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def plug_in(folder: Path, value: str, name: str = "mine") -> None:
    info = folder / "mine-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[wardround.tasks]\n{name} = {value}\n")


def test_a_registered_task_is_there_as_if_it_were_installed() -> None:
    assert registry.register(Mine) is Mine
    assert isinstance(registry.load("mine"), Mine)
    assert compose.load(["task=mine", "privacy=none", "tracking=off"]).task.name == "mine"


def test_a_class_that_is_written_again_takes_the_first_ones_place() -> None:
    registry.register(Mine)
    again = registry.register(type("Mine", (BreastCancer,), {"name": "mine"}))
    assert type(registry.load("mine")) is again


def test_no_registered_task_replaces_a_built_in_one() -> None:
    with pytest.raises(WardroundError, match="built-in task breast_cancer"):
        registry.register(type("Other", (BreastCancer,), {}))
    assert type(registry.load("breast_cancer")) is BreastCancer


def test_a_task_in_a_file_runs_without_being_installed(tmp_path: Path) -> None:
    config = compose.load([f"task={file(tmp_path)}", "privacy=none", "tracking=off"])
    assert config.task.name == "mine"
    assert registry.load("mine").source_digest() != BreastCancer.source_digest()
    registry._registered.clear()
    kept = compose.from_yaml(yaml.safe_dump(compose.plain(config)))  # by a study that is resumed
    assert registry.load(kept.task.name).title == BreastCancer.title


@pytest.mark.parametrize("federation", ["deployment", "ray"])
def test_a_file_does_not_travel(tmp_path: Path, federation: str) -> None:
    words = [f"task={file(tmp_path)}", f"federation={federation}", "tracking=off"]
    with pytest.raises(WardroundError, match="is a file of yours") as caught:
        compose.load([*words, "privacy.epsilon=1"])
    assert "wardround task new" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of"),
        ("x = 1", "defines 0 tasks"),
        (
            SOURCE.format(name="mine") + "\n\nclass Other(Mine):\n    name = 'other'\n",
            "defines 2 tasks: Mine, Other",
        ),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_file_that_defines_no_task_says_so_in_a_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(WardroundError, match=r"my_task\.py") as caught:
        registry.register_file(str(file(tmp_path, text)))
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy


def test_one_of_several_tasks_in_a_file_is_named(tmp_path: Path) -> None:
    text = SOURCE.format(name="mine") + "\n\nclass Other(Mine):\n    name = 'other'\n"
    assert registry.register_file(f"{file(tmp_path, text)}:Other") == "other"


def test_a_file_does_not_take_a_modules_place(tmp_path: Path) -> None:
    with pytest.raises(WardroundError, match="name of a Python module"):
        registry.register_file(str(file(tmp_path, name="torch")))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("my_missing:Task", "cannot be loaded: ModuleNotFoundError"),
        ("my_task:Absent", "cannot be loaded: AttributeError"),
        ("my_task:nn", "which is no task called mine"),
        ("tasks.shipped.breast_cancer:BreastCancer", "which is no task called mine"),
    ],
)
def test_a_broken_plug_in_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    file(tmp_path)
    plug_in(tmp_path, value)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WardroundError) as caught:
        registry.load("mine")
    assert caught.value.code is Code.CONFIGURATION
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_the_command_says_one_line_and_then_the_authors_traceback(tmp_path: Path) -> None:
    broken = file(tmp_path, "import nothing_of_that_name")
    done = subprocess.run(
        [sys.executable, "-m", "wardround", "run", f"task={broken}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == Code.CONFIGURATION.exit_status
    assert 'my_task.py", line 1' in done.stderr
    assert sum(line.startswith("error (configuration)") for line in done.stderr.splitlines()) == 1


def test_a_task_in_a_notebooks_cell_has_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's main module has no file; its cells are kept for tracebacks."""

    def in_cell(text: str, cell: str) -> type[Task]:
        module = ModuleType("my_notebook")
        monkeypatch.setitem(sys.modules, "my_notebook", module)
        linecache.cache[cell] = (len(text), None, text.splitlines(keepends=True), cell)
        module.__dict__["__name__"] = "my_notebook"
        exec(compile(text, cell, "exec"), module.__dict__)  # noqa: S102 (as a notebook does)
        kind: type[Task] = module.__dict__["Mine"]
        return kind

    text = SOURCE.format(name="mine")
    first = in_cell(text, "<cell 1>").source_digest()
    assert first == in_cell(text, "<cell 2>").source_digest()
    assert first != in_cell(text.replace("1)", "1, bias=False)"), "<cell 3>").source_digest()


def test_a_task_without_a_source_is_refused() -> None:
    made: type[Task] = type("Made", (BreastCancer,), {"name": "made", "__module__": "my_nowhere"})
    with pytest.raises(WardroundError, match="source of Made"):
        made.source_digest()
    assert issubclass(made, Task)
    assert isinstance(made().model(), nn.Module)
