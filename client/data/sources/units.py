"""Laboratory values and vital signs in the unit that a task wants, whatever they came in.

Units are written in UCUM (ucum.org, version 2.1); what hospital systems write instead
(beats/minute, Deg. F, x10^9/L) is brought to one spelling, in any case and with UCUM's annotations
in braces left aside. Molar masses are in g/mol. A unit that is not known for the analyte gives
NULL: a missing value, never a wrong one. `tables/plausible_values.csv` says between which values an
analyte can be true (CLIF: the Common Longitudinal ICU data Format's outlier configuration, clifpy
2.1.0; ricu: Bennett et al. 2023), which are usual, and which other units are in use for it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from client.data.sources.session import Session, literal

Scale = Mapping[str, tuple[float, float]]
"""Unit -> (factor, offset): a value in the analyte's first unit is value * factor + offset."""


_MASS_CONCENTRATION = {
    "g/L": 1.0, "g/dL": 10.0, "mg/dL": 0.01, "mg/L": 1e-3, "ug/L": 1e-6, "ug/dL": 1e-5,
    "ug/mL": 1e-3, "ng/mL": 1e-6, "ng/dL": 1e-8, "ng/L": 1e-9, "pg/mL": 1e-9, "mg/mL": 1.0,
    "g/mL": 1e3, "g%": 10.0, "mg%": 0.01, "gm/dL": 10.0, "mcg/dL": 1e-5, "mcg/L": 1e-6,
    "mcg/mL": 1e-3, "g/100mL": 10.0, "mg/100mL": 0.01, "µg/L": 1e-6, "μg/L": 1e-6,
    "µg/dL": 1e-5, "µg/mL": 1e-3,
}  # fmt: skip
_MOLAR_CONCENTRATION = {
    "mol/L": 1.0, "mmol/L": 1e-3, "umol/L": 1e-6, "nmol/L": 1e-9, "pmol/L": 1e-12,
    "mmol/dL": 1e-2, "µmol/L": 1e-6, "μmol/L": 1e-6, "mcmol/L": 1e-6, "mM": 1e-3, "uM": 1e-6,
    "mmol/mL": 1.0,
}  # fmt: skip
_EQUIVALENTS = {"eq/L": 1.0, "meq/L": 1e-3, "mval/L": 1e-3}
_PRESSURE = {
    "mm[Hg]": 1.0, "kPa": 7.500617, "Pa": 7.500617e-3, "hPa": 0.7500617, "mbar": 0.7500617,
    "cm[H2O]": 0.7355592, "mmHg": 1.0, "mm Hg": 1.0, "torr": 1.0, "cmH2O": 0.7355592,
}  # fmt: skip
_FRACTION = {"%": 1.0, "1": 100.0, "L/L": 100.0, "percent": 1.0, "ratio": 100.0,
             "pct": 1.0, "fraction": 100.0}  # fmt: skip
_CELLS = {
    "10*3/uL": 1.0, "10*9/L": 1.0, "/uL": 1e-3, "/mm3": 1e-3, "10*6/L": 1e-3, "10*6/uL": 1e3,
    "10*12/L": 1e3, "/nL": 1.0, "/pL": 1e3, "/L": 1e-9, "G/L": 1.0, "T/L": 1e3, "K/uL": 1.0,
    "K/mcL": 1.0, "M/uL": 1e3, "10^3/uL": 1.0, "10^9/L": 1.0, "10^6/uL": 1e3, "10^12/L": 1e3,
    "x10^9/L": 1.0, "x10(9)/L": 1.0, "10e9/L": 1.0, "10e3/uL": 1.0, "10*3/mm3": 1.0,
    "thou/uL": 1.0, "cells/uL": 1e-3, "10*3/mL": 1e-3, "thousand/uL": 1.0, "K/mm3": 1.0,
    "10*2/uL": 0.1, "10*4/uL": 10.0,
}  # fmt: skip
_ENZYME = {
    "U/L": 1.0, "[IU]/L": 1.0, "IU/L": 1.0, "units/L": 1.0, "m[IU]/mL": 1.0, "mU/mL": 1.0,
    "U/mL": 1e3, "ukat/L": 60.0, "nkat/L": 0.06, "µkat/L": 60.0,
}  # fmt: skip
_RATE = {"/min": 1.0, "/s": 60.0, "Hz": 60.0, "/h": 1 / 60, "bpm": 1.0, "beats/min": 1.0,
         "breaths/min": 1.0, "1/min": 1.0, "insp/min": 1.0, "brpm": 1.0, "rpm": 1.0}  # fmt: skip
