"""A task that breaks its contract is refused by the method that does, before anything starts.

Most slips here were made by people who brought a model to another federated framework, where it
trained on without a word or died far from its cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from launch.config import compose
from launch.federations.inprocess import cohorts_of
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.outcomes.regression import Regression
from tasks import contract, registry
from tasks.base import Task
from tasks.schema import Column, Image, Schema, Table

COLUMNS = (
    Column("temp", "temperature", unit="Cel", low=34, high=42),
    Column("place", "where it is", "category", categories=("leg", "arm", "trunk")),
)


class Sound(Task):
    """Every slip below is this with one method changed."""

    name, title = "sound", "Wounds"
    schema = Schema(COLUMNS, "label", "1: infected")

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.schema.width, 4), nn.Tanh(), nn.Linear(4, 1))

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        return {site: self.schema.made_up(40, seed) for seed, site in enumerate("abc")}


class TwoLogits(Sound):
    """Two outputs, both used: as it should be."""

    def model(self) -> nn.Module:
        return nn.Linear(self.schema.width, 2)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, labels.long(), reduction="none")

    def scores(self, outputs: Tensor) -> Tensor:
        return torch.softmax(outputs, 1)[:, 1]


class Dropping(Sound):
    """Draws while it trains: for studies without an epsilon."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.schema.width, 8), nn.Dropout(0.5), nn.Linear(8, 1))


class Pictures(Sound):
    schema = Schema((), "label", "1: infected", images=(Image("photo", "the wound", 8, 8),))

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        return table["photo"].reshape(-1, 1, 8, 8)

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 1))


class MeanLoss(Sound):
    """The default of most loss functions."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels)


class BroadcastLoss(Sound):
    """(B, 1) against (B,): every patient's output against every patient's label."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - labels) ** 2


class BatchWeightedLoss(Sound):
    """Classes weighted by how often they are in the batch."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().losses(outputs, labels) * (1 - labels.mean())


class DetachedLoss(Sound):
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().losses(outputs, labels).detach()


class LossOfLongs(TwoLogits):
    """Cross entropy wants whole numbers: its own error, with its name."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.nll_loss(outputs, labels, reduction="none")


class ThreeOutputs(Sound):
    """Made for three classes; the usual loss looks at one output."""

    def model(self) -> nn.Module:
        return nn.Linear(self.schema.width, 3)


class SigmoidTwice(Sound):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.schema.width, 1), nn.Sigmoid())


class OtherClass(TwoLogits):
    def scores(self, outputs: Tensor) -> Tensor:
        return torch.softmax(outputs, 1)[:, 0]


class _SoftmaxInEvaluation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x)
        return logits if self.training else torch.softmax(logits, 1)


class OtherInEvaluation(TwoLogits):
    def model(self) -> nn.Module:
        return _SoftmaxInEvaluation(self.schema.width)


class _Named(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.layer(x)}


class Dictionary(Sound):
    """As segmentation networks return it."""

    def model(self) -> nn.Module:
        return _Named(self.schema.width)


class Wrapped(Sound):
    """A class around a module."""

    def model(self) -> nn.Module:
        return object()  # type: ignore[return-value]  # the slip


class Squeezed(Sound):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.schema.width, 1), nn.Flatten(0))


class BatchNormalised(Sound):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(self.schema.width), nn.Linear(self.schema.width, 1))


class WithoutStatistics(Sound):
    """No buffer, and every patient's output depends on the batch."""

    def model(self) -> nn.Module:
        width = self.schema.width
        norm = nn.BatchNorm1d(width, track_running_stats=False)
        return nn.Sequential(norm, nn.Linear(width, 1))


class AllFrozen(Sound):
    def model(self) -> nn.Module:
        return super().model().requires_grad_(False)


class OtherEachTime(Sound):
    built = 0

    def model(self) -> nn.Module:
        type(self).built += 1
        model = nn.Linear(self.schema.width, 1)
        with torch.no_grad():
            model.bias.fill_(self.built)
        return model


class Standardised(Sound):
    """By the cohort's own mean."""

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        made = super().features(table)
        return np.asarray(made - made.mean(0), np.float32)


class GapsAsNaN(Sound):
    def features(self, table: Table) -> npt.NDArray[np.float32]:
        return np.asarray(table["temp"], np.float32)[:, None].repeat(self.schema.width, 1)


class Doubles(Sound):
    def features(self, table: Table) -> npt.NDArray[np.float32]:
        return super().features(table).astype(np.float64)


class RowsLost(Sound):
    def features(self, table: Table) -> npt.NDArray[np.float32]:
        return super().features(table)[1:]


class BigScore(Sound):
    def scores(self, outputs: Tensor) -> Tensor:
        return outputs[:, 0] * 5 + 2


class WrongSlopes(Sound):
    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.ones_like(outputs)


class SecondTemperature(Sound):
    schema = Schema((*COLUMNS, COLUMNS[0]), "label", "1: infected")


class Weighted(Sound):
    class_weights = (1.0, 9.0)


class TooManyWeights(Sound):
    class_weights = (1.0, 9.0, 1.0)


class EqualWeights(Sound):
    class_weights = (2.0, 2.0)


class NoWeight(Sound):
    class_weights = (1.0, 0.0)


