"""The demo empties only what a demo made."""

from pathlib import Path

import pytest

from launch.demo.demo import Demo
from protocol.errors import Code, WardroundError
from tasks.shipped.breast_cancer import BreastCancer


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.tex"
    precious.write_text("ten years")
    with pytest.raises(WardroundError) as refused:
        Demo(tmp_path, BreastCancer())._clear()
    assert refused.value.code is Code.STATE
    assert precious.read_text() == "ten years"


def test_a_demo_starts_anew_in_its_own_folder(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "demo", BreastCancer())
    demo._clear()
    (tmp_path / "demo" / "old.log").write_text("of the last run")
    demo._clear()
    assert not (tmp_path / "demo" / "old.log").exists()
