"""The study: one canonical form, one identity, nothing unknown and nothing contradictory in it."""

from __future__ import annotations

import hashlib
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.privacy.releases import evaluation_event, max_evaluations
from protocol.release import Sender
from protocol.study.study import Study
from tests.protocol.study_document import document, study

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_json)
def test_canonical_json_is_json_and_is_its_own_canonical_form(value: Any) -> None:
    data = canonical(value)
    assert json.loads(data) == value
    assert canonical(json.loads(data)) == data


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [float("-inf")], {"a": float("nan")}]
)
def test_canonical_json_refuses_what_json_cannot_say(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(value)


def test_a_study_survives_its_own_document_and_keeps_its_identity() -> None:
    written = study()
    read = Study.parse(written.document)
    assert read == written
    assert read.digest == written.digest == hashlib.sha256(written.document).hexdigest()


@given(st.data())
def test_a_study_that_differs_by_one_byte_is_refused_or_another(data: st.DataObject) -> None:
    original = study()
    changed = bytearray(original.document)
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        identity = Study.parse(bytes(changed)).digest
    except WardroundError as error:
        identity = error.code
    assert identity != original.digest


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text + b" ",
        lambda text: b" " + text,
        lambda text: text.replace(b",", b", ", 1),
        lambda text: text.replace(b'"clip_norm":1.0', b'"clip_norm":1.00'),
        lambda text: text.replace(b'"format":1', b'"format":1,"format":1'),
        lambda text: text.replace(b"Heart", b"\\u0048eart"),
        lambda text: json.dumps(dict(reversed(json.loads(text).items()))).encode(),
    ],
)
def test_only_the_canonical_form_is_accepted(rewrite: Any) -> None:
    text = rewrite(study().document)
    assert text != study().document
    with pytest.raises(WardroundError, match="canonical form"):
        Study.parse(text)


@pytest.mark.parametrize("section", [None, "task", "privacy", "optimisation", "aggregation"])
def test_an_unknown_key_is_refused_by_name(section: str | None) -> None:
    plain = document()
    (plain if section is None else plain[section])["surprise"] = 1
    with pytest.raises(WardroundError, match="surprise") as caught:
        Study.parse(canonical(plain))
    assert caught.value.code is Code.RELEASE
    with pytest.raises(WardroundError, match=r"sender runs wardround 9\.1\.0") as caught:
        Study.parse(canonical(plain), Sender("9.1.0", 2))
    assert "install wardround 9.1.0 here" in caught.value.remedy


def test_a_document_is_kept_as_it_came() -> None:
    """Its identity is that of its bytes, also where this release would write others."""
    plain = document()  # without the fields that say their default, which this release writes
    plain["annotations"] = {"protocol": "EudraCT 2026-1", "anything": [None, {}]}
    received = canonical(plain)
    parsed = Study.parse(received)
    assert parsed.document == received
    assert parsed.digest == hashlib.sha256(received).hexdigest()
    assert parsed == study()
    assert parsed.digest != study().digest
    assert pickle.loads(pickle.dumps(parsed)).document == received  # noqa: S301 (our own bytes)


def test_a_changed_copy_is_another_study() -> None:
    parsed = Study.parse(study().document)
    assert parsed.digest == study().digest
    changed = parsed.model_copy(update={"title": "Another"})
    assert json.loads(changed.document)["title"] == "Another"
    assert changed.digest == hashlib.sha256(changed.document).hexdigest() != parsed.digest
    assert parsed.model_copy().document is parsed.document


@pytest.mark.parametrize("annotations", [None, {}, {"a": 1}])
def test_annotations_change_the_identity_and_nothing_else(annotations: Any) -> None:
    parsed = Study.parse(canonical(document() | {"annotations": annotations}))
    assert parsed == study()
    assert parsed.digest != study().digest


def test_another_format_is_refused_by_name() -> None:
    with pytest.raises(WardroundError, match="format 2; this release reads format 1") as caught:
        Study.parse(canonical(document(format=2)), Sender("0.9.0", 2))
    assert caught.value.code is Code.RELEASE
    assert "install wardround 0.9.0 here" in caught.value.remedy
    for wrong in ("1", None, [1], 1.0, True):
        with pytest.raises(WardroundError, match="format"):
            Study.parse(canonical(document(format=wrong)))


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_not_finite_are_refused(token: bytes) -> None:
    text = study().document.replace(b'"clip_norm":1.0', b'"clip_norm":' + token)
    with pytest.raises(WardroundError):
        Study.parse(text)
    with pytest.raises(ValidationError):
        study(privacy__clip_norm=float("nan"))


