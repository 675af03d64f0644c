"""The same patients give the same cohort and outcomes, from any source, however it tells time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.data import same_patients
from tests.client.data.same_patients import ROUTES, STYLES, Route, Style


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_the_answers(
    tmp_path: Path, route: Route, style: Style, seed: int
) -> None:
    patients = same_patients.draw(seed, 60)
    wanted = same_patients.answers(patients)
    assert {outcome for *_, outcome in wanted.cohort.values()} == {0.0, 1.0, None}
    assert {died for *_, died in wanted.intensive.values()} == {True, False, None}
    assert set(wanted.deaths.values()) == {True, False, None}
    found = same_patients.found(
        same_patients.sources(tmp_path / route, patients, route, style), route
    )
    assert found.deaths == wanted.deaths
    assert found.cohort == wanted.cohort
    assert found.intensive == wanted.intensive
