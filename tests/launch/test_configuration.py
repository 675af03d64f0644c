"""The configuration reads as a sentence, and a typo is answered with the nearest valid key."""

import pytest

from launch import configuration
from protocol.errors import Code, WardroundError


def test_a_sentence_of_overrides() -> None:
    config = configuration.load(
        ["task=heart_disease", "privacy=local", "privacy.epsilon=3", "optimiser=fedadam"]
    )
    assert (config.task.name, config.privacy.mode, config.privacy.epsilon) == (
        "heart_disease",
        "local",
        3.0,
    )
    assert config.optimiser.name == "fedadam"


def test_every_group_composes() -> None:
    for mode in ("none", "local", "distributed"):
        for optimiser in ("fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad"):
            config = configuration.load([f"privacy={mode}", f"optimiser={optimiser}"])
            assert config.privacy.mode == mode
            assert config.optimiser.name == optimiser


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("privacy.epsilom=1", "privacy.epsilon"),
        ("privacy=distribted", "distributed"),
        ("optimiser=fedadm", "fedadam"),
        ("task=hart_disease", "heart_disease"),
        ("round=3", "rounds"),
    ],
)
def test_a_typo_names_the_nearest(override: str, hint: str) -> None:
    with pytest.raises(WardroundError) as refused:
        configuration.load([override])
    assert refused.value.code is Code.CONFIGURATION
    assert hint in str(refused.value)


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(WardroundError, match="Integer"):
        configuration.load(["rounds=many"])


def test_keys_lists_what_can_be_overridden() -> None:
    assert {"rounds", "privacy.epsilon", "aggregation.least_sites"} <= set(configuration.keys())
