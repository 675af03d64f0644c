"""Units as laboratory and bedside systems spell them; MIMIC-IV, eICU and public issue threads."""

from __future__ import annotations

import re

import pytest

from client.data.sources import units
from client.data.sources.session import Session
from tasks import registry


@pytest.mark.parametrize(
    ("analyte", "wanted", "factor", "spellings"),
    [
        ("heart_rate", "/min", 1.0, "beats/minute|Beats per minute|/ min|{beats}/min|PER MINUTE"),
        ("respiratory_rate", "/min", 1.0, "insp/min|breaths per minute|Resp/min|breath/mn"),
        ("systolic_bp", "mm[Hg]", 1.0, "mmHg|mm Hg|MM/HG|mm hg|millimeters of mercury"),
        ("wbc", "10*3/uL", 1.0, "x10^9/L|10E9/L|10 9/L|10**3/µL|K/mcL|thousand/uL|10^3/mm3"),
        ("wbc", "10*3/uL", 1.0, "x 10(9)/L|10*3/cumm|Thou/uL|th/uL|10exp9/L|10*3/mm^3"),
        (
            "wbc",
            "10*3/uL",
            1.0,
            "10\u2079/L|\u00d710\u2079/L|10\u00b3/µL|10*9.L-1|G/l|Gpt/l|Giga/L|1e9/L",
        ),
        ("wbc", "10*3/uL", 1.0, "x10^3 cells/uL|10*3.{cells}/uL|10x3/uL|1000/uL|x1000/uL|Tsd./µl"),
        ("wbc", "10*3/uL", 1.0, "THOUS/MCL|Thous/uL|K/microL|10E3/microL|/nl|10*3/MCL"),
        ("wbc", "10*3/uL", 1e-3, "/µl|cells/mcL|#/uL|/cumm|{cells}/uL|/cu mm"),
        ("platelets", "10*3/uL", 10.0, "x10^4/µl|10*4/uL"),
        ("erythrocytes", "10*3/uL", 1e3, "Mio/µl|Tpt/l|10\u00b9\u00b2/L|Tera/L"),
        ("heart_rate", "/min", 1.0, "min-1|bts/min|Schläge/min|battements/min|rpm|/min."),
        ("respiratory_rate", "/min", 1.0, "Atemzüge/min|br/min|min^-1"),
        ("systolic_bp", "mm[Hg]", 1.0, "mm(Hg)|mm_hg|mm Hg."),
        ("hemoglobin", "g/dL", 1.0, "gm/dL|gms/dL|grams/dL|gm%|gram per deciliter|g dL-1"),
        ("creatinine", "mg/dL", 0.011312, "micromol/L|micromoles per liter|umol/lt"),
        ("glucose", "mg/dL", 1.0, "mgs/dL|mg/dl (calc)|milligrams/deciliter|mg/dL."),
        ("spo2", "%", 1.0, "% O2|%O2|% sat|pct"),
        ("weight", "kg", 1.0, "kgs|kilograms|kg."),
        ("erythrocytes", "10*3/uL", 1e3, "10*12/L|10^6/uL|mill/uL|Million/uL|10E6/mm3"),
        ("glucose", "mg/dL", 1.0, "mg/dl|MG/DL|mg per dL|mg / dL|mg/100mL|mg/deciliter"),
        ("glucose", "mg/dL", 18.0156, "mmol/l|mmol/liter|MMOL / L|mmol per litre"),
        ("creatinine", "mg/dL", 0.011312, "umol/L|µmol/l|μmol/L|mcmol/L|umol/litre"),
        ("crp", "mg/L", 1.0, "mcg/mL|µg/ml|ug/milliliter|mg/Ltr"),
    ],
)
def test_one_unit_has_many_spellings(
    analyte: str, wanted: str, factor: float, spellings: str
) -> None:
    with Session(200 << 20, 1) as session:
        units.register(session)
        for unit in spellings.split("|"):
            query = "SELECT in_unit(10, ?, ?, ?)"
            [(value,)] = session.connection.execute(query, [unit, wanted, analyte]).fetchall()
            assert value == pytest.approx(10 * factor, rel=1e-4), unit


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("Deg. F", 98.6),
        ("degrees C", 37),
        ("° F", 98.6),
        ("degree Celsius", 37),
        ("\u2109", 98.6),
        ("\u2103", 37),
        ("\u00ba C", 37),
        ("Grad Celsius", 37),
        ("C°", 37),
    ],
)
def test_degrees_are_read_in_words(unit: str, value: float) -> None:
    with Session(200 << 20, 1) as session:
        units.register(session)
        query = "SELECT in_unit(?, ?, 'Cel', 'temperature')"
        [(seen,)] = session.connection.execute(query, [value, unit]).fetchall()
        assert seen == pytest.approx(37.0)


