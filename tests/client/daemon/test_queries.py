"""Queries at a site with real keys, policy, ledger and data: what it answers, and what it does not.

Whatever is refused is refused before the view is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from client.approver.study_page import summarise
from client.cohorts.loading import build_query_contributor, who_objects
from client.cohorts.query_counts import QueryContributor
from client.config.known_roster import KnownRoster
from client.config.policy import Policy
from client.config.site_config import Objections
from client.daemon.site import Site
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.budget import budget, spending_by_study
from client.governance.governance import SiteGovernance
from launch.queries import analyses
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.document import canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.secagg.aggregate import ShareSum
from protocol.secagg.context import Context
from protocol.secagg.context import SignedKey as Signed
from protocol.secagg.fixed_point import to_words
from protocol.secagg.party import Party
from protocol.study.query import FIGURE_UNIT, Bins, Differing, Reference
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire import messages
from tasks import registry
from tasks.base import Task
from tests.client.daemon_federation import write_csv

TASK, SITE, PEERS = "breast_cancer", "alpha", ("beta", "gamma")
RULES: dict[str, Any] = {
    "tasks": (TASK,),
    "purposes": ("research",),
    "modes": ("distributed",),
    "approval": "rule",
    "delta": 1e-5,
    "epsilon_per_study": 2.0,
    "epsilon_lifetime": 3.0,
    "epsilon_broken": 30.0,
}
COLUMN = registry.load(TASK).schema.columns[0].name


@dataclass
class Asked:
    """A site that answers queries, and what came to its data. `peers` hold the others' keys."""

    site: Site
    governance: SiteGovernance
    roster: dict[str, str]
    peers: dict[str, Identity]
    patients: int
    read: list[str] = field(default_factory=list)
    debited_when_tallied: list[int] = field(default_factory=list)
    patients_tallied: list[int] = field(default_factory=list)

    def propose(self, document: bytes) -> messages.Standing:
        answer = messages.parse(
            self.site.answer(messages.frame(messages.Propose(document=document.decode())))
        )
        assert isinstance(answer, messages.Standing), answer
        return answer

    def answer(self, study: Study, attempt: int = 1) -> np.ndarray | Code:
        """One attempt at the sum of this site and two peers who add nothing; (cells,) opened."""
        sections = Sections(study, train=False, evaluate=True)
        empty = digest(b"")
        place: dict[str, Any] = {"study": study.digest, "round": 1, "attempt": attempt}
        prepare = messages.Prepare(**place, train=False, evaluate=True, model=empty)
        ready = messages.parse(self.site.answer(messages.frame(prepare)))
        if isinstance(ready, messages.Refusal):
            return ready.code
        assert isinstance(ready, messages.Ready)
        roster = tuple(sorted(self.roster.items()))
        context = Context(
            study.digest, sections.kind, 1, attempt, empty, roster, exact=sections.exact
        )
        parties = {name: Party.begin(context, name, key) for name, key in self.peers.items()}
        others = [
            messages.Ready(
                **place,
                site=name,
                context=party.ready.context,
                public_key=party.ready.public_key,
                signature=party.ready.signature,
            )
            for name, party in parties.items()
        ]
        readys = sorted([ready, *others], key=lambda found: found.site)
        collect = messages.Collect(**place, readys=tuple(readys))
        shared = self.site.answer(messages.frame(collect))
        assert isinstance(messages.parse(shared), messages.Share)
        signed = [Signed(r.site, r.context, r.public_key, r.signature) for r in readys]
        opening = ShareSum([r.site for r in readys], sections.length, study.aggregation.word_bits)
        opening.fold(SITE, shared.body)
        for name, party in parties.items():
            nothing = to_words(np.zeros(sections.length, np.int64), study.aggregation.word_bits)
            part = party.share(nothing, signed, 3, lambda _: np.zeros(sections.length, np.int64))
            opening.fold(name, messages.chunks(part))
        return np.asarray(opening.open())

    def refuses(self, document: bytes) -> messages.Standing | messages.Refusal:
        """Sees it refused before data was read and without a debit."""
        propose = messages.frame(messages.Propose(document=document.decode()))
        found = messages.parse(self.site.answer(propose))
        assert isinstance(found, messages.Standing | messages.Refusal)
        assert isinstance(found, messages.Refusal) or found.state == "refused", found
        assert self.read == []
        with self.governance.state.reading() as db:
            assert db.execute("SELECT count(*) FROM debits").fetchone()[0] == 0
        return found


