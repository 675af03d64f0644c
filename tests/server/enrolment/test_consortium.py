"""consortium.yaml: values are read as they are written, and an error names its key."""

from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from server.enrolment.consortium import Consortium

GOOD = """\
coordinator: {hosts: [fl.example.org]}
hospitals: {no: 20, on: 90, "12": 30}
data_scientists: [ada]
rules: {modes: [distributed], epsilon_per_study: 1e0, epsilon_lifetime: 5}
"""


def load(folder: Path, text: str) -> Consortium:
    (folder / "consortium.yaml").write_text(text)
    return Consortium.load(folder / "consortium.yaml")


def test_names_and_numbers_are_what_they_look_like(tmp_path: Path) -> None:
    """In YAML 1.1 `no` and `on` are truth values, and `1e0` is a text."""
    consortium = load(tmp_path, GOOD)
    assert consortium.hospitals == {"no": 20, "on": 90, "12": 30}
    assert consortium.rules.epsilon_per_study == 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("hosts:", "host:"), "Did you mean `hosts`"),
        (("on: 90", "on: many"), "hospitals.on"),
        (("no: 20, on", "no: 20, no"), "`no` appears twice"),
        (("[ada]", "[ada, ada]"), "a person is named twice"),
        (("epsilon_lifetime: 5", "delta: 0.1"), "epsilon_lifetime"),
        (("hospitals:", " hospitals:"), "line 2"),
    ],
)
def test_an_error_names_its_key(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    with pytest.raises(WardroundError) as refused:
        load(tmp_path, GOOD.replace(*change))
    assert refused.value.code is Code.CONFIGURATION
    assert named in f"{refused.value.message} {refused.value.remedy}"


def test_without_one_an_example_is_shown(tmp_path: Path) -> None:
    with pytest.raises(WardroundError) as refused:
        Consortium.load(tmp_path / "consortium.yaml")
    assert "hospitals: {north: 150" in refused.value.remedy