_LENGTH = {
    "cm": 1.0, "m": 100.0, "mm": 0.1, "[in_i]": 2.54, "[in_us]": 2.5400051, "[ft_i]": 30.48,
    "in": 2.54, "inch": 2.54, "inches": 2.54, "ft": 30.48,
}  # fmt: skip
_WEIGHT = {
    "kg": 1.0, "g": 1e-3, "mg": 1e-6, "[lb_av]": 0.45359237, "[oz_av]": 0.028349523125,
    "lb": 0.45359237, "lbs": 0.45359237, "pounds": 0.45359237, "oz": 0.028349523125,
}  # fmt: skip
_VOLUME = {"mL": 1.0, "L": 1e3, "dL": 100.0, "cL": 10.0, "uL": 1e-3, "cc": 1.0, "cm3": 1.0}
_TIME = {
    "h": 1.0, "min": 1 / 60, "s": 1 / 3600, "d": 24.0, "wk": 168.0, "a": 8766.0, "mo": 730.5,
    "hr": 1.0, "hours": 1.0, "minutes": 1 / 60, "days": 24.0, "weeks": 168.0, "years": 8766.0,
    "year": 8766.0, "yr": 8766.0, "yrs": 8766.0,
}  # fmt: skip
_PH = {"[pH]": 1.0, "1": 1.0, "pH": 1.0, "": 1.0}
_INR = {"{INR}": 1.0, "1": 1.0, "INR": 1.0, "ratio": 1.0, "": 1.0}
_SCORE = {"{score}": 1.0, "1": 1.0, "": 1.0, "points": 1.0, "{points}": 1.0}
_TEMPERATURE: Scale = {
    "Cel": (1.0, 0.0),
    "[degF]": (5 / 9, -160 / 9),
    "K": (1.0, -273.15),
    **dict.fromkeys(("C", "degC", "deg C", "°C", "C°", "Celsius", "celcius"), (1.0, 0.0)),
    **dict.fromkeys(("F", "degF", "deg F", "°F", "F°", "Fahrenheit"), (5 / 9, -160 / 9)),
}
_A1C: Scale = {
    # Hoelzel et al. 2004 (Clin Chem 50:166): NGSP = 0.09148 IFCC + 2.152
    "%": (1.0, 0.0),
    "mmol/mol": (0.09148, 2.152),
    "%{HemoglobinA1C}": (1.0, 0.0),
}
_MOLAR_MASSES = {
    "glucose": 180.156, "creatinine": 113.12, "urea": 60.056, "bilirubin": 584.66,
    "bun urea_nitrogen": 28.014,  # mass is of the nitrogen in urea, two atoms; moles are of urea
    "sodium": 22.990, "potassium": 39.098, "chloride": 35.453, "bicarbonate total_co2": 61.017,
    "calcium": 40.078, "magnesium": 24.305, "phosphate phosphorus": 30.974,
    "hemoglobin haemoglobin": 16_114.5,  # moles are of the monomer, one haem (ICSH 1978)
    "lactate": 90.08, "albumin": 66_438.0, "cholesterol hdl ldl": 386.65, "triglycerides": 885.4,
    "urate uric_acid": 168.11, "ammonia": 17.031, "iron": 55.845,
}  # fmt: skip
"""Names of a substance -> g/mol."""
_CHARGES = {"calcium": 2, "magnesium": 2}
"""Equivalents a mole, where it is not one."""
_FACTORS = {
    "protein crp procalcitonin d_dimer troponin fibrinogen": _MASS_CONCENTRATION,
    "pressure blood_pressure systolic_bp diastolic_bp mean_bp pao2 paco2": _PRESSURE,
    "fraction spo2 sao2 fio2 hematocrit haematocrit": _FRACTION,
    "cells wbc leukocytes platelets erythrocytes": _CELLS,
    "enzyme alt ast alp ggt ldh ck lipase": _ENZYME,
    "rate heart_rate respiratory_rate": _RATE,
    "length height": _LENGTH,
    "mass weight": _WEIGHT,
    "volume urine_output": _VOLUME,
    "time age": _TIME,
    "ph": _PH,
    "inr": _INR,
    "score gcs gcs_eyes gcs_motor gcs_verbal gcs_total": _SCORE,
}
"""Names of what is measured -> unit -> factor."""


