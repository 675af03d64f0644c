"""Intensive care: public scores as a start, hours and their gaps, nothing from a stay's end."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from client.training.dp_trainer import DPTrainer
from client.training.sampling import Batch
from protocol.errors import Code, WardroundError
from tasks import registry
from tasks.base import Task
from tasks.encoders import Hinge
from tasks.models.hourly_features import HOURS, Hourly
from tasks.models.tcn import TemporalNet
from tasks.schema import PATIENT, Table
from tasks.shipped.icu_mortality import IcuMortality
from tasks.shipped.icu_timeseries import SERIES, IcuTimeseries
from tests.narrowing import instance

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
needs_eicu = pytest.mark.skipif(
    not (ROOT / "eicu_demo").is_dir() or not (ROOT / "eicu_mortality24").is_dir(),
    reason="wardround data fetch icu_timeseries",
)
TASKS = [IcuMortality(), IcuTimeseries(), IcuTimeseries(model="tcn")]


def _patients(task: Task, count: int = 6) -> Table:
    """Random patients, some of whose values are missing."""
    generator = np.random.default_rng(3)
    table: dict[str, np.ndarray] = {PATIENT: np.array([f"p{k}" for k in range(count)], object)}
    for column in task.schema.columns:
        if column.kind == "number":
            values = generator.uniform(column.low, column.high, count)
            values[generator.random(count) < 0.3] = np.nan
        else:
            values = generator.choice(np.array([*column.categories, None], object), count)
        table[column.name] = values
    return table | {task.schema.label: generator.integers(0, 2, count).astype(float)}


@pytest.mark.parametrize("task", TASKS, ids=lambda t: f"{t.name} {t.options}")
def test_before_the_first_step_the_model_is_the_public_score(task: Task) -> None:
    table = _patients(task)
    known = task.public_score(table)
    assert known is not None
    outputs = task.model()(torch.from_numpy(task.features(table)))
    inside = np.clip(np.log(known / (1 - known)), -5, 5)
    assert np.allclose(outputs[:, 0].detach().numpy(), inside, atol=1e-4)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: f"{t.name} {t.options}")
def test_a_patients_features_depend_on_nobody_else(task: Task) -> None:
    table = _patients(task)
    whole = task.features(table)
    assert np.abs(whole).max() <= 1
    for row in range(len(whole)):
        alone = task.features({name: values[row : row + 1] for name, values in table.items()})
        assert np.array_equal(alone[0], whole[row])


@pytest.mark.parametrize("task", TASKS, ids=lambda t: f"{t.name} {t.options}")
def test_the_model_trains_patient_by_patient(task: Task) -> None:
    table = _patients(task)
    batch = Batch(
        torch.from_numpy(task.features(table)),
        torch.from_numpy(table[task.schema.label].astype(np.float32)),
    )
    learner = DPTrainer(task, 0)
    weights = learner.model.weights() + 0.01

    def clipped(rows: slice) -> np.ndarray:
        chosen = Batch(batch.features[rows], batch.labels[rows])
        return learner.clipped_sum(weights, chosen, 1e3, 10**6)

    alone = sum(clipped(slice(k, k + 1)) for k in range(len(batch)))
    together = clipped(slice(None))
    assert np.abs(together).max() > 1000
    assert np.abs(together - alone).max() <= 2 * len(batch)  # each patient rounds by itself


def test_without_the_public_score_the_task_starts_at_one_in_ten() -> None:
    task = IcuMortality(start="zero")
    table = _patients(task)
    features = task.features(table)
    assert features.shape[1] == task.schema.width
    scores = task.scores(task.model()(torch.from_numpy(features)))
    assert torch.allclose(scores, torch.tensor(0.1))
    with pytest.raises(WardroundError, match="Choose one of") as caught:
        IcuMortality(start="apache")
    assert caught.value.code is Code.CONFIGURATION


def test_no_column_knows_how_the_stay_ended() -> None:
    for task in (IcuMortality(), IcuTimeseries()):
        names = " ".join(column.name for column in task.schema.columns)
        for telling in ("discharge", "died", "actual", "predicted", "los", "outcome"):
            assert telling not in names


def test_the_summary_is_the_mean_of_worst_average_and_latest() -> None:
    series = Hourly("x", "x", "1", 0, 200, Hinge(50, 100))
    hours = np.full((3, HOURS), np.nan)
    hours[0, [2, 5]] = (150, 110)  # 0.5 and 0.1 above
    hours[1, 7] = 25  # 0.5 below
    table = {c.name: hours[:, k] for k, c in enumerate(series.columns)}
    values = series.values(table)
    expected = np.array([[0, (0.5 + 0.3 + 0.1) / 3], [0.5, 0], [0, 0]])
    assert np.allclose(series.summary(values), expected, atol=1e-12)


def test_the_latest_value_is_carried_until_the_next() -> None:
    series = Hourly("x", "x", "1", 0, 10, Hinge(high=5))
    hours = np.full((2, HOURS), np.nan)
    hours[0, [1, 3]] = (10, 0)
    carried = series.carried(hours)
    assert carried[0, :5].tolist() == [0, 1, 1, -1, -1]
    assert carried[0, 23] == -1
    assert not carried[1].any()


def test_the_net_is_causal_and_treats_every_patient_alone() -> None:
    torch.manual_seed(0)
    net = TemporalNet(4, HOURS, 3)
    torch.nn.init.normal_(net.added.weight)
    rows = torch.randn(5, 4 * HOURS + 3)
    assert torch.allclose(net(rows)[2], net(rows[2:3])[0], atol=1e-5)
    block = instance(torch.nn.Sequential, net.layers[0])
    first = block[1](block[0](torch.zeros(1, 4, HOURS)))
    late = torch.zeros(1, 4, HOURS)
    late[:, :, 20] = 1.0
    changed = block[1](block[0](late))
    assert torch.equal(first[:, :, :20], changed[:, :, :20])
    assert not torch.equal(first, changed)


@needs_eicu
def test_icu_mortality_is_one_stay_of_each_patient_in_four_regions() -> None:
    task = registry.load("icu_mortality")
    sites = task.public_sites(ROOT)
    assert {site: (len(t["died"]), int(t["died"].sum())) for site, t in sites.items()} == {
        "midwest": (594, 46),
        "northeast": (122, 18),
        "south": (519, 48),
        "west": (359, 35),
    }
    patients = np.concatenate([t[PATIENT] for t in sites.values()])
    assert len(set(patients)) == len(patients) == 1594
    for table in sites.values():
        assert set(table) == set(task.schema.names)
        assert np.isfinite(task.features(table)).all()


@needs_eicu
def test_icu_timeseries_is_one_stay_of_each_patient_in_four_regions() -> None:
    task = registry.load("icu_timeseries")
    sites = task.public_sites(ROOT)
    assert {site: (len(t["died"]), int(t["died"].sum())) for site, t in sites.items()} == {
        "midwest": (358, 14),
        "northeast": (87, 8),
        "south": (352, 16),
        "west": (245, 11),
    }
    for table in sites.values():
        assert set(table) == set(task.schema.names)
        assert all(len(values) == len(table["died"]) for values in table.values())
    heart = np.concatenate([SERIES[0].values(t).ravel() for t in sites.values()])
    assert 80 < np.nanmean(heart) < 90
    assert np.isnan(heart).mean() < 0.1


@pytest.mark.parametrize("name", ["icu_mortality", "icu_timeseries", "readmission"])
def test_files_that_are_not_there_or_not_the_published_ones_are_named(
    name: str, tmp_path: Path
) -> None:
    task = registry.load(name)
    for root in (None, tmp_path):
        with pytest.raises(WardroundError, match=f"wardround data fetch {name}") as caught:
            task.public_sites(root)
        assert caught.value.code is Code.NO_DATA
    for download in task.downloads:
        path = tmp_path / download.folder / download.file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"CANARY")
    with pytest.raises(WardroundError, match="SHA-256") as caught:
        task.public_sites(tmp_path)
    assert caught.value.code is Code.MALFORMED_DATA
    assert "CANARY" not in str(caught.value)
