"""One site more or less than planned is named before anything is computed."""

from __future__ import annotations

import pytest

from launch.config import compose
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.federations.planned_sites import require_planned
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from server.rounds.listener import Listeners
from tasks.shipped.breast_cancer import BreastCancer

TASK = BreastCancer()
PLANNED = [f"site{number:03}" for number in range(200)]


def test_201_sites_where_200_are_planned_are_named_with_the_remedy() -> None:
    require_planned(PLANNED, set(PLANNED))
    with pytest.raises(WardroundError) as more:
        require_planned(PLANNED, [*PLANNED, "new"])
    assert "200 sites are planned, 201 are here (new not planned)." in more.value.message
    assert "federation.sites" in more.value.remedy
    with pytest.raises(WardroundError) as fewer:
        require_planned(PLANNED, PLANNED[5:])
    assert "195 are here (site000, site001, site002, ... missing)." in fewer.value.message


@pytest.mark.parametrize("count", [3, 5])
def test_a_simulation_starts_on_the_sites_of_its_study_alone(count: int) -> None:
    config = compose.load(["privacy=none", "evaluation=off", "rounds=1", "tracking=off"])
    cohorts = cohorts_of(TASK, TASK.public_sites(None), split_plan(config))
    study = build_study(config, TASK, declared_patients(cohorts))
    here = dict(list(cohorts.items())[:count]) | ({"zz": cohorts["east"]} if count > 4 else {})
    with pytest.raises(WardroundError) as refused:
        InProcessFederation(here).run(study, TASK, Listeners())
    assert refused.value.code is Code.USAGE
    assert f"4 sites are planned, {count} are here" in refused.value.message
