"""What `wardround task new` writes is installed and passes its own test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.authoring import new_package
from protocol.errors import Code, WardroundError

ROOT = Path(new_package.__file__).parents[2]


@pytest.mark.slow
def test_the_package_is_installed_and_passes_its_own_test(tmp_path: Path) -> None:
    folder, target = new_package.write("wound_infection", tmp_path), tmp_path / "installed"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    subprocess.run([*pip, "--target", str(target), str(folder)], check=True)
    shown = {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}"}
    asked = "from tasks import registry; print(registry.load('wound_infection').title)"
    found = subprocess.run(
        [sys.executable, "-c", asked], env=shown, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "wound infection"
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "tests")]
    done = subprocess.run(
        test, env=shown, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.parametrize("name", ["Wound", "1st", "class", "a b", "../x", "breast_cancer", "json"])
def test_a_name_that_cannot_be_a_tasks_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WardroundError) as caught:
        new_package.write(name, tmp_path)
    assert caught.value.code is Code.USAGE
    assert caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path) -> None:
    new_package.write("wound_infection", tmp_path)
    with pytest.raises(WardroundError, match="is there already"):
        new_package.write("wound_infection", tmp_path)
