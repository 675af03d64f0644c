"""What is kept of predictions to be counted for drift, who may have it counted, and what leaves."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.config.site_config import Objections, SiteConfig
from client.governance.patient_split import PatientSplit
from client.prediction.state import PredictionState
from client.prediction.watched import answering
from launch.queries.drift import Released, drift, watched
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.errors import Code
from protocol.study.query import Cells, Reference, Scored
from protocol.study.study import Study
from tasks import registry
from tasks.query_schema import PREDICTED
from tests.client.cli.conftest import Run, run
from tests.client.daemon.test_queries import PEERS, SITE, TASK, Asked, site_of
from tests.client.prediction.ward import NAMES, RECORDS, allowing, site
from tests.protocol.models.bundles import bundle

__all__ = ["run"]

MODEL = bundle()
SCORE = PREDICTED + "score"
FIRST = registry.load(TASK).schema.columns[0].name


def predict(run: Run, folder: Path, name: str) -> dict[str, Any]:
    file = folder / "model.safetensors"
    if not file.exists():
        MODEL.write(file)
    words = ("--model", file, "--for", "cohort", "--to", folder / name, "--json")
    done = run("predict", *words, "-c", folder / "site")
    assert done.status == 0, done.err
    return dict(json.loads(done.out))


def kept(folder: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "site" / "state" / "predictions.db") as db:
        return db.execute("SELECT * FROM watched").fetchall()


def test_nothing_is_kept_unless_the_policy_says_so(run: Run, tmp_path: Path) -> None:
    site(tmp_path, allowing(MODEL))
    predict(run, tmp_path, "scores.csv")
    assert kept(tmp_path) == []


def test_one_prediction_of_each_patient_and_month_is_kept_without_a_name(
    run: Run, tmp_path: Path
) -> None:
    config = site(tmp_path, allowing(MODEL, watch=True))
    predict(run, tmp_path, "first.csv")
    predict(run, tmp_path, "second.csv")
    rows = kept(tmp_path)
    assert len(rows) == RECORDS
    split = PatientSplit.load(config.state)
    assert {row[2] for row in rows} == {split.name(TASK, name) for name in NAMES}
    assert {row[1] for row in rows} == {f"{datetime.now(UTC):%Y-%m}"}
    said = json.loads(rows[0][3])
    assert set(said) == {SCORE, *(c.name for c in registry.load(TASK).schema.columns)}
    state = b"".join(f.read_bytes() for f in config.state.rglob("*") if f.is_file())
    assert b"MRN-" not in state


def test_what_is_older_than_two_years_goes(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(0o700)
    with PredictionState.open(folder) as state:
        for day in ("2024-09-30", "2024-10-01", "2026-10-15"):
            state.clock = partial(float, datetime.fromisoformat(f"{day}T12:00Z").timestamp())
            state.add("m", [day], watched=[(day.encode(), "{}")])
        found = state.watched("m", "0000-01", "9999-12")
    assert [patient for patient, _ in found] == [b"2024-10-01", b"2026-10-15"]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    found = site_of(tmp_path, monkeypatch)
    found.governance.policy.predict.models[MODEL.digest] = _rules(watch=True)
    config = found.governance.config
    found.site._respondent = partial(answering, config)
    yield found
    found.governance.close_state()


def _rules(**rules: Any) -> Any:
    from client.config.prediction_rules import ModelRules

    return ModelRules(unapproved=True, **rules)


def keep(config: SiteConfig, said: dict[str, list[tuple[str, float]]]) -> None:
    """month -> patients and scores, as a run of that month would keep them."""
    split = PatientSplit.load(config.state)
    with PredictionState.open(config.state) as state:
        for month, of in said.items():
            when = datetime.fromisoformat(f"{month}-15T12:00Z").timestamp()
            state.clock = partial(float, when)
            state.add(
                MODEL.digest,
                [],
                watched=[
                    (split.name(TASK, name), json.dumps({SCORE: score, FIRST: 12.0}))
                    for name, score in of
                ],
            )


def months(*back: int) -> list[str]:
    """So many months ago; 0 is this one."""
    now = datetime.now(UTC)
    found = []
    for one in back:
        whole = now.year * 12 + now.month - 1 - one
        found.append(f"{whole // 12:04}-{whole % 12 + 1:02}")
    return found


def study(scored: Scored, question: Question | None = None, **price: Any) -> Study:
    asked = question or watched(Question.about(TASK), scored, [f"{FIRST}:4"])
    prices: dict[str, Any] = {"epsilon": 1.0, "mechanism": "laplace"} | price
    return build_query(asked, dict.fromkeys((SITE, *PEERS), 200), Price(**prices))


def period(since: str, until: str = "") -> Scored:
    return Scored(model=MODEL.digest, since=since, until=until or since)


def test_each_patient_counts_once_in_a_period_and_the_ledger_pays_before(asked: Asked) -> None:
    first, second = months(3, 2)
    everybody = [(f"P{n:03}", 0.05) for n in range(100)]
    again = [(name, 0.95) for name, _ in everybody]
    keep(asked.governance.config, {first: everybody, second: [*again, ("P999", 0.95)]})
    whole = study(period(first, second))
    assert asked.propose(whole.document).state == "accepted"
    opened = asked.answer(whole)
    assert isinstance(opened, np.ndarray)
    counts = opened / whole.evaluation.scale
    scores, inputs = counts[:17], counts[17:]
    # each patient's first score; noise of two histograms at epsilon 1 is a few patients
    assert scores[0] == pytest.approx(100, abs=25)
    assert scores[15] == pytest.approx(1, abs=25)
    assert inputs.sum() == pytest.approx(101, abs=40)
    assert asked.debited_when_tallied == [1]
    assert asked.patients_tallied == [101]


def test_who_objects_by_now_is_not_counted(asked: Asked, tmp_path: Path) -> None:
    (month,) = months(1)
    keep(asked.governance.config, {month: [(f"P{n:03}", 0.5) for n in range(60)]})
    (tmp_path / "objections.txt").write_text("patient\nP007\nP008\n")
    assert isinstance(asked.governance.config.objections, Objections)
    whole = study(period(month))
    assert asked.propose(whole.document).state == "accepted"
    assert isinstance(asked.answer(whole), np.ndarray)
    assert asked.patients_tallied == [58]


def test_a_period_that_is_not_over_is_reserved_and_waits(asked: Asked) -> None:
    (now,) = months(0)
    keep(asked.governance.config, {now: [(f"P{n:03}", 0.5) for n in range(60)]})
    whole = study(period(now))
    standing = asked.propose(whole.document)
    assert (standing.state, standing.code) == ("waiting", Code.OUTSIDE_HOURS)
    assert asked.answer(whole) is Code.OUTSIDE_HOURS
    with asked.governance.state.reading() as db:
        assert db.execute("SELECT count(*) FROM debits").fetchone()[0] == 0
    # it is reserved: what is left of a lifetime of 3 takes no further plan of 2 and 1
    other = study(period(now), epsilon=2.0)
    third = study(period(*months(1)), epsilon=1.0)
    asked.propose(other.document)
    assert asked.propose(third.document).code is Code.REFUSED_BUDGET
    year, month = map(int, now.split("-"))
    assert whole.expires > f"{year}-{month:02}-31"


def test_a_model_that_the_policy_does_not_let_be_watched_is_not_counted(asked: Asked) -> None:
    (month,) = months(1)
    asked.governance.policy.predict.models[MODEL.digest] = _rules()
    asked.refuses(study(period(month)).document)
    del asked.governance.policy.predict.models[MODEL.digest]
    asked.refuses(study(period(month)).document)


def test_a_site_without_predictions_refuses_before_it_pays(asked: Asked) -> None:
    whole = study(period(*months(1)))
    assert asked.propose(whole.document).state == "accepted"
    assert asked.answer(whole) is Code.NO_DATA
    with asked.governance.state.reading() as db:
        assert db.execute("SELECT count(*) FROM debits").fetchone()[0] == 0


def test_a_predicted_column_is_no_column_of_any_other_query(asked: Asked) -> None:
    whole = study(period(*months(1)))
    assert whole.query is not None
    plain = whole.model_copy(
        update={"query": whole.query.model_copy(update={"scored": None}), "expires": ""}
    )
    asked.refuses(plain.document)


def test_a_site_that_is_asked_for_drift_is_told_what_it_is(asked: Asked) -> None:
    from client.approver.study_page import summarise

    (month,) = months(1)
    first = watched(Question.about(TASK), period(month))
    cells = first.statistics[0]
    assert isinstance(cells, Cells)
    reference = Reference(counts=(10.0,) * 17, variances=(1.0,) * 17)
    question = drift(Question.about(TASK), period(month), [Released(TASK, 4, cells, reference)])
    text = str(summarise(asked.governance.approvals, study(period(month), question)))
    assert f"scored from {month} to {month}" in text
    assert "drift" in text
