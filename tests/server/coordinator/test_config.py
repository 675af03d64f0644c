"""coordinator.yaml: every error names the key and what to do."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from protocol.errors import Code, WardroundError
from server.coordinator.config import FILE, CoordinatorConfig, template

GOOD = yaml.safe_load(template(["a.example.org"], 9092, "https://mlflow.example.org"))


def load(folder: Path, values: Any) -> CoordinatorConfig:
    (folder / FILE).write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return CoordinatorConfig.load(folder)


def test_the_template_says_what_was_asked_for(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert (config.address, config.listen) == ("a.example.org:9092", "0.0.0.0:9092")
    assert config.tracking.uri == "https://mlflow.example.org"
    assert config.waiting.patience.answer == 3600


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_coordinator_for_this_machine_listens_there_only(tmp_path: Path, host: str) -> None:
    config = load(tmp_path, template([host], 1234, None))
    assert config.listen == config.address
    assert config.tracking.uri is None


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"listen": "nowhere"}, "listen"),
        ({"listen": "0.0.0.0:70000"}, "listen"),
        ({"adress": "a:1"}, "adress"),
        ({"folder": "/elsewhere"}, "folder"),
        ({"studies": "many"}, "studies"),
        ({"studies": 0}, "studies"),
        ({"tracking": {"uri": "sqlite:///x"}}, "tracking.uri"),
        ({"tracking": None}, "tracking"),
        ({"waiting": {"patience": 3}}, "waiting.patience"),
        ({"waiting": {"join": -1}}, "waiting.join"),
        ({"waiting": {"join": float("nan")}}, "waiting.join"),
    ],
)
def test_an_error_names_its_key(tmp_path: Path, change: dict[str, Any], key: str) -> None:
    with pytest.raises(WardroundError, match=f"`{key}`") as refused:
        load(tmp_path, GOOD | change)
    assert refused.value.code is Code.CONFIGURATION
    assert refused.value.remedy


def test_a_missing_key_and_the_nearest_one_are_named(tmp_path: Path) -> None:
    without = {key: value for key, value in GOOD.items() if key != "address"}
    with pytest.raises(WardroundError, match="`address` is missing"):
        load(tmp_path, without)
    with pytest.raises(WardroundError) as refused:
        load(tmp_path, GOOD | {"adress": "a:1"})
    assert "Did you mean `address`?" in refused.value.remedy


@pytest.mark.parametrize("text", ["", "[]", "a: [", "listen: [::1]:9092"])
def test_what_is_no_configuration(tmp_path: Path, text: str) -> None:
    with pytest.raises(WardroundError) as refused:
        load(tmp_path, text)
    assert refused.value.code is Code.CONFIGURATION


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(WardroundError, match=FILE):
        CoordinatorConfig.load(tmp_path)
