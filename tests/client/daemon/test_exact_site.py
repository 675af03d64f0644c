"""Exact analyses at a site with real keys, policy, ledger and data; two peers add zeros."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.approver.study_page import summarise
from client.governance.audit_replay import AuditEvent
from client.governance.exact_releases import counted_exactly
from launch.queries.exact_analyses import exact_glm, exact_survival
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.document import digest
from protocol.errors import Code
from protocol.exact.transcript import (
    SignedShares,
    context_of,
    replay,
    sections_of,
    sign_share,
)
from protocol.secagg.party import Party
from protocol.study.analysis import Family
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.exact_shares import to_wire
from tests.client.daemon.test_queries import PEERS, SITE, TASK, Asked, site_of

ITERATES = 6
RULES: dict[str, Any] = {"epsilon_per_study": 50.0, "epsilon_lifetime": 500.0}
RULES |= {"epsilon_broken": 5000.0}
FORMULA = "malignant = 1 ~ mean_texture"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    found = allowing(tmp_path, monkeypatch, 2 * ITERATES)
    yield found
    found.governance.close_state()


def allowing(folder: Path, monkeypatch: pytest.MonkeyPatch, exact_releases: int) -> Asked:
    return site_of(folder, monkeypatch, exact_releases=exact_releases, **RULES)


def study_of(formula: str = FORMULA, where: str = "", family: Family = "binomial") -> Study:
    question = exact_glm(Question.about(TASK, where=where), formula, family, iterates=ITERATES)
    return build_query(question, dict.fromkeys((SITE, *PEERS), 200), Price(epsilon=2.0))


def ready_of(
    asked: Asked, study: Study, round_: int, shares: tuple[SignedShares, ...]
) -> messages.Ready | Code:
    headers, words = to_wire(shares)
    sections = sections_of(study, round_)
    prepare = messages.Prepare(
        study=study.digest,
        round=round_,
        attempt=round_,
        train=sections.train,
        evaluate=sections.evaluate,
        model=digest(words.view(np.uint8).data),
        opened=headers,
    )
    answer = messages.parse(asked.site.answer(messages.frame(prepare, messages.chunks(words))))
    if isinstance(answer, messages.Refusal):
        return answer.code
    assert isinstance(answer, messages.Ready)
    return answer


def summed(
    asked: Asked, study: Study, round_: int, shares: tuple[SignedShares, ...]
) -> tuple[SignedShares, ...] | Code:
    """The shares with those of one more round, to which the peers add nothing."""
    ready = ready_of(asked, study, round_, shares)
    if isinstance(ready, Code):
        return ready
    roster = tuple((site, asked.roster[site]) for site in study.sites)
    context = context_of(study, roster, replay(study, roster, shares), round_, round_)
    parties = {name: Party.begin(context, name, key) for name, key in asked.peers.items()}
    place: dict[str, Any] = {"study": study.digest, "round": round_, "attempt": round_}
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
    readys = sorted([ready, *others], key=lambda one: one.site)
    frame = asked.site.answer(messages.frame(messages.Collect(**place, readys=tuple(readys))))
    share = messages.parse(frame)
    assert isinstance(share, messages.Share)
    keys = tuple(one.announced for one in readys)
    length = sections_of(study, round_).length
    words = {SITE: messages.gather(frame.body, np.uint64, length + 2).view(np.uint64)}
    signatures = {SITE: share.signature}
    for name, party in parties.items():
        words[name] = party.share(np.zeros(length, np.uint64), keys, 3)
        signatures[name] = sign_share(name, keys, words[name], asked.peers[name])
    return (
        *shares,
        SignedShares(
            round_,
            round_,
            keys,
            tuple(signatures[site] for site in study.sites),
            np.stack([words[site] for site in study.sites]),
        ),
    )


def propose(asked: Asked, study: Study) -> str:
    return asked.propose(study.document).state


def counted(asked: Asked) -> int:
    with asked.governance.state.reading() as db:
        return counted_exactly(db)[0]


def test_each_iterate_is_debited_before_it_is_computed(asked: Asked) -> None:
    study = study_of()
    assert propose(asked, study) == "accepted"
    shares: tuple[SignedShares, ...] = ()
    for round_, debited in ((1, 0), (2, 1), (3, 2)):
        found = summed(asked, study, round_, shares)
        assert not isinstance(found, Code), found
        shares = found
        assert counted(asked) == debited
    assert ready_of(asked, study, 4, shares[:2]) is Code.MESSAGE
    assert counted(asked) == 2


def test_a_site_allows_no_exact_sum_unless_its_operator_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for allowed in (0, ITERATES - 1):
        asked = allowing(tmp_path / str(allowed), monkeypatch, allowed)
        standing = asked.propose(study_of().document)
        assert (standing.state, standing.code) == ("refused", Code.REFUSED_BUDGET)
        assert standing.rules == ("exact_releases",)
        asked.governance.close_state()


def test_repeated_subsetting_is_refused_before_anything_is_spent(asked: Asked) -> None:
    """All patients, then all but a few: the difference of two sums would be these few."""
    first, second = study_of(), study_of(where="mean_radius > 10")
    assert propose(asked, first) == propose(asked, second) == "accepted"
    assert isinstance(ready_of(asked, first, 1, ()), messages.Ready)
    assert _rows(asked) == _debits(asked) == 1
    assert ready_of(asked, second, 1, ()) is Code.REFUSED_POLICY
    assert _rows(asked) == _debits(asked) == 1
    asked.governance.approvals.permit_roster(second)
    assert isinstance(ready_of(asked, second, 1, ()), messages.Ready)
    assert _rows(asked) == 2


def test_other_covariates_of_the_same_patients_need_no_permission(asked: Asked) -> None:
    for study in (study_of(), study_of("malignant = 1 ~ mean_smoothness")):
        assert propose(asked, study) == "accepted"
        assert isinstance(ready_of(asked, study, 1, ()), messages.Ready)
    assert (_rows(asked), _debits(asked)) == (1, 2)


def test_curves_by_other_groups_are_bounded_by_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts by one group after another are a linear system of the same patients: each is an exact
    release, and the last one that is left refuses the next study."""
    asked = allowing(tmp_path, monkeypatch, 2)
    sites = dict.fromkeys((SITE, *PEERS), 200)
    studies = [
        build_query(
            exact_survival(Question.about(TASK), "mean_radius:6/20", "malignant = 1", by),
            sites,
            Price(epsilon=2.0, attempts=1),
        )
        for by in ("", "mean_texture > 19", "mean_texture > 20")
    ]
    for number, study in enumerate(studies[:2], start=1):
        assert propose(asked, study) == "accepted"
        shares = summed(asked, study, 1, ())
        assert not isinstance(shares, Code), shares
        assert not isinstance(summed(asked, study, 2, shares), Code)
        assert counted(asked) == number
    standing = asked.propose(studies[2].document)
    assert (standing.state, standing.rules) == ("refused", ("exact_releases",))
    told = dict(summarise(asked.governance.approvals, studies[1]))
    assert "by mean_texture > 19" in told["Then fitted"]
    asked.governance.close_state()