def site_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **rules: Any) -> Asked:
    """queries: a rule of its own; all others as in `RULES`. The identifiers of who objects are in
    the file `objections.txt`."""
    queries = rules.pop("queries", "[count, histogram, table, mean]")
    table = registry.load(TASK).public_sites(None)["north"]
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table, folder / "north.csv")
    answers = SiteAnswers(site=SITE, data={TASK: folder / "north.csv"}, **(RULES | rules))
    config = new_site.init(folder / SITE, answers)
    path = folder / SITE / new_site.SITE_YAML
    text = path.read_text()
    assert "queries: [] " in text
    path.write_text(text.replace("queries: [] ", f"queries: {queries} "))
    peers = {name: Identity.generate() for name in PEERS}
    config = type(config).load(path)
    roster = config.roster | {name: key.public_key.hex() for name, key in peers.items()}
    objections = Objections(file=folder / "objections.txt")
    (folder / "objections.txt").write_text("patient\n")
    config = config.model_copy(update={"roster": roster, "objections": objections})
    governance = SiteGovernance(config, config.load_identity())
    patients = len(set(table["patient"].tolist()))
    found: Asked

    def respondent(task: Task, study: Study) -> QueryContributor:
        found.read.append(study.digest)
        return build_query_contributor(config, task, study)

    def no_cohort(task: Task, study: Study) -> Any:
        raise AssertionError("a query loads no cohort")

    site = Site(
        SITE,
        config.load_identity(),
        KnownRoster(roster),
        governance,
        no_cohort,
        respondent=respondent,
        objections=partial(who_objects, config),
    )
    found = Asked(site, governance, roster, peers, patients)
    contribution = QueryContributor.contribution

    def noting(self: QueryContributor, *args: Any) -> Any:
        with governance.state.reading() as db:
            rows = db.execute("SELECT count(*) FROM debits").fetchone()
        found.debited_when_tallied.append(rows[0])
        found.patients_tallied.append(self.records.patients)
        return contribution(self, *args)

    monkeypatch.setattr(QueryContributor, "contribution", noting)
    return found


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    found = site_of(tmp_path, monkeypatch)
    yield found
    found.governance.close_state()


def study_of(question: Question, **price: Any) -> Study:
    return build_query(question, dict.fromkeys((SITE, *PEERS), 200), Price(**price))


def counted(**price: Any) -> Study:
    return study_of(Question.about(TASK).count(), **price)


def changed(study: Study, **changes: Any) -> bytes:
    """The study's document with other values, whether or not that makes a study."""
    plain = json.loads(study.document)
    for key, value in changes.items():
        *path, last = key.split("__")
        place = plain
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = value
    return canonical(plain)


def test_a_query_is_debited_before_its_data_is_counted_and_answered_as_a_masked_sum(
    asked: Asked,
) -> None:
    study = study_of(
        Question.about(TASK).count().histogram(f"{COLUMN}:4").mean(COLUMN), epsilon=1.9
    )
    assert asked.propose(study.document).state == "accepted"
    assert asked.read == []
    found = asked.answer(study)
    assert not isinstance(found, Code)
    assert asked.debited_when_tallied == [1]
    scale = study.evaluation.scale
    query = study.query
    assert query is not None
    slack = 60  # each cell's noise has a deviation of 2.2 / 0.63: 17 of them
    for where in query.slices:
        assert abs(found[where].sum() / scale - asked.patients) < 5 * slack
    assert abs(found[0] / scale - asked.patients) < slack
    spent = budget(asked.governance.state, asked.governance.policy)
    (row,) = spending_by_study(asked.governance.state, asked.governance.policy)
    assert (row.trained, row.evaluated, row.exact) == ((0, 0), (1, 1), ())
    assert spent.spent == pytest.approx(1.9, rel=1e-3)
    asked.governance.audit.verify()


def test_a_site_that_is_compared_says_one_word_and_sees_the_rest(
    asked: Asked, tmp_path: Path
) -> None:
    released = Reference(counts=(90.0, 900.0), variances=(4.0, 4.0))
    axis = Bins(column=COLUMN, edges=(0, 1000))
    question = Question.about(TASK).of(
        Differing(name=COLUMN, axis=axis, released=released, groups=(0, 1))
    )
    study = study_of(question, epsilon=1.9)
    assert asked.propose(study.document).state == "accepted"
    found = asked.answer(study)
    assert not isinstance(found, Code)
    assert found[:4].tolist() == [study.evaluation.scale, 0, 0, FIGURE_UNIT]
    assert len(found) == 3 + 2 + 3 * 2
    assert asked.debited_when_tallied == [1]
    (row,) = spending_by_study(asked.governance.state, asked.governance.policy)
    assert row.evaluated == (1, 1)
    (page,) = tmp_path.rglob(f"comparisons/{study.digest[:12]}.html")
    assert f"{COLUMN}: differs from all sites" in page.read_text()