def _scales() -> Mapping[str, Scale]:
    """Names -> units. Of a substance: masses, moles and equivalents a volume, in terms of g/L."""
    factors: dict[str, Mapping[str, float]] = dict(_FACTORS)
    for names, mass in _MOLAR_MASSES.items():
        molar = {unit: factor * mass for unit, factor in _MOLAR_CONCENTRATION.items()}
        equivalent = mass / _CHARGES.get(names, 1)
        factors[names] = (
            _MASS_CONCENTRATION
            | molar
            | {unit: factor * equivalent for unit, factor in _EQUIVALENTS.items()}
        )
    linear = {
        names: {unit: (factor, 0.0) for unit, factor in units.items()}
        for names, units in factors.items()
    }
    return linear | {"hba1c": _A1C, "temperature": _TEMPERATURE}


_PLAUSIBLE = Path(__file__).parent / "tables" / "plausible_values.csv"
_SPELLINGS = (
    (r"\{[^}]*\}|\(calc(?:ulated)?\)|\bcells?\b", ""),
    (r"[µμ]", "u"),
    ("\u00d7", "x"),
    (r"[º˚]", "°"),
    (r"℃", "°c"),
    (r"℉", "°f"),
    (r"⁻¹", "-1"),
    (r"10³", "10*3"),
    (r"10⁴", "10*4"),
    (r"10⁶", "10*6"),
    (r"10⁹", "10*9"),
    (r"10¹²", "10*12"),
    (r"[. ]*\b(min|[umd]?l)\^?-1$", r"/\1"),
    (r"\bmc(g|mol|l)\b", r"u\1"),
    (r"\b(?:deg(?:ree)?s?|grad)[. ]*([cf])[a-z]*", r"deg\1"),
    (r"\bmm ?[/_]? ?\(?hg\b\)?|\bmillimet(?:er|re)s? (?:of )?(?:hg|mercury)\b", "mmhg"),
    (r"(?:^|\s+)per\s+", "/"),
    (r"\.$", ""),
    (r"\s*[.]?/\s*", "/"),
    (r"\bmin(?:ute)?s?\b|\bmn\b", "min"),
    (r"\bh(?:ou)?rs?\b", "h"),
    (r"\bsec(?:ond)?s?\b", "s"),
    (
        r"\bmicro ?l(?:it(?:er|re)s?)?\b|\bcu(?:bic)? ?mm\b|\bcmm\b|\bmm(?:\^|\*)?3\b|mm³",
        "ul",
    ),
    (r"\bdeci ?lit(?:er|re)s?\b", "dl"),
    (r"\bmilli ?lit(?:er|re)s?\b", "ml"),
    (r"\blit(?:er|re)s?\b|\blt?r?s?\b", "l"),
    (r"\bmicromol(?:es?)?\b", "umol"),
    (r"\bmillimol(?:es?)?\b", "mmol"),
    (r"\bmicrograms?\b", "ug"),
    (r"\bmilligrams?\b|\bmgs\b", "mg"),
    (r"\bkilograms?\b|\bkgs\b", "kg"),
    (r"\bgrams?\b|\bgms?\b", "g"),
    (r"^(?:x ?)?1000/", "10*3/"),
    (r"^(?:x ?)?10 ?(?:\*\*|\*|\^|x|exp|e\+?0?|\()? ?([0-9]{1,2})\)?/", r"10*\1/"),
    (r"^1e\+?0?([0-9]{1,2})/", r"10*\1/"),
    (r"^(?:k|th|thous?|thousands?|tsd)/", "10*3/"),
    (r"^(?:mill|mio|millions?)/", "10*6/"),
    (r"^(?:giga|gpt)/", "10*9/"),
    (r"^(?:tera|tpt)/", "10*12/"),
    (r"^(?:beats?|bts|breaths?|br|resp|respirations?|insp|pulses?|#)/", "/"),
    (r"^(?:battements?|batt?|schläge|atemzüge|slag)/", "/"),
    (r"^% ?(?:o2|sat.*)$", "%"),
    (r"\s+", ""),
)
"""What is replaced in a unit in lower case, one after another, to spell it in one way (RE2)."""


def spelled(unit: str) -> str:
    """The unit in the spelling in which `in_unit` compares those that it does not know as given."""
    spelling = unit.lower()
    for pattern, replacement in _SPELLINGS:
        spelling = re.sub(pattern, replacement, spelling)
    return spelling


@cache
def table() -> Mapping[str, Scale]:
    """Analyte's name -> unit in lower case -> (factor, offset)."""
    units = {}
    for names, scale in _scales().items():
        lower: dict[str, tuple[float, float]] = {}
        for unit, conversion in scale.items():
            for spelling in (unit.lower(), spelled(unit)):
                if lower.setdefault(spelling, conversion) != conversion:
                    raise ValueError(f"{names}: {unit} has two meanings")
        units.update(dict.fromkeys(names.split(), lower))
    return units


