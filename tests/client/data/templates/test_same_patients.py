"""The same patients give the same cohorts and outcomes, from any source, however it tells time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.data import (
    same_appointments,
    same_patients,
    same_wards,
    ward_landmarks,
    ward_records,
)
from tests.client.data.same_patients import ROUTES, STYLES, Route, Style


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_the_answers(
    tmp_path: Path, route: Route, style: Style, seed: int
) -> None:
    patients = same_patients.draw(seed, 70)
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


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_the_landmarks(tmp_path: Path, route: Route, style: Style) -> None:
    ward = same_wards.draw(same_patients.draw(0, 40), 0)
    wanted = ward_landmarks.landmarks(ward, style)
    assert set(wanted["deteriorated"].dropna()) == {0.0, 1.0}
    assert wanted["deteriorated"].hasnans
    assert {"opioid", "other"} <= set(wanted["medicine_1"].dropna())
    sources = ward_records.sources(tmp_path / route, ward, route, style)
    differing = ward_landmarks.differing(ward_records.found(sources, route), wanted)
    assert differing.empty, differing.to_string()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_the_appointments(tmp_path: Path, route: Route, style: Style) -> None:
    patients = same_patients.draw(0, 40)
    appointments = same_appointments.draw(patients, 0)
    assert {one.fate for one in appointments} == {"kept", "missed", "cancelled", "booked"}
    found = same_appointments.found(tmp_path / route, patients, appointments, route, style)
    assert found == same_appointments.expected(patients, appointments, route, style)
