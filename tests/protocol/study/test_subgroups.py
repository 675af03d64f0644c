"""Partitions: public levels, one for each patient, and none that singles a hospital out."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.study.subgroups import (
    Bands,
    Categories,
    HospitalClass,
    Hospitals,
    check_participants,
    in_words,
)
from tests.protocol.study_document import document, study

AGE = {"kind": "bands", "column": "age", "cuts": [40.0, 65.0]}
SEX = {"kind": "categories", "column": "sex", "values": ["f", "m"]}
SITES = ("a", "b", "c", "d", "e", "f")


def vendor(*classes: tuple[str, str]) -> dict[str, Any]:
    listed = [{"level": level, "sites": list(sites)} for level, sites in classes]
    return {"kind": "hospitals", "attribute": "vendor", "classes": listed}


def of_six(*subgroups: dict[str, Any], **changes: Any) -> dict[str, Any]:
    roster = [{"name": name, "patients": 100} for name in SITES]
    return document(roster=roster, evaluation__subgroups=list(subgroups), **changes)


def test_every_patient_has_a_level_of_each_partition() -> None:
    assert Categories(column="sex", values=("f", "m")).levels == ("f", "m", "missing")
    ages = Bands(column="age", cuts=(40.0, 65.0))
    assert ages.levels == ("below 40", "40 to below 65", "65 or more", "missing")
    evaluation = study(evaluation__subgroups=[AGE, SEX]).evaluation
    assert (evaluation.releases, evaluation.histograms) == (3, 1 + 4 + 3)


def test_a_study_without_subgroups_is_written_as_before() -> None:
    assert b"subgroups" not in study().document
    assert b"least_count" not in study().document


@pytest.mark.parametrize(
    ("subgroups", "says"),
    [
        ([AGE | {"cuts": [65.0, 40.0]}], "must rise"),
        ([AGE | {"cuts": []}], "at least 1 item"),
        ([SEX | {"values": ["f", "f"]}], "levels that differ"),
        ([SEX | {"values": ["f", "missing"]}], "none of them 'missing'"),
        ([AGE, AGE | {"cuts": [50.0]}], "of its own"),
        ([AGE | {"column": f"c{n}"} for n in range(9)], "at most 8 items"),
        ([vendor(("x", "abc"), ("y", "de"))], "must name each site"),
        ([vendor(("x", "abcd"), ("y", "ef"))], "a class of fewer than least_sites = 3"),
        ([vendor(("x", "abc"), ("y", "cdef"))], "in two classes"),
        ([vendor(("x", "abc"), ("x", "def"))], "levels that differ"),
    ],
)
def test_what_makes_no_partition_is_refused_with_the_reason(
    subgroups: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        Study.parse(canonical(of_six(*subgroups)))
    assert caught.value.code is Code.REFUSED_STUDY


def test_without_evaluation_there_is_nothing_to_tell_apart() -> None:
    with pytest.raises(ValueError, match="subgroups is empty when release is off"):
        study(evaluation={"release": "off", "subgroups": [SEX]})


def test_a_sum_by_class_of_hospital_takes_enough_of_each() -> None:
    six = Study.model_validate(of_six(vendor(("x", "abc"), ("y", "def"))))
    assert six.whole_roster
    partitions = six.evaluation.subgroups
    check_participants(partitions, SITES, 3)
    with pytest.raises(WardroundError, match="Fewer than 3 hospitals of a class of vendor"):
        check_participants(partitions, SITES[:5], 3)
    assert not Study.model_validate(of_six(AGE)).whole_roster


def test_words_say_by_what() -> None:
    assert in_words(Bands(column="age", cuts=(40.0,))) == "age (below 40, 40 or more, missing)"
    classes = (HospitalClass(level="x", sites=("a", "b", "c")),)
    said = in_words(Hospitals(attribute="vendor", classes=classes))
    assert said == "vendor of the hospital (x: 3 sites)"
