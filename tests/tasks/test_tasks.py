"""The tasks that ship with wardround: their public data, their models, their installation."""

from __future__ import annotations

import os
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from protocol.errors import Code, WardroundError
from tasks import registry
from tasks.base import Task
from tasks.schema import PATIENT, Column, Schema
from tasks.shipped.breast_cancer import BreastCancer
from tasks.shipped.heart_disease import HeartDisease, parse

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
_LINE = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,{}\n"
needs_heart = pytest.mark.skipif(
    not (ROOT / "heart_disease").is_dir(), reason="wardround data fetch heart_disease"
)


@pytest.mark.parametrize("name", ["breast_cancer", "heart_disease"])
def test_losses_are_per_patient_and_scores_are_probabilities(name: str) -> None:
    task = registry.load(name)
    features = torch.randn(5, task.schema.width)
    labels = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    outputs = task.model()(features)
    losses = task.losses(outputs, labels)
    assert losses.shape == (5,)
    assert torch.allclose(losses, torch.full((5,), np.log(2)))  # starts undecided
    alone = torch.stack([task.losses(outputs[i : i + 1], labels[i : i + 1])[0] for i in range(5)])
    assert torch.equal(losses, alone)
    scores = task.scores(torch.tensor([[-50.0], [0.0], [50.0]]))
    assert scores[1] == 0.5
    assert 0 <= scores[0] < 1e-6
    assert 1 - 1e-6 < scores[2] <= 1


class Steeper(BreastCancer):
    """A loss of its own, whose slope only autograd knows."""

    def losses(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 3 * super().losses(outputs, labels) + outputs.sum(1) ** 2


@pytest.mark.parametrize("task", [BreastCancer(), Steeper()])
def test_slopes_are_what_autograd_says_of_the_losses(task: BreastCancer) -> None:
    labels = torch.tensor([0.0, 1.0, 1.0])
    outputs = torch.tensor([[-30.0], [0.3], [30.0]], requires_grad=True)
    (expected,) = torch.autograd.grad(task.losses(outputs, labels).sum(), outputs)
    with torch.no_grad():
        torch.testing.assert_close(task.slopes(outputs, labels), expected)
    wide = torch.randn(3, 2, requires_grad=True)
    (expected,) = torch.autograd.grad(task.losses(wide, labels).sum(), wide)
    torch.testing.assert_close(task.slopes(wide, labels), expected)


def test_breast_cancer_is_569_patients_at_four_uneven_sites_always_the_same() -> None:
    task = BreastCancer()
    sites, again = task.public_sites(None), task.public_sites(None)
    assert {site: len(table[PATIENT]) for site, table in sites.items()} == {
        "east": 170,
        "north": 228,
        "south": 103,
        "west": 68,
    }
    patients = np.concatenate([table[PATIENT] for table in sites.values()])
    assert len(set(patients)) == 569
    assert sum(table["malignant"].sum() for table in sites.values()) == 212
    for site, table in sites.items():
        assert 0.25 < table["malignant"].mean() < 0.5
        for name, column in table.items():
            assert np.array_equal(column, again[site][name])


def test_breast_cancer_ranges_hold_most_values() -> None:
    task = BreastCancer()
    features = np.concatenate([task.features(t) for t in task.public_sites(None).values()])
    assert features.shape == (569, 30)
    assert (np.abs(features) == 1).mean() < 0.04
    assert np.abs(features.mean(axis=0)).max() < 0.7


@needs_heart
def test_heart_disease_is_four_hospitals_as_uci_counts_them() -> None:
    sites = HeartDisease().public_sites(ROOT)
    assert {s: (len(t["num"]), int(t["num"].sum())) for s, t in sites.items()} == {
        "cleveland": (303, 139),
        "hungarian": (294, 106),
        "switzerland": (123, 115),
        "va": (200, 149),
    }
    assert len(np.unique(np.concatenate([t[PATIENT] for t in sites.values()]))) == 920


@needs_heart
def test_a_cholesterol_of_zero_is_not_a_measurement() -> None:
    task = HeartDisease()
    sites = task.public_sites(ROOT)
    flag = task.schema.feature_names.index("chol missing")
    assert task.features(sites["switzerland"])[:, flag].all()
    missing = task.features(sites["va"])[:, flag]
    known = np.isnan(sites["va"]["chol"]).sum() + (sites["va"]["chol"] == 0).sum()
    assert missing.sum() == known == 56
    assert not task.features(sites["cleveland"])[:, flag].any()


def test_a_heart_file_that_is_not_there_names_the_remedy(tmp_path: Path) -> None:
    for root in (tmp_path, None):
        with pytest.raises(WardroundError, match="wardround data fetch heart_disease") as caught:
            HeartDisease().public_sites(root)
        assert caught.value.code is Code.NO_DATA


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (_LINE.format(0) + _LINE.format("CANARY"), "line 2, column num: not a number"),
        (_LINE.format(0) + "63.0,1.0,CAN", "line 2: 3 columns instead of 14"),
        (_LINE.format("0,9"), "line 1: 15 columns instead of 14"),
        ("", "is empty"),
    ],
)
def test_a_broken_heart_file_is_named_by_file_line_and_column(text: str, where: str) -> None:
    with pytest.raises(WardroundError, match=re.escape(where)) as caught:
        parse(text.encode(), "processed.va.data", "va")
    assert caught.value.code is Code.MALFORMED_DATA
    assert "processed.va.data" in str(caught.value)
    assert "CAN" not in str(caught.value)


def test_a_heart_file_is_read_as_uci_describes_it() -> None:
    text = _LINE.format(0) + _LINE.format(4) + _LINE.format("?").replace("145.0", "?")
    table = parse(text.encode(), "f", "va")
    assert table["num"][:2].tolist() == [0, 1]
    assert np.isnan(table["num"][2])
    assert np.isnan(table["trestbps"][2])
    assert table[PATIENT].tolist() == ["va-000", "va-001", "va-002"]


def test_a_well_formed_file_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "heart_disease").mkdir()
    (tmp_path / "heart_disease" / "processed.cleveland.data").write_text(_LINE.format(0))
    with pytest.raises(WardroundError, match="SHA-256") as caught:
        HeartDisease().public_sites(tmp_path)
    assert caught.value.code is Code.MALFORMED_DATA


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(WardroundError, match="Did you mean heart_disease") as caught:
        registry.load("hart_disease")
    assert caught.value.code is Code.UNKNOWN_TASK


class Plugged(BreastCancer):
    name = "plugged"


def test_a_plug_in_is_found_but_cannot_replace_a_built_in_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = [
        EntryPoint("plugged", f"{__name__}:Plugged", "wardround.tasks"),
        EntryPoint("heart_disease", f"{__name__}:Plugged", "wardround.tasks"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert type(registry.load("plugged")).__name__ == "Plugged"
    assert isinstance(registry.load("heart_disease"), HeartDisease)


def test_the_source_digest_names_the_code_of_a_task() -> None:
    digests = {t.source_digest() for t in (BreastCancer, HeartDisease, Plugged)}
    assert len(digests) == 3
    assert BreastCancer().source_digest() == BreastCancer.source_digest()


def test_a_task_without_public_data_says_so() -> None:
    class Private(Task):
        name = "private"
        title = "private"
        schema = Schema((Column("age", "age"),), "label", "label")

        def model(self) -> torch.nn.Module:
            return torch.nn.Linear(2, 1)

    with pytest.raises(NotImplementedError, match="private"):
        Private().public_sites(None)