def test_a_number_in_quotes_is_not_a_number() -> None:
    with pytest.raises(WardroundError, match=r"privacy\.epsilon"):
        Study.parse(canonical(document(privacy__epsilon="1.0")))


def test_a_study_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        study().privacy.epsilon = 100.0


def _sites(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "patients": 10} for name in names]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"roster": _sites("b", "a", "c")}, "alphabetical"),
        ({"roster": _sites("a", "a", "b")}, "each site once"),
        ({"roster": _sites("a", "b")}, "roster has 2 sites"),
        ({"aggregation__least_sites": 2}, "at least 3"),
        ({"aggregation__colluding_sites": 3}, "below least_sites"),
        ({"aggregation__colluding_sites": 0}, "at least 1"),
        ({"aggregation__attempts": 20}, "rounds \\+ 1"),
        ({"optimisation__local_steps": 2}, "local_steps = 1"),
        ({"privacy__mode": "none"}, "without noise"),
        ({"privacy": {"mode": "none"}}, "epsilon is stated where"),
        ({"evaluation": {"release": "off", "every": 5}}, "every is 0"),
        ({"privacy__noise_multiplier": 0.0}, "noise_multiplier above 0"),
        ({"privacy__epsilon": None}, "an epsilon"),
        ({"privacy__sampling_rate": 1.5}, "less than or equal to 1"),
        ({"privacy__delta": 0.5}, "less than 0.5"),
        ({"evaluation__noise_multiplier": 0.0}, "release is noised"),
        ({"evaluation__release": "exact"}, "release is noised"),
        ({"evaluation__split": "date"}, "since is a day"),
        ({"evaluation__since": "2024-03-01"}, "since is a day"),
        ({"evaluation__split": "date", "evaluation__since": "2024-02-30"}, "day"),
        ({"nonce": "XYZ"}, "nonce"),
        ({"task__source": "A" * 64}, r"task\.source"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_reason(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        Study.parse(canonical(document(**changes)))
    assert caught.value.code is Code.REFUSED_STUDY


def test_mode_none_states_an_epsilon_where_evaluation_is_noised_and_only_there() -> None:
    for release in ("exact", "off"):
        plain = study(privacy={"mode": "none"}, evaluation={"release": release})
        assert (plain.shares_noise, plain.privacy.epsilon) == (False, None)
        with pytest.raises(ValidationError, match="only there"):
            study(privacy={"mode": "none", "epsilon": 1.0}, evaluation={"release": release})
    assert study(privacy={"mode": "none", "epsilon": 1.0}).shares_noise


def test_without_evaluation_no_round_closes_and_no_attempt_is_paid_for_it() -> None:
    off = study(evaluation={"release": "off"})
    rounds = off.optimisation.rounds
    assert not any(off.evaluates(round_) for round_ in range(1, rounds + 2))
    assert off.evaluations == max_evaluations(off) == 0
    assert evaluation_event(off) is None
    assert study(evaluation={"release": "off"}, aggregation__attempts=rounds).spare_attempts == 0
    for keeping in ("fedbn", "ditto"):
        with pytest.raises(ValidationError, match="closing round"):
            study(
                privacy__mode="local",
                evaluation={"release": "off"},
                optimisation__local={"name": keeping},
            )


@given(rounds=st.integers(1, 60), every=st.integers(0, 70))
def test_the_last_model_is_always_evaluated_and_others_as_often_as_said(
    rounds: int, every: int
) -> None:
    planned = study(
        optimisation__rounds=rounds, aggregation__attempts=rounds + 1, evaluation__every=every
    )
    scored = [r - 1 for r in range(1, rounds + 2) if planned.evaluates(r)]
    expected = {rounds} | {made for made in range(1, rounds) if every and made % every == 0}
    assert scored == sorted(expected)
    assert planned.evaluations == len(scored)


def test_declared_patients_are_counted_over_the_named_sites() -> None:
    assert study().patients() == 520
    assert study().patients(frozenset({"va", "cleveland"})) == 330
    assert study().sites == ("cleveland", "hungarian", "va")
