"""What a reviewer reads of subgroups: every level, how sure, and how many were compared."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from protocol.metrics.subgroup_figures import subgroup_figures
from protocol.outcomes.estimates import Estimate
from protocol.study.study import Study
from server.outcome import Outcome
from server.report.figures import figures
from server.report.model_card import card
from server.report.privacy_statement import privacy_statement
from server.tracking.summary import summary
from server.tracking.tags_and_metrics import claims
from tests.server.outcomes import outcome, study

LEVELS = ["f", "<b>m</b>", "=1+1"]
SUBGROUPS = [{"kind": "categories", "column": "sex", "values": LEVELS}]


def told_apart(second: float = 3.0) -> Outcome:
    """Levels of 900, 600, 5 and 0 patients; the second is told apart less well."""
    plain = study().model_dump()
    plain["evaluation"] |= {"subgroups": SUBGROUPS, "bins": 8}
    of, generator = Study.model_validate(plain), np.random.default_rng(0)
    rows = []
    for patients, apart in ((900, 3.0), (600, second), (5, 3.0), (0, 1.0)):
        labels = np.arange(patients) % 2
        odds = generator.normal(size=patients) + apart * (labels - 0.5)
        rows.append(of.outcome.counts(1 / (1 + np.exp(-odds)), labels.astype(float), 8))
    section = np.concatenate([np.sum(rows, axis=0), *rows]).astype(np.float64)
    return replace(outcome(of), study=of, subgroups=subgroup_figures(of, section, 0.5))


def test_the_card_has_every_level_and_says_how_many_were_compared() -> None:
    text = card(told_apart().study, told_apart(0.5))
    assert "## For whom it fails" in text
    assert "<b>" not in text
    assert text.count("not shown") >= 2
    assert "corrected for all of them by Holm's method" in text
    assert "2 differences were looked at" in text
    assert "measured by sex alone" in text
    assert "was not measured" in card(study(), outcome(study()))
    assert "For whom it fails" not in card(study(), outcome(study()))


def test_the_statement_says_that_an_evaluation_is_several_releases() -> None:
    done = told_apart()
    assert "2 of them an evaluation (all, and by subgroup)" in privacy_statement(done.study, done)


def test_the_tag_names_what_surely_differs() -> None:
    assert claims(told_apart())["wardround.subgroups"].startswith("by sex: no level's ROC AUC")
    worse = claims(told_apart(0.3))["wardround.subgroups"]
    assert worse.startswith("by sex: ROC AUC differs: sex <b>m</b>: -0.")
    assert "wardround.subgroups" not in claims(outcome(study()))


def test_files_are_for_programs_and_spreadsheets_and_the_forest_is_drawn() -> None:
    done = told_apart(0.5)
    written = figures(done)
    assert written["subgroups.png"].startswith(b"\x89PNG")
    plain = json.loads(written["subgroups.json"])
    assert [level["level"] for level in plain["subgroups"][0]["levels"]] == [*LEVELS, "missing"]
    assert plain["least_count"] == 20
    rows = list(csv.DictReader(io.StringIO(written["subgroups.csv"].decode())))
    assert {row["level"] for row in rows} == {"f", "<b>m</b>", "'=1+1", "missing"}
    (hidden,) = [row for row in rows if row["level"] == "missing"]
    assert (hidden["figure"], hidden["value"]) == ("patients", "")
    assert summary(done)["subgroups"] == plain
    assert "subgroups.png" not in figures(outcome(study()))


def test_an_outcome_is_read_as_it_was_written() -> None:
    done = told_apart()
    plain = json.loads(json.dumps(done.figures()))
    again = Outcome.of_figures(plain, done.study, done.weights, done.rounds)
    assert again.subgroups == done.subgroups
    assert "subgroups" not in outcome(study()).figures()


def test_an_outcome_has_no_room_for_other_names() -> None:
    """Invariant 4: what could name a hospital is refused."""
    done = told_apart()
    (of,) = done.subgroups
    for other in (
        replace(of, name="north"),
        replace(of, levels=(replace(of.levels[0], level="north"), *of.levels[1:])),
        replace(
            of,
            levels=(
                replace(of.levels[0], metrics={"north": Estimate(0, 0, 1)}),
                *of.levels[1:],
            ),
        ),
    ):
        with pytest.raises(ValueError, match=r"not name|not a metric"):
            replace(done, subgroups=(other,))
