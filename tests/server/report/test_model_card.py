"""The text that a reviewer reads first is honest, escaped and within MLflow's limits."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protocol.study.gates import Gates
from protocol.study.study import Member, Privacy, Study
from server.outcome import Approvals, Baselines
from server.report.model_card import (
    LIMIT,
    VERSION_LIMIT,
    Background,
    card,
    describe,
    describe_model,
)
from server.report.privacy_statement import privacy_statement
from server.tracking.tags_and_metrics import claims
from tasks import registry
from tests.server.outcomes import outcome, study


def test_text_of_the_study_cannot_become_markup() -> None:
    of = study(title="<img src=x onerror=alert(1)> [a](javascript:b)\n# Approved")
    text = describe(of)
    assert "<img" not in text
    assert "[a](" not in text
    assert "\n# Approved" not in text


@given(st.floats(1e-4, 1e4))
def test_no_epsilon_is_rounded_down(epsilon: float) -> None:
    of = study()
    text = describe(of, replace(outcome(of), epsilon=epsilon, epsilon_broken=None))
    (shown,) = re.findall(r"Epsilon \*\*([\d.]+)\*\*", text)
    assert epsilon <= float(shown) <= epsilon + 0.0011


def test_without_privacy_it_says_so() -> None:
    of = study()
    plain = of.model_copy(update={"privacy": Privacy(mode="none")})
    bare = replace(outcome(of), study=plain, epsilon=None, epsilon_broken=None)
    text = describe(plain, bare)
    assert "No differential privacy" in text
    assert "Epsilon **" not in text


def test_it_says_at_how_many_sites_a_patient_may_be_and_that_shares_were_seen() -> None:
    document = study().model_dump()
    document["privacy"] |= {"sites_per_patient": 2}
    document["aggregation"] |= {"masked": False}
    of = Study.model_validate(document)
    done = replace(outcome(of), study=of)
    for text in (describe(of), describe(of, done)):
        assert "no more than 2 of the sites" in text
        assert "Epsilon counts each of these by itself" in text
    assert claims(done)["wardround.sites_per_patient"] == "2"


def test_it_keeps_to_the_limits_with_a_thousand_sites() -> None:
    of = study(title="x" * 2000)
    sites = tuple(Member(name=f"hospital-{n:04}-{'y' * 40}", patients=9) for n in range(1000))
    many = of.model_copy(update={"roster": sites, "contact": "z" * 2000})
    large = replace(outcome(of), study=many)
    assert "declared by 1000 sites" in card(many, large)
    assert len(describe(many, large)) <= LIMIT
    assert "The rest is in the artifact `model_card.md`" in describe(many, large)
    assert len(describe_model(large, registry.load("breast_cancer").schema)) <= VERSION_LIMIT


def test_a_study_that_was_not_evaluated_claims_no_performance() -> None:
    text = describe(study(), replace(outcome(study()), metrics={}, status="killed", rounds=()))
    assert "ended before its model was evaluated" in text
    assert "**Status:** killed" in text


def test_what_a_reader_must_know_of_the_algorithm_is_said() -> None:
    """Whose model the figures are of, and that updates were seen."""
    of = study()
    assert "How it was trained" not in describe(of)
    document = of.model_dump()
    document["privacy"] = {"mode": "none"}
    document["evaluation"] |= {"release": "exact", "noise_multiplier": 0.0, "every": 2}
    document["aggregation"] |= {"masked": False, "robust": {"name": "median"}}
    document["optimisation"] |= {
        "local": {"name": "ditto", "evaluated": "personal"},
        "stop": {"metric": "log_loss", "patience": 3},
    }
    text = describe(Study.model_validate(document))
    assert "of the sites' own models, not of the released one" in text
    assert "combined by `median`" in text
    assert "3 evaluations without a better pooled log loss" in text
    document["optimisation"]["local"] = {"name": "fedbn"}
    assert "have their initial values" in describe(Study.model_validate(document))


def test_it_says_who_launched_it_and_how_the_sites_agreed() -> None:
    of = study()
    text = card(of, outcome(of), Background(launched_by="ada"))
    assert "**launched by:** account ada of the coordinator" in text
    assert "1 sites by the decision of a person, 2 by their rules." in text
    assert "without a coordinator" in card(of)
    silent = replace(outcome(of), approvals=Approvals(by_hand=1, by_rule=0))
    assert "2 took no part, or did not say" in card(of, silent)
    assert "No site has said how" in card(of, replace(silent, approvals=Approvals()))


def test_it_names_every_input_with_its_unit_and_range() -> None:
    of = study()
    text = card(of, outcome(of))
    for column in registry.load("breast_cancer").schema.columns:
        assert f"| `{column.name}` |" in text
        assert f"{column.low:g} to {column.high:g} |" in text


def test_it_says_against_what_it_was_compared() -> None:
    of = study()
    baselines = Baselines({"local": {"auc": 0.81}, "pooled": {"auc": 0.95, "accuracy": 0.9}})
    text = card(of, outcome(of), Background(baselines=baselines))
    assert "| one hospital alone, their mean | 0.810 |" in text
    assert "| all data in one place | 0.950 |" in text
    assert "| nothing: all patients scored alike | 0.500 |" in text
    alone = card(of, outcome(of))
    assert "| all, by this study | 0.930 |" in alone
    assert "| nothing: all patients scored alike | 0.500 |" in alone
    assert "was not compared" in alone
    assert "Against what" not in card(of, replace(outcome(of), metrics={}))


def test_an_end_that_the_counts_do_not_tell_is_unknown() -> None:
    of = study()
    text = card(of, outcome(of))
    assert "| brier | **0.100** | 0.080 to unknown |" in text
    assert "nan" not in re.findall(r"\b\w+\b", text)


def test_it_says_when_by_which_code_and_what_comes_next() -> None:
    of = study()
    known = Background(launched_by="ada", submitted="2026-03-01")
    text = card(of, outcome(of), known)
    assert "account ada of the coordinator on 2026-03-01" in text
    assert f"source `{of.task.source}`" in text
    assert "stated no gates" in text
    assert "A reviewer who did not launch it" in text
    gated = of.model_copy(update={"gates": Gates(metrics={"auc": 0.92}, epsilon=5)})
    text = card(gated, replace(outcome(of), study=gated), known)
    assert "- auc **FAILED**: 0.93 (0.91 to 0.95); all of the interval" in text
    assert "- epsilon **passed**: 1.875 spent; at most 5" in text
    assert "nobody can approve it" in card(of, outcome(of))
    ended = replace(outcome(of), status="killed")
    assert "there is nothing to approve" in card(of, ended, known)


def test_the_privacy_statement_answers_what_the_guidelines_ask() -> None:
    of = study()
    text = privacy_statement(of, outcome(of))
    for asked in ("unit of privacy", "neighbouring", "mechanism", "composition", "trust"):
        assert f"| {asked}" in text
    assert "Gaussian noise at every site" in text
    assert "skellam noise, multiplier 4" in text
    assert "every attempt made of the 8 planned, opened or lost" in text
    assert "each adds all the noise itself" in text


def test_where_nothing_is_noised_the_statement_has_no_rows() -> None:
    document = study().model_dump()
    document["privacy"] = {"mode": "none"}
    document["evaluation"] |= {"release": "exact", "noise_multiplier": 0.0}
    of = Study.model_validate(document)
    text = privacy_statement(of, None)
    assert "No differential privacy" in text
    assert "| asked" not in text