def test_a_site_that_ends_a_study_has_paid_and_says_no_more(asked: Asked) -> None:
    formula = "mean_radius ~ mean_texture + offset(mean_perimeter)"
    study = study_of(formula, family="poisson")  # means rise e-fold a millimetre: a few weigh all
    assert propose(asked, study) == "accepted"
    shares = summed(asked, study, 1, ())
    assert not isinstance(shares, Code)
    assert ready_of(asked, study, 2, shares) is Code.REVOKED
    assert counted(asked) == 1
    assert ready_of(asked, study, 2, shares) is Code.REVOKED
    assert counted(asked) == 1
    assert asked.governance.approvals.find(study.digest)[1] == "revoked"


def test_whoever_decides_is_told_what_exact_means(asked: Asked) -> None:
    study = study_of()
    told = dict(summarise(asked.governance.approvals, study))
    assert f"{ITERATES} sums at most" in told["Without noise"]
    assert "everyone's minus its own" in told["Without noise"]
    assert "only where all participants are honest" in told["Title"]
    assert "mean_texture" in told["Then fitted"]


def _debits(asked: Asked) -> int:
    with asked.governance.state.reading() as db:
        return int(db.execute("SELECT count(*) FROM debits").fetchone()[0])


def _rows(asked: Asked) -> int:
    with asked.governance.state.reading() as db:
        found = db.execute(
            "SELECT count(DISTINCT json_extract(fields, '$.rows')) FROM audit WHERE event = ?",
            (AuditEvent.ROWS_FIXED,),
        )
        return int(found.fetchone()[0])
