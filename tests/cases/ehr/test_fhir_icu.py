"""One patient in intensive care, out of a FHIR export: elapsed time, units, death and worst values.

Faults of this kind: local and UTC times are subtracted from each other; a stay that is still open
hides a known death; one way of saying "intensive care" counts out of several; a value without a
unit is taken as in the usual one, an unknown unit is dropped without a word; a sum runs over the
codings of one observation; no bounds of plausibility stand before "worst of the day".
"""

from __future__ import annotations

from pathlib import Path

from tests.cases.ehr.records import (
    LOINC,
    SNOMED,
    Resource,
    codings,
    encounter,
    icu_stay,
    observation,
    patient,
    read_fhir,
)

MORTALITY, TIMESERIES = "icu_mortality", "icu_timeseries"
_STAY = ("2020-01-10T19:00:00Z", "2020-01-14T10:00:00Z")
_ICU = ("2020-01-10T20:00:00Z", "2020-01-12T20:00:00Z")
_ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"


def usual(*observed: Resource) -> list[Resource]:
    return [*icu_stay(_STAY, _ICU), *observed]


def test_encounters_at_an_offset_and_observations_in_utc(tmp_path: Path) -> None:
    local = icu_stay(
        ("2020-01-10T19:00:00-05:00", "2020-01-14T10:00:00-05:00"),
        ("2020-01-10T20:00:00-05:00", "2020-01-12T20:00:00-05:00"),
    )
    seen = read_fhir(tmp_path, [*local, observation("p", "2020-01-11T01:30:00Z", 100)], TIMESERIES)
    assert seen.of("heart_rate_00", "heart_rate_05") == {
        "heart_rate_00": 100.0,
        "heart_rate_05": None,
    }


def test_summer_time_begins_in_the_stay(tmp_path: Path) -> None:
    """Both observations are of 01:30 UTC, and six and a half hours after admission (19:00 UTC)."""
    summer = icu_stay(
        ("2020-03-28T20:00:00+01:00", "2020-04-14T10:00:00+02:00"),
        ("2020-03-28T20:00:00+01:00", "2020-03-31T20:00:00+02:00"),
    )
    observed = [
        observation("p", "2020-03-29T02:30:00+01:00", 90),
        observation("p", "2020-03-29T03:30:00+02:00", 100),
    ]
    seen = read_fhir(tmp_path, [*summer, *observed], TIMESERIES)
    assert isinstance(seen.row, dict)
    assert seen.row["heart_rate_07"] is None
    assert seen.row["heart_rate_06"] is not None


def test_still_in_intensive_care_and_dead_already(tmp_path: Path) -> None:
    resources = icu_stay((_STAY[0], None), (_ICU[0], None), deceasedDateTime="2020-01-12T10:00:00Z")
    assert read_fhir(tmp_path, resources, MORTALITY).of("died") == {"died": 1.0}


def test_intensive_care_told_by_location_alone(tmp_path: Path) -> None:
    ward = {
        "location": {"reference": "Location/L"},
        "period": {"start": _ICU[0], "end": _ICU[1]},
    }
    location = {"resourceType": "Location", "id": "L", "type": [codings((_ROLE, "ICU"))]}
    resources = [patient("p"), encounter("h", "p", *_STAY, location=[ward]), location]
    seen = read_fhir(tmp_path, resources, MORTALITY)
    assert isinstance(seen.row, dict) or seen.notes


def test_glucose_in_moles_is_converted(tmp_path: Path) -> None:
    glucose = observation("p", "2020-01-10T21:00:00Z", 10, "14749-6", "mmol/L")
    assert read_fhir(tmp_path, usual(glucose), MORTALITY).of("glucose") == {"glucose": 180.156}


def test_glucose_in_moles_without_a_unit(tmp_path: Path) -> None:
    glucose = observation("p", "2020-01-10T21:00:00Z", 10, "14749-6", valueQuantity={"value": 10})
    seen = read_fhir(tmp_path, usual(glucose), MORTALITY)
    assert seen.of("glucose") in ({"glucose": None}, {"glucose": 180.156})


def test_a_unit_in_words_is_read_or_noted(tmp_path: Path) -> None:
    warm = {"value": 39, "unit": "degrees C"}
    temperature = observation("p", "2020-01-10T21:00:00Z", 39, "8310-5", valueQuantity=warm)
    seen = read_fhir(tmp_path, usual(temperature), TIMESERIES)
    assert seen.notes or seen.of("temperature_01") == {"temperature_01": 39.0}


def test_an_observation_with_three_codings_is_summed_once(tmp_path: Path) -> None:
    code = codings((LOINC, "9187-6"), (LOINC, "9188-4"), (SNOMED, "364202003"))
    urine = observation("p", "2020-01-10T21:00:00Z", 500, "9187-6", "mL") | {"code": code}
    seen = read_fhir(tmp_path, usual(urine), MORTALITY)
    assert seen.of("urine_output") == {"urine_output": 500.0}


def test_an_impossible_heart_rate_is_not_the_worst(tmp_path: Path) -> None:
    rates = [
        observation("p", "2020-01-10T21:00:00Z", 999),
        observation("p", "2020-01-10T21:10:00Z", 90),
    ]
    seen = read_fhir(tmp_path, usual(*rates), MORTALITY)
    assert seen.of("heart_rate") == {"heart_rate": 90.0}


def test_effective_instant_is_a_time(tmp_path: Path) -> None:
    rate = observation("p", "", 77, effectiveInstant="2020-01-10T20:10:00.000Z")
    del rate["effectiveDateTime"]
    seen = read_fhir(tmp_path, usual(rate), TIMESERIES)
    assert seen.of("heart_rate_00") == {"heart_rate_00": 77.0}