def test_a_study_accepted_before_a_restart_is_taken_up_or_refused(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, strange = counted(epsilon=0.5), counted(epsilon=0.4)
    assert asked.propose(study.document).state == "accepted"
    asked.site._accepted.clear()  # as in a new process
    assert asked.answer(study) is Code.REFUSED_STUDY
    asked.site.reopen(study)
    assert not isinstance(asked.answer(study), Code)
    asked.site._respondent = None
    asked.site.reopen(strange)
    assert asked.governance.audit.entries()[-1].fields["code"] == "refused_policy"
    monkeypatch.setattr(asked.site, "_check", lambda *_: 1 / 0)
    asked.site.reopen(strange)
    assert asked.governance.audit.entries()[-1].fields["code"] == "internal"
    assert asked.answer(strange) is Code.REFUSED_STUDY


def test_repeated_queries_end_at_the_lifetimes_cap(asked: Asked) -> None:
    for number in range(3):
        study = counted(epsilon=0.9)
        assert asked.propose(study.document).state == "accepted", number
        assert not isinstance(asked.answer(study), Code)
        close = messages.Close(study=study.digest, outcome="finished")
        asked.site.answer(messages.frame(close))
    refused = asked.propose(counted(epsilon=0.9).document)
    assert (refused.state, refused.code) == ("refused", Code.REFUSED_BUDGET)
    assert len(asked.read) == 3
    assert asked.propose(counted(epsilon=0.2).document).state == "accepted"


def test_an_attempt_is_answered_once_and_a_study_has_no_more_than_it_pays_for(
    asked: Asked,
) -> None:
    study = counted()
    asked.propose(study.document)
    assert not isinstance(asked.answer(study), Code)
    assert asked.answer(study) is Code.REFUSED_REPLAY
    assert asked.answer(study, attempt=2) is Code.REFUSED_STUDY
    spent = budget(asked.governance.state, asked.governance.policy)
    assert spent.spent == pytest.approx(0.5, rel=1e-3)


def test_who_objects_between_two_attempts_is_not_in_the_second(
    asked: Asked, tmp_path: Path
) -> None:
    study = counted(attempts=2)
    asked.propose(study.document)
    assert not isinstance(asked.answer(study), Code)
    patient = registry.load(TASK).public_sites(None)["north"]["patient"][0]
    (tmp_path / "objections.txt").write_text(f"patient\n{patient}\n")
    assert not isinstance(asked.answer(study, attempt=2), Code)
    assert asked.patients_tallied == [asked.patients, asked.patients - 1]


def test_objections_that_cannot_be_read_refuse_every_study(asked: Asked, tmp_path: Path) -> None:
    running = counted()
    assert asked.propose(running.document).state == "accepted"
    (tmp_path / "objections.txt").unlink()
    assert asked.answer(running) is Code.NO_DATA
    refused = asked.refuses(counted(epsilon=0.3).document)
    assert refused.code is Code.NO_DATA


HOSTILE: dict[str, dict[str, Any]] = {
    "unknown column": {"query__where": {"kind": "missing", "column": "social_security_number"}},
    "unknown category": {
        "query__where": {"kind": "among", "column": "malignant", "categories": ["2"]}
    },
    "a number taken for a category": {
        "query__where": {"kind": "among", "column": COLUMN, "categories": ["1"]}
    },
    "SQL for a column": {
        "query__where": {"kind": "missing", "column": "1); DROP TABLE records; --"}
    },
    "a million cells": {
        "query__statistics": [
            {
                "kind": "cells",
                "name": "many",
                "where": None,
                "quantiles": [],
                "axes": [
                    {
                        "kind": "bins",
                        "column": COLUMN,
                        "edges": [float(e) for e in range(1000)],
                        "outside": False,
                    }
                ]
                * 2,
            }
        ]
    },
    "an epsilon beyond the cap": {
        "privacy__epsilon": 9.0,
        "privacy__noise_multiplier": 0.4,
        "evaluation__noise_multiplier": 0.4,
    },
    "noise below the floor": {
        "privacy__epsilon": 10_000.0,
        "privacy__noise_multiplier": 0.011,
        "evaluation__noise_multiplier": 0.011,
    },
    "an epsilon that it does not keep": {"privacy__epsilon": 0.1},
    "a delta of a half": {"privacy__delta": 0.5},
    "a delta above the site's": {"privacy__delta": 0.4},
    "no noise": {"evaluation__release": "exact", "evaluation__noise_multiplier": 0.0},
    "rounds of training": {"optimisation__rounds": 1, "aggregation__attempts": 2},
    "a model": {"model__parameters": 31},
    "a layout": {"model__layout": "0" * 64},
    "no masks": {"aggregation__masked": False},
    "two sites": {"aggregation__least_sites": 2},
    "another purpose": {"purpose": "curiosity"},
    "another task's source": {"task__source": "0" * 64},
    "a coarser word than its sums need": {"evaluation__scale": 65536},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_query_is_refused_before_data_is_read(asked: Asked, name: str) -> None:
    found = asked.refuses(changed(counted(), **HOSTILE[name]))
    refusals = (Code.REFUSED_STUDY, Code.REFUSED_POLICY, Code.REFUSED_BUDGET)
    assert found.code in (*refusals, Code.TASK_CHANGED)


@pytest.mark.parametrize(
    ("queries", "allowed"), [("[]", False), ("[mean, table]", False), ("[count]", True)]
)
def test_only_the_statistics_that_the_policy_names_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queries: str, allowed: bool
) -> None:
    asked = site_of(tmp_path, monkeypatch, queries=queries)
    try:
        if allowed:
            assert asked.propose(counted().document).state == "accepted"
        else:
            found = asked.refuses(counted().document)
            assert isinstance(found, messages.Standing)
            assert (found.code, found.rules) == (Code.REFUSED_POLICY, ("queries",))
    finally:
        asked.governance.close_state()


def test_with_too_few_patients_the_site_says_nothing_and_spends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = site_of(tmp_path, monkeypatch, least_patients=150)
    # the site declares more patients than its view has rows of now
    data = tmp_path / "north.csv"
    data.write_text("\n".join(data.read_text().splitlines()[:100]) + "\n")
    try:
        study = counted()
        assert asked.propose(study.document).state == "accepted"
        assert asked.answer(study) is Code.TOO_FEW_PATIENTS
        assert budget(asked.governance.state, asked.governance.policy).spent == 0
        assert asked.debited_when_tallied == []
    finally:
        asked.governance.close_state()


def test_a_view_that_lacks_a_column_is_found_before_anything_is_debited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = site_of(tmp_path, monkeypatch)
    data = tmp_path / "north.csv"
    head, *rest = data.read_text().splitlines()
    data.write_text("\n".join([head.replace(COLUMN, "other", 1), *rest]) + "\n")
    try:
        study = study_of(Question.about(TASK).histogram(COLUMN))
        assert asked.propose(study.document).state == "accepted"
        assert asked.answer(study) is Code.MALFORMED_DATA
        assert budget(asked.governance.state, asked.governance.policy).spent == 0
    finally:
        asked.governance.close_state()


def test_a_person_reads_what_is_asked_of_whom_and_at_what_price(asked: Asked) -> None:
    question = Question.about(TASK, where=f"{COLUMN} > 12 and malignant = 1")
    study = study_of(question.count().mean(COLUMN).histogram(f"{COLUMN}:4"))
    asked.propose(study.document)
    approvals = asked.governance.approvals
    found = approvals.find(study.digest)
    words = dict(summarise(approvals, found[0], registry.load(TASK).schema))
    assert f"{COLUMN} > 12 and malignant = 1" in words["Which patients"]
    assert "counts once" in words["Which patients"]
    assert words["Question 1"] == "patients: how many"
    assert "clipped to" in words["Question 2"]
    assert "(5 cells)" in words["Question 3"]
    assert "epsilon 0.5 at delta 1e-05" in words["How private"]
    assert "discrete Laplace" in words["How private"]
    assert "epsilon 0.500 at delta 1e-05 if all is used" in words["What it costs"]
    assert "of 3 reserved" in words["Budget with it"]
    assert "Which columns" not in words
    with pytest.raises(WardroundError):
        approvals.find("f" * 64)


def test_a_person_reads_what_the_tables_are_read_as(asked: Asked) -> None:
    question = analyses.survival(Question.about(TASK), f"{COLUMN}:4", "malignant = 1")
    study = study_of(question)
    asked.propose(study.document)
    approvals = asked.governance.approvals
    (found, *_) = approvals.find(study.digest)
    words = dict(summarise(approvals, found, registry.load(TASK).schema))
    assert "Kaplan-Meier" in words["Read as"]
    assert "(7 cells)" in words["Question 1"]


def test_a_policy_that_allows_queries_needs_their_mode() -> None:
    rules = {key: value for key, value in RULES.items() if key != "modes"}
    with pytest.raises(ValidationError, match="mode distributed"):
        Policy.model_validate(rules | {"queries": ["count"], "modes": ["local"]})
    assert Policy.model_validate(RULES | {"queries": ["count"]}).queries == ("count",)
