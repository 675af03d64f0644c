"""What a coordinator's studies before this one add to its cost: never less than their plans."""

from __future__ import annotations

from protocol.study.study import Study
from server.report.earlier_studies import earlier_in_words
from server.report.model_card import Background, card
from tests.server.outcomes import outcome, study


def changed(of: Study, **sections: object) -> Study:
    return Study.model_validate(of.model_dump() | sections)


def test_plans_add_up_whatever_became_of_them() -> None:
    own, other, third = study(), study(title="Before"), study(title="Long before")
    assert own.privacy.epsilon == 2.0
    said = earlier_in_words(own, [other, third, own])
    assert said.startswith("2 earlier studies")
    assert "epsilon 6.000 at delta 3e-05" in said


def test_other_tasks_and_other_hospitals_have_other_patients() -> None:
    own = study()
    task = own.task.model_copy(update={"name": "heart_disease"})
    roster = [{"name": name, "patients": 100} for name in ("oslo", "paris", "rome")]
    apart = [changed(study(), task=task.model_dump()), changed(study(), roster=roster)]
    assert earlier_in_words(own, apart).startswith("this coordinator has run no other study")


def test_what_no_epsilon_bounds_is_said() -> None:
    document = study().model_dump()
    document["privacy"] = {"mode": "none"}
    document["evaluation"] |= {"release": "exact", "noise_multiplier": 0.0}
    said = earlier_in_words(study(), [Study.model_validate(document)])
    assert "without an epsilon, so that no bound covers it: 1 of them" in said
    assert "add up" not in said


def test_the_card_says_it_among_the_answers_to_nist() -> None:
    of = study()
    text = card(of, outcome(of), Background(earlier=earlier_in_words(of, [study()])))
    assert "| composition with earlier studies | 1 earlier study of" in text
    assert "composition with earlier" not in card(of, outcome(of))