def register(session: Session) -> None:
    """Makes the function `in_unit(value, unit, wanted, analyte)`: the value, a DOUBLE, in the
    wanted unit; NULL where a unit is not known for the analyte.

    `unit_or(unit, wanted, value, analyte, display)`: the unit, and where there is none (NULL or
    blank) the wanted one, but NULL where the value can be in another: by the code's name `display`,
    or since the value is a usual one in another unit that laboratories report. `plausible(value,
    analyte)`: whether the value, in the unit of `tables/plausible_values.csv`, can be true.

    """
    connection = session.connection
    spelling = "lower(unit)"
    for pattern, replacement in _SPELLINGS:
        spelling = f"regexp_replace({spelling}, {literal(pattern)}, {literal(replacement)}, 'g')"
    connection.execute(f"CREATE MACRO unit_spelling(unit) AS {spelling}")
    rows = [
        (name, unit, *conversion)
        for name, scale in table().items()
        for unit, conversion in scale.items()
    ]
    session.check_name("unit_scale")
    connection.execute(
        "CREATE TABLE unit_scale AS SELECT unnest(?) AS measured, unnest(?) AS spelled,"
        " unnest(?)::DOUBLE AS factor, unnest(?)::DOUBLE AS shift",
        [list(column) for column in zip(*rows, strict=True)],
    )
    for name, result in (
        ("unit_factor", "s.factor / w.factor"),
        ("unit_shift", "(s.shift - w.shift) / w.factor"),
    ):
        connection.execute(  # a subquery runs once for each unit that there is
            f"CREATE MACRO {name}(unit, wanted, analyte) AS (SELECT first({result})"
            " FROM unit_scale s JOIN unit_scale w USING (measured) WHERE measured = analyte"
            " AND s.spelled = unit_spelling(unit) AND w.spelled = lower(wanted))"
        )
    connection.execute(
        "CREATE MACRO in_unit(value, unit, wanted, analyte) AS CAST(value AS DOUBLE)"
        " * unit_factor(unit, wanted, analyte) + unit_shift(unit, wanted, analyte)"
    )
    with _PLAUSIBLE.open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    for end in ("low", "high"):
        limits = {row["analyte"]: row[end] for row in known}
        connection.execute(f"CREATE MACRO plausible_{end}(analyte) AS {_by_analyte(limits)}")
    connection.execute(
        "CREATE MACRO plausible(value, analyte) AS coalesce("
        "value BETWEEN plausible_low(analyte) AND plausible_high(analyte), value IS NOT NULL)"
    )
    doubts = {row["analyte"]: _doubt(row) for row in known if row["also_reported_in"]}
    connection.execute(
        "CREATE MACRO unit_or(unit, wanted, value, analyte, display) AS CASE"
        " WHEN trim(unit) <> '' THEN unit"
        f" WHEN NOT coalesce({_by_analyte(doubts)}, false) THEN wanted END"
    )


def _by_analyte(values: Mapping[str, str]) -> str:
    branches = (f"WHEN {literal(name)} THEN {value}" for name, value in values.items())
    return f"CASE analyte {' '.join(branches)} END"


def _doubt(row: Mapping[str, str]) -> str:
    """SQL: whether a value without a unit can be in another unit than the wanted: its code says so
    (the property in LOINC's name is moles or mass), or it is a usual value in that other unit."""
    scale = table()[row["analyte"]]
    factor, offset = scale[row["unit"].lower()]
    molar = ", ".join(literal(unit.lower()) for unit in _MOLAR_CONCENTRATION)
    cases = [
        f"(contains(display, '[Moles/') AND lower(wanted) NOT IN ({molar}))",
        f"(contains(display, '[Mass/') AND lower(wanted) IN ({molar}))",
    ]
    for unit in (row["unit"], *row["also_reported_in"].split()):
        other_factor, other_offset = scale[unit.lower()]
        low, high = (
            (float(row[end]) * factor + offset - other_offset) / other_factor
            for end in ("usual_low", "usual_high")
        )
        other = "[Mass/" if unit in _MOLAR_CONCENTRATION else "[Moles/"
        cases.append(
            f"(lower(wanted) <> {literal(unit.lower())} AND value BETWEEN {low!r} AND {high!r}"
            f" AND NOT coalesce(contains(display, '{other}'), false))"
        )
    return f"({' OR '.join(f'coalesce({case}, false)' for case in cases)})"
