"""A study is configured by overrides, and a typo is answered with the nearest valid key."""

import json

import pytest
from pydantic import BaseModel
from rich.console import Console
from typer.testing import CliRunner

from launch.cli.info import explain
from launch.cli.main import app
from launch.config import compose
from launch.config.keys import keys_of
from launch.config.schema import Config
from protocol.errors import Code, WardroundError
from protocol.study.study import Aggregation, Evaluation, Optimisation, Privacy, ServerOptimiser


def test_a_list_of_overrides() -> None:
    config = compose.load(
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
            config = compose.load([f"privacy={mode}", f"optimiser={optimiser}"])
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
        compose.load([override])
    assert refused.value.code is Code.CONFIGURATION
    assert hint in str(refused.value)


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(WardroundError, match="Integer"):
        compose.load(["rounds=many"])


def test_keys_lists_what_can_be_overridden() -> None:
    assert {"rounds", "privacy.epsilon", "aggregation.least_sites"} <= set(compose.keys())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rounds=0", "rounds is 0; it must be at least 1 and at most 100000. The nearest valid "
         "value: 1."),
        ("privacy.epsilon=1e9", "The nearest valid value: 10000."),
        ("privacy.sampling_rate=1.5", "The nearest valid value: 1."),
        ("privacy.delta=2", "above 0 and below 0.5"),
        ("privacy.epsilon=nan", "privacy.epsilon is nan"),
        ("averaging=lasthalf", "The nearest valid value: last_half."),
        ("evaluation.release=exakt", "The nearest valid value: exact."),
        ("baselines=[pool]", "The nearest valid value: pooled."),
    ],
)  # fmt: skip
def test_a_value_out_of_range_names_the_nearest(override: str, said: str) -> None:
    with pytest.raises(WardroundError) as refused:
        compose.load([override])
    assert refused.value.code is Code.CONFIGURATION
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (("federation=deployment", "baselines=[pooled]"), "records are not here"),
        (("privacy=none", "privacy.epsilon=1"), "can claim no epsilon"),
        (("privacy=none", "evaluation=noised"), "needs an epsilon, for that alone"),
        (("privacy.epsilon=1", "evaluation=exact"), "can show one patient"),
        (("privacy=distributed", "local_steps=5"), "one clipped sum a round"),
        (("privacy.epsilon=null",), "needs an epsilon"),
        (("aggregation.least_sites=3", "aggregation.colluding_sites=3"), "not below"),
        (("aggregation.least_sites=2", "federation.masked=true"), "read the other's sum"),
        (("federation.credentials=me.json",), "has no coordinator"),
        (("federation.workers=2",), "is of federation=ray"),
        (("tracking=off", "tracking.model=mine"), "nothing is tracked"),
        (("tracking.uri=http://127.0.0.1:1", "tracking.model='a/b'"), "tracking.model cannot be"),
        (("robust=median", "federation.masked=true"), "has to see each site's update"),
        (("privacy=none", "robust=median", "aggregation.update_bits=8"), "rotates them"),
        (("stop=early", "privacy=none", "evaluation.every=0"), "looks at evaluations"),
        (("evaluation.split=date",), "needs evaluation.since"),
        (("evaluation.since=2024-03-01",), "no other split reads it"),
    ],
)
def test_contradictions_are_refused_with_a_remedy(overrides: tuple[str, ...], cause: str) -> None:
    with pytest.raises(WardroundError) as refused:
        compose.load(overrides)
    assert refused.value.code is Code.CONFIGURATION
    assert cause in refused.value.message
    assert refused.value.remedy


def test_every_key_has_a_meaning_and_a_default_within_its_range() -> None:
    for key in keys_of(Config):
        assert len(key.meaning.text) > 3, key.name
        values = key.default if isinstance(key.default, list) else [key.default]
        assert all(key.meaning.allows(value) for value in values), key.name


def test_ranges_are_the_study_s_own() -> None:
    """What a range lets through, the study takes."""
    sections: dict[str, type[BaseModel]] = {
        "privacy": Privacy,
        "aggregation": Aggregation,
        "evaluation": Evaluation,
        "optimiser": ServerOptimiser,
        "": Optimisation,
    }
    compared = 0
    for key in keys_of(Config):
        section, _, name = key.name.rpartition(".")
        field = sections[section].model_fields.get(name) if section in sections else None
        if field is None or key.meaning.choices:
            continue
        study = {"min": "ge", "above": "gt", "max": "le", "below": "lt"}
        for end, sign in study.items():
            value = getattr(key.meaning, end)
            limits = [getattr(m, sign) for m in field.metadata if hasattr(m, sign)]
            for limit in limits:
                compared += 1
                assert value is not None, (key.name, end)
                within = value >= limit if end in ("min", "above") else value <= limit
                assert within, (key.name, end)
    assert compared > 15


def test_options_of_a_task_need_no_plus() -> None:
    config = compose.load(["task=icu_timeseries", "task.options.model=tcn"])
    assert config.task.options == {"model": "tcn"}


def test_the_command_explains_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    explain(Console(width=200))
    said = capsys.readouterr().out
    for key in keys_of(Config):
        assert key.name in said
    for word in ("number or null", "true or false", "above 0 and below 0.5", "heart_disease"):
        assert word in said


@pytest.mark.parametrize(
    ("words", "present", "absent"),
    [
        (("--cfg", "rounds=3"), "rounds: 3", "hydra:"),
        (("rounds=3", "--cfg"), "rounds: 3", "hydra:"),
        (("--cfg", "job", "rounds=3"), "rounds: 3", "hydra:"),
        (("--cfg", "hydra"), "hydra:", "rounds:"),
        (("--cfg", "all", "rounds=3"), "hydra:", "nothing"),
    ],
)
def test_cfg_shows_what_hydra_s_users_expect(
    words: tuple[str, ...], present: str, absent: str
) -> None:
    said = CliRunner().invoke(app, ["run", *words])
    assert said.exit_code == 0, said.output
    assert present in said.output
    assert absent not in said.output


def test_a_program_reads_the_keys_and_a_configuration() -> None:
    told = CliRunner().invoke(app, ["run", "--info", "--json"])
    found = json.loads(told.stdout)
    named = {key.name for key in keys_of(Config) if key.type != "group"}
    assert {key["key"] for key in found["keys"]} == named
    assert "heart_disease" in found["groups"]["task"]
    told = CliRunner().invoke(app, ["run", "--cfg", "--json", "rounds=3"])
    assert json.loads(told.stdout)["rounds"] == 3


def test_stopping_early_sets_what_it_needs_and_leaves_the_rest_to_the_user() -> None:
    config = compose.load(["stop=early", "task=heart_disease", "privacy=none"])
    assert (config.averaging, config.evaluation.every) == ("none", 5)
    assert compose.load(["stop=early", "evaluation.every=2"]).evaluation.every == 2