class WeightsOfNumbers(Sound):
    outcome = Regression(low=0, high=1)
    class_weights = (1.0, 9.0)


class WeightsBesideLosses(TwoLogits):
    class_weights = (1.0, 9.0)


class Thinned(Sound):
    class_rates = (0.1, 1.0)


class ThinnedBesideLosses(TwoLogits):
    class_rates = (0.1, 1.0)


class TooManyRates(Sound):
    class_rates = (0.1, 0.2, 1.0)


class NobodyWhole(Sound):
    class_rates = (0.1, 0.9)


class OneTwice(Sound):
    class_rates = (1.0, 2.0)


class NobodyOfOne(Sound):
    class_rates = (0.0, 1.0)


class RatesOfNumbers(Sound):
    outcome = Regression(low=0, high=1)
    class_rates = (0.1, 1.0)


class ManyClasses(Sound):
    outcome = "several"  # type: ignore[assignment]  # the slip


SLIPS: dict[type[Task], str] = {
    MeanLoss: "MeanLoss.losses gives () for 1",
    BroadcastLoss: "BroadcastLoss.losses gives (1, 1)",
    BatchWeightedLoss: "BatchWeightedLoss.losses makes a patient's loss of other",
    DetachedLoss: "DetachedLoss.losses gives losses without a gradient",
    LossOfLongs: "LossOfLongs.losses raises RuntimeError",
    ThreeOutputs: "ThreeOutputs.losses looks at 1 of 3 outputs",
    SigmoidTwice: "SigmoidTwice gives probabilities",
    OtherClass: "OtherClass.scores gives scores that fall",
    OtherInEvaluation: "OtherInEvaluation gives other outputs when it evaluates",
    Dictionary: "Dictionary gives dict for 6 patients",
    Wrapped: "Wrapped.model of task sound returns a object",
    Squeezed: "Squeezed gives (6,) for 6 patients",
    BatchNormalised: "has buffers",
    WithoutStatistics: "WithoutStatistics gives a patient another output",
    AllFrozen: "AllFrozen.model has nothing to train",
    OtherEachTime: "OtherEachTime.model builds another model each time",
    Standardised: "Standardised.features makes something else of a record",
    GapsAsNaN: "GapsAsNaN.features makes values that are no numbers",
    Doubles: "Doubles.features returns float64",
    RowsLost: "RowsLost.features makes (5, 5) of 6 records",
    BigScore: "BigScore.scores gives scores that are no numbers between 0 and 1",
    TooManyWeights: "TooManyWeights.class_weights has 3 numbers",
    EqualWeights: "EqualWeights.class_weights has 2 numbers, 1 of them different",
    NoWeight: "NoWeight.class_weights has a weight that is not above 0",
    WeightsOfNumbers: "WeightsOfNumbers.class_weights tells classes apart, of which",
    WeightsBesideLosses: "WeightsBesideLosses.class_weights weighs the usual loss",
    TooManyRates: "TooManyRates.class_rates has 3 numbers",
    NobodyWhole: "NobodyWhole.class_rates has a share",
    OneTwice: "OneTwice.class_rates has a share",
    NobodyOfOne: "NobodyOfOne.class_rates has a share",
    RatesOfNumbers: "RatesOfNumbers.class_rates tells classes apart",
    WrongSlopes: "WrongSlopes.slopes are not the slopes of its losses",
    SecondTemperature: "SecondTemperature.schema names the column temp twice",
    ManyClasses: "ManyClasses.outcome is 'several'",
}


@pytest.mark.parametrize(
    "task", [Sound, TwoLogits, Dropping, Pictures, Weighted, Thinned, ThinnedBesideLosses]
)
def test_a_sound_task_passes(task: type[Task]) -> None:
    contract.check(task())


@pytest.mark.parametrize("name", sorted(registry.installed()))
def test_every_shipped_task_keeps_its_contract(name: str) -> None:
    task = registry.load(name)
    if task.schema.label:
        contract.check(task)


@pytest.mark.parametrize("task", SLIPS, ids=lambda task: task.__name__)
def test_a_slip_is_named_with_its_method_and_a_remedy(task: type[Task]) -> None:
    with pytest.raises(WardroundError) as caught:
        contract.check(task())
    assert caught.value.code is Code.CONFIGURATION
    assert SLIPS[task] in caught.value.message
    assert caught.value.remedy


def test_what_a_tasks_own_code_raises_is_shown_where_it_stands() -> None:
    with pytest.raises(WardroundError) as caught:
        contract.check(LossOfLongs())
    assert "nll_loss" in caught.value.detail
    assert Path(__file__).name in caught.value.detail


def test_no_study_is_built_of_a_task_with_a_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every mode, and before a cohort is read."""
    config = compose.load(["privacy=none", "tracking=off"])
    tables = Sound().public_sites(None)
    declared = declared_patients(cohorts_of(Sound(), tables, split_plan(config)))
    with pytest.raises(WardroundError, match=r"ThreeOutputs\.losses"):
        build_study(config, ThreeOutputs(), declared)
    with pytest.raises(WardroundError, match=r"ThreeOutputs\.losses"):
        cohorts_of(ThreeOutputs(), {}, split_plan(config))