@pytest.mark.parametrize("unit", ["furlongs", "mg/dL/min", "10*3", "per", "/", "mol", "mmol/kg"])
def test_a_unit_of_something_else_is_a_missing_value(unit: str) -> None:
    with Session(200 << 20, 1) as session:
        units.register(session)
        for analyte in ("glucose", "heart_rate", "wbc", "temperature"):
            wanted = next(iter(units.table()[analyte]))
            query = "SELECT in_unit(10, ?, ?, ?)"
            [(value,)] = session.connection.execute(query, [unit, wanted, analyte]).fetchall()
            assert value is None


@pytest.mark.slow
def test_sql_and_python_spell_alike() -> None:
    """The table's keys are made by Python's regular expressions, texts are looked up by RE2's."""
    with Session(200 << 20, 1) as session:
        units.register(session)
        for scale in units.table().values():
            for unit in scale:
                query = "SELECT unit_spelling(?)"
                [(spelling,)] = session.connection.execute(query, [unit]).fetchall()
                assert spelling == units.spelled(unit)


GLUCOSE_MOLES = "Glucose [Moles/volume] in Serum or Plasma"
UREA_MASS = "Urea nitrogen [Mass/volume] in Serum or Plasma"


@pytest.mark.parametrize(
    ("value", "analyte", "wanted", "display", "assumed"),
    [
        (37.0, "temperature", "Cel", None, True),
        (98.6, "temperature", "Cel", None, False),
        (100, "glucose", "mg/dL", None, True),
        (10, "glucose", "mg/dL", None, False),  # 10 mmol/L is as usual
        (10, "glucose", "mg/dL", "Glucose [Mass/volume] in Blood", True),
        (1.2, "glucose", "mg/dL", "Glucose [Mass/volume] in Blood", False),  # g/L
        (100, "glucose", "mg/dL", GLUCOSE_MOLES, False),
        (20, "bun", "mg/dL", UREA_MASS, True),
        (140, "sodium", "mmol/L", None, True),
        (0.4, "hematocrit", "%", None, False),
        (0.4, "fio2", "%", None, False),
        (7.4, "ph", "[pH]", None, True),
        (8000, "wbc", "10*3/uL", None, False),
    ],
)
def test_a_missing_unit_is_assumed_only_where_it_can_be_no_other(
    value: float, analyte: str, wanted: str, display: str | None, assumed: bool
) -> None:
    with Session(200 << 20, 1) as session:
        units.register(session)
        for unit in (None, "", " "):
            query = "SELECT unit_or(?, ?, ?, ?, ?)"
            [(seen,)] = session.connection.execute(
                query, [unit, wanted, value, analyte, display]
            ).fetchall()
            assert seen == (wanted if assumed else None)
        stated = session.connection.execute(query, ["x", wanted, value, analyte, display])
        assert stated.fetchall() == [("x",)]


@pytest.mark.parametrize(
    ("value", "analyte", "can_be"),
    [
        (999, "heart_rate", False),
        (90, "heart_rate", True),
        (-1, "creatinine", False),
        (0, "temperature", False),
        (9999, "anything", True),
        (None, "heart_rate", False),
    ],
)
def test_plausible(value: float | None, analyte: str, can_be: bool) -> None:
    with Session(200 << 20, 1) as session:
        units.register(session)
        query = "SELECT plausible(CAST(? AS DOUBLE), ?)"
        assert session.connection.execute(query, [value, analyte]).fetchall() == [(can_be,)]


def test_plausible_values_hold_the_ranges_of_the_tasks_that_ship() -> None:
    """In the task's own unit. A day's urine is more than one measurement of it."""
    with Session(200 << 20, 1) as session:
        units.register(session)
        for task in ("icu_mortality", "icu_timeseries", "fusion", "readmission", "deterioration"):
            for column in registry.load(task).schema.columns:
                name = re.sub(r"_[0-9]{2}$", "", column.name)
                if column.kind != "number" or name == "urine_output":
                    continue
                query = "SELECT plausible(?, ?), plausible(?, ?)"
                seen = session.connection.execute(query, [column.low, name, column.high, name])
                assert seen.fetchall() == [(True, True)], (task, name)
