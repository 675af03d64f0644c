"""The search for the patient who moves a sum too far: short, on honest code and on faults."""

from __future__ import annotations

import json

import pytest

from client.privacy_audit.neighbours import BEYOND
from client.training import clipping
from client.training.layer_gradients import sum_of_squares
from protocol.errors import WardroundError
from protocol.vectors import LARGEST_WEIGHT
from sensitivity import MODELS, Kind, Model, accounted, audited, figures, searched, summed
from support import audit_faults as faults
from tasks import registry

SMALL = ("breast_cancer", "heart_disease", "icu_timeseries summary")
KINDS: tuple[Kind, ...] = ("by site", "by patient", "histogram")


def named(name: str) -> Model:
    return next(model for model in MODELS if model.name == name)


def farthest(name: str, kind: Kind, largest: float, least: int) -> tuple[float, float]:
    """What the search finds, and what accounting says."""
    study = summed(audited(named(name)), kind)
    return searched(study, named(name), kind, largest, least=least)[0], accounted(study, kind)


def test_every_task_that_ships_is_searched() -> None:
    trainable = set()
    for name in registry.BUILT_IN:
        try:
            registry.load(name).model()
        except WardroundError:
            continue
        trainable.add(name)
    assert {model.task for model in MODELS} == trainable


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_no_patient_moves_a_sum_by_more_than_accounting_says(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(figures(named(name), 0.0))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["unit"] for line in lines] == ["clip norms", "clip norms", "counts"]
    assert all(line["value"] > 0.99 for line in lines), "the search finds the patient who counts"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_last_bit_that_depends_on_the_company_is_found(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults.last_bit_by_company(monkeypatch)
    found, most = farthest("breast_cancer", kind, BEYOND, 300)
    assert found > 1.5 * most


def test_a_norm_that_leaves_out_a_layer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipping, "sum_of_squares", lambda squares: sum_of_squares(squares[:1]))
    found, most = farthest("icu_timeseries tcn", "by site", LARGEST_WEIGHT, 15)
    assert found > 1.5 * most
